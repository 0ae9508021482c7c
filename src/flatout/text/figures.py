"""Numbers for people: counts, money, durations, rates. An unknown figure is named as unknown, never shown as 0."""

from __future__ import annotations

import time
from math import log10

UNKNOWN = "unknown"
"""The text of a figure of which nothing is known."""

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def count(number: int) -> str:
    """A count in full: ``12,345``."""
    return f"{number:,}"


def counted(number: int, what: str) -> str:
    """A count with its noun: ``1 row``, ``12,345 rows``, ``2 batches``."""
    ending = "" if number == 1 else "es" if what.endswith("ch") else "s"
    return f"{number:,} {what}{ending}"


def short(number: int) -> str:
    """A count in at most six characters: ``9,999``, ``12.3k``, ``1.23M``."""
    for size, suffix in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if number >= size:
            scaled = number / (size if suffix != "k" else 1_000)
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{suffix}"
    return f"{number:,}"


def percent(part: float, whole: float) -> str:
    """A share, rounded down so that only the whole is 100 %."""
    return f"{int(100 * part / whole) if whole else 100} %"


def dollars(amount: float) -> str:
    """Money, with as many digits as small amounts need: ``$1,234.50``, ``$0.0123``, ``$0.0000042``."""
    if amount >= 1:
        return f"${amount:,.2f}"
    if amount <= 0:
        return "$0"
    digits = max(4, 1 - int(log10(amount)) + 1)
    return f"${amount:.{min(digits, 12)}f}"


def compared(first: float, second: float) -> tuple[str, str]:
    """Two amounts of money side by side, with as many digits as tell them apart: ``$0.00044``, ``$0.00041``."""
    for digits in range(4, 13):
        shown = f"${first:,.{digits}f}", f"${second:,.{digits}f}"
        if shown[0] != shown[1] or first == second:
            break
    return shown


def cost(known: float | None, unknown: int) -> str:
    """The spending, as far as it is known: ``$0.1234``, ``≥ $0.1234``, ``unknown``.

    Args:
        known: US dollars known to be spent.
        unknown: how many attempts or items may have cost an unknown amount.
    """
    if known is None or (unknown and not known):
        return UNKNOWN
    return f"≥ {dollars(known)}" if unknown else dollars(known)


def saved(usd: float) -> str:
    """What batches have saved, behind their cost: ``, $1.20 saved``; "" for nothing."""
    return f", {dollars(usd)} saved" if usd > 0 else ""


def batch_cost(known: float, unknown: int, less: float) -> str:
    """What batches cost and saved: ``$1.20, $1.20 saved``, ``cost unknown``; "" if there is nothing to pay."""
    if not known and not unknown:
        return ""
    words = cost(known, unknown)
    return f"cost {words}" if words == UNKNOWN else words + saved(less)


def cost_in_words(known: float | None, unknown: int, what: str) -> str:
    """The spending, and how much of it is unknown: ``at least $0.1234, and 3 rows of unknown cost``.

    Args:
        known: US dollars known to be spent.
        unknown: how many attempts or items may have cost an unknown amount.
        what: the noun for one of them.
    """
    if known is None or (unknown and not known):
        return f"{UNKNOWN}: neither the provider nor the price list tells"
    if not unknown:
        return dollars(known)
    return f"at least {dollars(known)}, and {counted(unknown, what)} of unknown cost"


def larger_budget(per: str | None) -> str:
    """What must change before a run with a used-up budget can go on: the same command would stop at once.

    Args:
        per: the period of a budget that processes share; None for one run's.
    """
    turns = {"day": ", or when the day ends (UTC)", "month": ", or when the month ends (UTC)"}
    return f"with a larger --budget{turns.get(per or '', '')}"


def overshoot(over: float, exposed: float, *, goes_on: bool) -> str:
    """By how much a budget may be exceeded: ``may be exceeded by $0.02; by $1.66 if …``, or could have been.

    Args:
        over: the stated bound, in US dollars; 0 for none.
        exposed: the bound had all answers in flight been the longest possible at once; 0 or less if it was kept.
        goes_on: whether calls may be in flight. Otherwise nothing more can be spent.
    """
    longest = f"by {dollars(exposed)} had all answers in flight been the longest possible" if exposed > over else ""
    if not goes_on:
        return longest and f"could have been exceeded {longest}"
    return "; ".join(filter(None, (f"may be exceeded by {dollars(over)}" if over > 0 else "", longest)))


def duration(seconds: float) -> str:
    """A duration: ``4.2 s``, ``46 s``, ``12 min 05 s``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def at_the_latest(ends_by: float | None) -> str:
    """``, ends by 16:04:35 at the latest``; "" if that is not known. A Unix time; people get their own."""
    return "" if ends_by is None else f", ends by {time.strftime('%H:%M:%S', time.localtime(ends_by))} at the latest"


def elapsed(seconds: float) -> str:
    """A duration in which milliseconds matter: ``0.4 ms``, ``12 ms``, ``0.85 s``; from 10 s on as `duration`."""
    thousandths = max(seconds, 0.0) * 1_000
    if thousandths < 99.5:
        return f"{thousandths:.{1 if 0.05 <= thousandths < 0.95 else 0}f} ms"
    return f"{seconds:.2f} s" if seconds < 9.995 else duration(seconds)


def rate(per_second: float, what: str = "call") -> str:
    """The speed at which something finishes: ``812 calls/s``, ``4.5 texts/s``, ``12 calls/min``."""
    if per_second >= 1:
        return f"{per_second:,.{0 if per_second >= 99.5 else 1}f} {what}s/s"
    return f"{per_second * 60:.{0 if per_second >= 0.15 else 1}f} {what}s/min"
