"""What holds a target's queue, in a sentence: the limit that binds, how much of it is used, and what would help."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from flatout.providers.registry import BUILT_IN
from flatout.store.course import CAUSES, Stretch
from flatout.text import figures

from .course import Rates, latency

MOSTLY = 0.5
"""The share of the time from which on a cause is said to bind, without a figure."""

ENOUGH = 0.8
"""The share of a limit from which on it is used well."""

BUSY = 1_000.0
"""Calls per second from which on a computer may be what binds, if nothing else does."""

WORTH = 1.25
"""A change is advised if it would be this many times as fast."""

TIMES = 4
"""How many times the concurrency an advice says at most: a server rarely bears more in one step."""

RISING = 1.05
"""A search is rising if it went up by this factor in the last `LATELY` stretches."""

LATELY = 4
"""Stretches."""

_MINUTE = 60.0
_DAY = 86_400.0

_NAMES = {
    "rpm": ("requests", "requests per minute", "minute"),
    "rpd": ("requests", "requests per day", "day"),
    "tpm": ("tokens", "tokens per minute", "minute"),
    "itpm": ("tokens", "input tokens per minute", "minute"),
    "otpm": ("tokens", "output tokens per minute", "minute"),
}
"""The limits per time: the cause that calls wait for, the name, the period."""

_TIMES: Mapping[float, str] = {2: "twice", 3: "three times", 4: "four times"}


class View(Struct, frozen=True):
    """One target over the time that is looked at.

    Attributes:
        target: its name.
        stretches: what it did, in order of time; at least one.
        rates: the same per second.
        live: whether the run goes on. Otherwise the sentences are in the past tense.
        now: the time of the look; Unix time.
        left: rows that are not finished; None if unknown.
        lane: how the rows are asked; None if the run does not say.
        command: whether the command asks them, and not a program.
    """

    target: str
    stretches: Sequence[Stretch]
    rates: Rates
    live: bool
    now: float
    left: int | None = None
    lane: str | None = None
    command: bool = True

    def since(self, cause: str) -> float | None:
        """Since when a cause has held the queue most of the time; None if it does not now."""
        began: float | None = None
        for each in reversed(self.stretches):
            gap = began is not None and began - each.began_at > 2 * max(each.seconds, 1.0)
            if gap or each.held.get(cause, 0.0) < MOSTLY * each.seconds:
                break
            began = each.began_at
        return began

    def said(self, live: str, past: str) -> str:
        """One of two forms of a verb."""
        return live if self.live else past


def sentence(cause: str, share: float, view: View, since: float | None) -> tuple[str, float | None]:
    """What to say of a cause, and how much of the limit is used, 0 to 1 (None if there is none or it is not known).

    Args:
        cause: what held the calls up; a key of `flatout.store.course.CAUSES`.
        share: the share of the time for which it did, 0 to 1.
        view: the target.
        since: since when it has done so.
    """
    when = _when(share, view, since)
    if cause in ("requests", "tokens"):
        return _per_time(cause, when, view)
    say = _OTHERS.get(cause)
    return (_of(cause, when, view) if say is None else say(when, view)), None


def _when(share: float, view: View, since: float | None) -> str:
    """``, since 12:04`` while it binds; otherwise how much of the time: `` 93 % of the time``."""
    if view.live and share >= MOSTLY:
        return f", since {clock(since, view.now)}" if since is not None else ""
    return f" {figures.percent(min(share, 1.0), 1)} of the time"


def clock(at: float, now: float) -> str:
    """A time of the day: ``12:04``; with its date if it is another day's."""
    then = time.localtime(at)
    today = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)


# Limits per time


def _per_time(cause: str, when: str, view: View) -> tuple[str, float | None]:
    last = view.stretches[-1]
    names = [name for name in last.allows if name in _NAMES and _NAMES[name][0] == cause]
    if cause == "requests" and last.pace is not None:
        return _searching(when, view, last.allows, last.pace), None
    if not names:
        return _of(cause, when, view), None
    name = max(names, key=lambda each: _use(each, last.allows[each], view))
    limit = last.allows[name]
    used = min(1.0, _use(name, limit, view))
    _, words, period = _NAMES[name]
    share, since = ("", when) if when.startswith(",") else (when, "")
    binds = f"{words.capitalize()} {view.said('bind', 'bound')}{share}"
    uses = f"{figures.percent(used, 1)} of {limit:,.0f} a {period} {view.said('are', 'were')} used{since}"
    return f"{binds}: {uses}. {_help(name, used, view)}", used


def _use(name: str, limit: float, view: View) -> float:
    """How much of a limit is used."""
    rates, seconds = view.rates, view.rates.seconds
    per_second = {
        "itpm": sum(each.input_tokens for each in view.stretches) / seconds,
        "otpm": sum(each.output_tokens for each in view.stretches) / seconds,
        "tpm": rates.tokens,
    }.get(name, rates.sent)
    return per_second * (_DAY if name == "rpd" else _MINUTE) / limit


def _help(name: str, used: float, view: View) -> str:
    if used < ENOUGH and _NAMES[name][0] == "tokens":
        return "The rest is kept free for answers as long as they may be; a lower max_tokens lets more calls go."
    nothing = f"Nothing {view.said('is', 'was')} faster within this limit"
    would = view.said("would be", "would have been")
    provider = BUILT_IN.get(view.target.partition("/")[0])
    if provider is None or provider.self_hosted:
        return f"{nothing}; a higher --{name} {would}, if the server bears it."
    batches = " or the batch lane" if provider.batch and view.lane in (None, "live") else ""
    return f"{nothing}; a second key{batches} {would}."


def _searching(when: str, view: View, allows: Mapping[str, float], pace: float) -> str:
    at = rate(pace)
    if "rpm" in allows and pace < allows["rpm"] / _MINUTE:
        return (
            f"The provider {view.said('refuses', 'refused')} what the limit of {allows['rpm']:,.0f} requests a minute "
            f"allows, so that {view.said('the search below it is', 'the search below it was')} at {at}{when}."
        )
    first = next((each.pace for each in view.stretches[-LATELY:] if each.pace is not None), pace)
    if not view.live:
        return f"No limit was known, and the search reached {at}: give --rpm, and a run begins with all of it."
    if pace > RISING * first:
        return f"No limit is known, and the search is at {at}, rising{when}: give --rpm."
    return f"No limit is known, and the search keeps to {at}{when}: give --rpm if the provider allows more."


def rate(per_second: float) -> str:
    """A rate: ``12/s``, ``4.5/s``, ``12/min``."""
    if per_second >= 1:
        return f"{per_second:,.{0 if per_second >= 9.95 else 1}f}/s"
    return f"{per_second * _MINUTE:.0f}/min"


# Other causes


def _concurrency(when: str, view: View) -> str:
    bounds = [each.allows["concurrency"] for each in view.stretches if "concurrency" in each.allows]
    if not bounds:
        return _of("concurrency", when, view)
    most = bounds[-1]
    if min(bounds) != max(bounds):
        state = "rising" if most > RISING * bounds[-LATELY:][0] else "as many as it takes well"
        return (
            f"How many calls the server takes at once {view.said('is', 'was')} found by trying: {most:,.0f}"
            f"{', ' + state if view.live else ' at last'}{when}. --concurrency says it from the start."
        )
    median = latency(view.stretches, 0.5)
    if median is None:
        return f"{most:,.0f} calls may be in flight, and none {view.said('is', 'was')} answered yet{when}."
    bound = view.said(f"{most:,.0f} may be", f"at most {most:,.0f} were")
    answers = f"The server {view.said('answers', 'answered')} in {figures.duration(median)} and {bound} in flight{when}"
    wanted = _wanted(most, median, view)
    if wanted < WORTH * most:
        return f"{answers}. More in flight would hardly be faster."
    factor = wanted / most
    times = _TIMES.get(factor, f"{factor:.1f} times")
    return f"{answers}: --concurrency {wanted:,.0f} would be {times} as fast, if the server bears it."


def _wanted(most: float, median: float, view: View) -> float:
    """How many calls in flight to advise: a few times as many, but no more than there is to do, or limits allow."""
    last, wanted = view.stretches[-1], most * TIMES
    if view.live and view.left is not None:
        wanted = min(wanted, view.left)
    if (rpm := last.allows.get("rpm")) is not None:
        wanted = min(wanted, rpm / _MINUTE * max(median, 1e-3))
    for name in ("tpm", "itpm", "otpm"):
        if name in last.allows and (used := _use(name, last.allows[name], view)) > 0:
            wanted = min(wanted, most / used)
    return float(int(wanted))


def _budget(when: str, view: View) -> str:
    calls = figures.counted(round(max(view.rates.in_flight, view.stretches[-1].in_flight)), "call")
    lets = f"The budget {view.said('lets', 'let')} only {calls} be in flight{when}"
    return f"{lets}: each reserves what it may cost at most. A lower max_tokens or a higher --budget lets more go."


def _pause(when: str, view: View) -> str:
    return f"The provider {view.said('asks', 'asked')} for pauses (429){when}."


def _outage(when: str, view: View) -> str:
    return f"The server {view.said('fails', 'failed')} in a row, so that calls {view.said('wait', 'waited')}{when}."


def _probe(when: str, view: View) -> str:
    return f"Calls {view.said('wait', 'waited')} for the first answer, which shows that the key is good{when}."


def _connect(when: str, view: View) -> str:
    return f"Calls {view.said('wait', 'waited')} for connections that {view.said('are', 'were')} being opened{when}."


def _backoff(when: str, view: View) -> str:
    return f"Failed calls {view.said('wait', 'waited')} before they {view.said('are', 'were')} tried again{when}."


def _prompt_cache(when: str, view: View) -> str:
    off = "without --prompt-cache" if view.command else "without prompt_cache='auto'"
    return (
        f"Calls that begin alike {view.said('wait', 'waited')} for the first of them to fill the provider's prompt "
        f"cache{when}; {off} they {view.said('go', 'would have gone')} at once, at the full price."
    )


def _room(when: str, view: View) -> str:
    live = "--lane live" if view.command else "lane='live'"
    return (
        f"The provider's flex service {view.said('has', 'had')} no room{when}; "
        f"{live} {view.said('is', 'would have been')} faster, and costs more."
    )


def _paused(when: str, view: View) -> str:
    if not view.live:
        return f"Somebody had paused it{when}."
    return f"It is paused by you{when}; {'flatout ctl FILE resume' if view.command else 'client.resume()'} goes on."


def _input(when: str, view: View) -> str:
    if view.rates.answered >= BUSY:
        return (
            f"Nothing {view.said('waits', 'waited')} at {figures.rate(view.rates.answered)}: "
            f"this computer {view.said('is', 'was')} what {view.said('binds', 'bound')}; "
            "--workers lets several processes ask."
        )
    hands = f"The program {view.said('hands', 'handed')} calls over"
    begin = f"The input {view.said('is', 'was')} read" if view.command else hands
    return (
        f"{begin} slower than calls {view.said('are', 'were')} answered{when}: none {view.said('waits', 'waited')}, "
        f"and {_in_flight(view)}."
    )


def _function(when: str, view: View) -> str:
    takes = view.said("takes", "took")
    return (
        f"What the program's own function does beside its calls {takes} the time{when}: {_in_flight(view)}. "
        "Work that keeps a processor busy belongs in asyncio.to_thread, or in other processes."
    )


def _in_flight(view: View) -> str:
    flying = view.rates.in_flight
    return f"{flying:,.{0 if flying >= 9.95 else 1}f} {view.said('are', 'were')} in flight on average"


_OTHERS: Mapping[str, Callable[[str, View], str]] = {
    "concurrency": _concurrency,
    "budget": _budget,
    "pause": _pause,
    "outage": _outage,
    "probe": _probe,
    "connect": _connect,
    "backoff": _backoff,
    "prompt_cache": _prompt_cache,
    "room": _room,
    "paused": _paused,
    "input": _input,
    "function": _function,
}


def _of(cause: str, when: str, view: View) -> str:
    """A sentence for a cause of which no more is known."""
    return f"Calls {view.said('wait', 'waited')} for {CAUSES.get(cause, cause)}{when}."
