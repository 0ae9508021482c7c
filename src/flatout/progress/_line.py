"""The progress of calls in words: how far, how fast, what it costs, and what it waits for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from flatout import errors
from flatout.text import figures
from flatout.text.visible import clean

from ._counters import SKIPPED
from ._pace import Speed, affordable, allowed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._counters import Failure, Progress

_SEPARATOR = " · "
_BAR = 24
_LONG = 5.0  # seconds on the wire after which an attempt is named
_LIMITS = {"requests": "rpm", "tokens": "tpm", "concurrency": "concurrency"}  # limits by the cause of waiting


class Ways(NamedTuple):
    """What the user can do, in the words of the command or of the library.

    Attributes:
        skips: skips the search for a limit.
        resumes: ends a pause.
    """

    skips: str
    resumes: str


def how_far(progress: Progress) -> str:
    """``1,234/10,000 (12 %)``, or the number of finished rows if the total is unknown."""
    if progress.total is None:
        return f"{figures.count(progress.finished)} done"
    done = figures.percent(progress.finished, progress.total)
    return f"{figures.count(progress.finished)}/{figures.count(progress.total)} ({done})"


def how_fast(progress: Progress, speed: Speed) -> list[str]:
    """The rate, and the time left. If only calls in flight are left, the longest of them instead."""
    left = 0 if progress.total is None else progress.total - progress.finished
    is_over = progress.total is not None and left <= 0  # then nobody waits for an answer
    facts = [f"no answer for {figures.duration(speed.quiet)}"] if speed.quiet and not is_over else []
    if speed.rate and not speed.quiet and progress.holds != "paused":
        facts.append(figures.rate(speed.rate, progress.counts))
    if progress.stopping:
        return facts
    if speed.quiet or 0 < left <= progress.in_flight:  # the rate does not tell when the last calls finish
        return facts + _longest(progress)
    if speed.failing:  # nobody knows when that ends
        return [*facts, f"{figures.percent(speed.failing, 1.0)} of the attempts fail"]
    if not speed.rate or left <= 0 or progress.holds == "paused":  # nor when a pause by a person does
        return facts
    if (affordable := _affordable(progress)) is not None and affordable < left - progress.in_flight:
        return [*facts, f"the budget lasts for about {figures.counted(affordable, 'row')} more"]
    time_left = speed.left(left, _allowed(progress, speed))
    return [*facts, time_left] if time_left else facts


def _affordable(progress: Progress) -> int | None:
    """How many rows the budget has money for, at the mean cost of those before; None if that is not known."""
    budget, rows = progress.budget, progress.answered + progress.failed
    if budget is None or budget.left is None or not progress.cost or not rows or progress.unpriced:
        return None
    return affordable(budget.left, progress.cost, rows)


def _allowed(progress: Progress, speed: Speed) -> float | None:
    """Calls per second that the limits in force allow, if they are what holds calls back.

    Where tokens do, fewer may go than the limit allows: as many are kept free as answers may be long. Then the rate
    that was reached tells more; only a burst is faster than the limit. So it does where others use the limits, too.
    """
    if progress.holds not in ("requests", "tokens") or progress.pace is not None or progress.counts != "call":
        return None  # a request has many texts, and nobody knows how many
    if any(each.shared for each in progress.targets.values()):
        return None
    taken = progress.answered, progress.input_tokens, progress.output_tokens
    known = [allowed(each.limits, *taken, speed.ends) for each in progress.targets.values()]
    most = sum(each for each in known if each is not None) if known and None not in known else None
    return None if most is None or (progress.holds == "tokens" and (speed.rate or 0.0) <= most) else most


def last_facts(progress: Progress) -> list[str]:
    """How far it came in the end, how long that took, and the rate."""
    facts = [how_far(progress), f"in {figures.duration(progress.elapsed)}"]
    if progress.rate is not None and progress.elapsed >= 1.0:
        facts.append(figures.rate(progress.rate, progress.counts))
    return facts


def at_rest(progress: Progress) -> Progress:
    """The numbers in the end, without what is going on: other calls of the same client may go on."""
    return replace(progress, in_flight=0, holds="", paused={})


def _longest(progress: Progress) -> list[str]:
    """``row 97 waits 1 min 02 s (timeout in 3 min 58 s)``, if a row waits that long."""
    longest = progress.longest
    if longest is None or longest.seconds < _LONG:
        return []
    waits, left = figures.duration(longest.seconds), figures.duration(longest.left)
    return [f"row {figures.count(longest.row)} waits {waits} (timeout in {left})"]


def state(progress: Progress, ways: Ways) -> list[str]:
    """The obstacles, the failures, the work in progress and the cost, the most important first.

    Args:
        progress: the numbers.
        ways: what the user can do.
    """
    facts = [f"{clean(target)} stopped: {clean(why, 80)}" for target, why in progress.stopped.items()]
    for target, why in progress.down.items():
        if target not in progress.stopped:
            what_now = "the others go on" if progress.others_go else "waits, Ctrl-C ends"
            facts.append(f"{clean(target)} is down: {clean(why, 80)}; {what_now}")
    for target, since in progress.no_room.items():
        facts.append(f"no room in {clean(target)} since {figures.duration(max(0.0, time.time() - since))}")
    facts += [f"{clean(target)}: others use its limits too?" for target in progress.crowded]
    facts += [f"{clean(target)} paused: {clean(why, 80)}" for target, why in progress.paused.items()]
    facts += _batches(progress)
    if progress.cached:
        facts.append(f"{figures.count(progress.cached)} from the cache")
    facts += failed_or_skipped(progress.failed, progress.failures)
    if progress.failed_before:
        facts.append(f"{figures.count(progress.failed_before)} failed before")
    if progress.held:
        facts.append(f"{figures.count(progress.held)} held back")
    if progress.in_flight:
        most = f" (at most {figures.count(progress.capped)}: open files)" if progress.capped is not None else ""
        facts.append(f"{figures.count(progress.in_flight)} in flight{most}")
    if progress.holds and not _is_told(progress):
        facts.append(_held(progress, ways))
    if progress.retries:
        throttled = f" ({figures.count(progress.throttled)} × 429)" if progress.throttled else ""
        facts.append(f"{figures.count(progress.retries)} retried{throttled}")
    whole = progress.whole
    if tokens := whole.input_tokens + whole.output_tokens:
        facts.append(f"{figures.short(tokens)} tokens")
    if whole.cost or whole.unpriced:
        cost = figures.cost(whole.cost, whole.unpriced)
        facts.append("cost unknown" if cost == figures.UNKNOWN else cost + figures.saved(progress.batches.saved))
    return facts


def failed_or_skipped(failed: int, by_class: Mapping[str, Failure]) -> list[str]:
    """``3 failed`` and ``1 skipped``, as far as there are any: who skips a row knows that it has no answer."""
    skipped = by_class[SKIPPED].count if SKIPPED in by_class else 0
    counts = {"failed": failed - skipped, "skipped": skipped}
    return [f"{figures.count(number)} {what}" for what, number in counts.items() if number > 0]


def in_class(name: str, count: int, held: int) -> str:
    """The rows without an answer of one class of error: ``3 × Refused``, ``39 held back after ConnectError``.

    Args:
        name: the class; from a run file, so that it may be anything.
        count: how many rows.
        held: how many of them are held back.
    """
    if name == SKIPPED:
        return f"{figures.count(count)} skipped"
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, errors.NotSent):
        return f"{figures.count(count)} held back{' by the budget' if kind is errors.BudgetExceeded else ''}"
    if held == count:
        return f"{figures.count(count)} held back after {clean(name)}"
    some = f", {figures.count(held)} of them held back" if held else ""
    return f"{figures.count(count)} × {clean(name)}{some}"


def _is_told(progress: Progress) -> bool:
    """Whether another fact says what holds calls up."""
    if progress.paused or (progress.down and not progress.others_go):
        return True
    return progress.holds == "room" and bool(progress.no_room)


def _batches(progress: Progress) -> list[str]:
    """``4 batches with 60 rows (12 done), in progress, the oldest 3 min 20 s old; the last 5 took up to 14 min``."""
    under_way = progress.batches
    if not under_way.open:
        return []
    done = f" ({figures.count(under_way.done)} done)" if under_way.done else ""
    facts = f"{figures.counted(under_way.open, 'batch')} with {figures.counted(under_way.rows, 'row')}{done}"
    age = figures.duration(max(0.0, time.time() - (under_way.oldest or 0.0)))
    past = f"; {under_way.past}" if under_way.past else ""
    short = [f"{figures.counted(under_way.short, 'row')} wait for the budget"] if under_way.short else []
    oldest = f"{'the oldest ' if under_way.open > 1 else ''}{age} old"
    return [", ".join(filter(None, (facts, clean(under_way.states, 80), oldest))) + past, *short]


def compose(progress: Progress, speed: Speed, note: str, width: int, ways: Ways) -> tuple[str, str]:
    """The two lines, each at most ``width`` wide. The least important facts are left out first."""
    facts = [how_far(progress), *how_fast(progress, speed)]
    first = _fitted(facts, width)
    if progress.total and len(first) + _BAR + 2 <= width:
        filled = _BAR * min(progress.finished, progress.total) // progress.total
        first = f"{'━' * filled}{'╌' * (_BAR - filled)}  {first}"
    return first, _fitted([*([note] if note else []), *state(progress, ways)], width)


def _fitted(facts: list[str], width: int) -> str:
    line = ""
    for fact in facts:
        longer = f"{line}{_SEPARATOR}{fact}" if line else fact
        if line and len(longer) > width:
            break
        line = longer
    return line if len(line) <= width else f"{line[: max(width - 1, 0)]}…"


def _held(progress: Progress, ways: Ways) -> str:
    from flatout.events import SEARCHED, WAITS

    if progress.holds == "paused":
        return f"paused by you; {ways.resumes} goes on"
    if progress.holds in progress.searched:
        return f"{_found(progress) or SEARCHED[progress.holds]} ({ways.skips} skips this)"
    name = f"waits for {WAITS.get(progress.holds, progress.holds)}"
    limit = _in_force(_LIMITS.get(progress.holds, ""), progress)
    return name if limit is None else f"{name} (limit {figures.count(round(limit))})"


def _in_force(name: str, progress: Progress) -> float | None:
    """A limit of all targets together; None if one of them has none that is known.

    How much of it is used stands beside it, as the rate. A share would mislead: after a burst, none of it is used for
    most of a minute, and a program that is late uses less than the pacer lets go.
    """
    found = [each.limits.get(name) for each in progress.targets.values()]
    known = [each for each in found if each is not None]
    return sum(known) if known and len(known) == len(found) else None


def _found(progress: Progress) -> str:
    """What was found out about a request limit that the user did not give; "" if nothing was."""
    if progress.holds != "requests" or progress.pace is None:
        return ""
    if progress.rising:
        return f"finding the limit: {figures.rate(progress.pace)} and rising"
    return f"keeping to {figures.rate(progress.pace)}, found by trying"
