"""What holds a target's queue, in a sentence: the limit that binds, how much of it is used, and what would help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from flatout.providers.registry import BUILT_IN
from flatout.store.course import CAUSES, SHARED, TOLD, Stretch
from flatout.text import figures

from .crowd import concurrency
from .view import LATELY, MINUTE, MOSTLY, NAMES, RISING, View, When, clock, use

ENOUGH = 0.8
"""The share of a limit from which on it is used well."""

ALONE = 0.95
"""The share from which on a limit is used well if only this run uses it. Below it, others may use the rest."""

WHILE = 120.0
"""Most seconds over which is said how much of a limit is used that binds now: two of its windows."""

BUSY = 1_000.0
"""Calls per second from which on a computer may be what binds, if nothing else does."""


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
        return _per_time(cause, when, _while_bound(cause, view, since))
    say = _OTHERS.get(cause)
    return (_of(cause, when, view) if say is None else say(when, view)), None


def _when(share: float, view: View, since: float | None) -> When:
    if view.live and share >= MOSTLY:
        return When(since=f"since {clock(since, view.now)}" if since is not None else "")
    return When(share=f"{figures.percent(min(share, 1.0), 1)} of the time")


# Limits per time


def _per_time(cause: str, when: When, view: View) -> tuple[str, float | None]:
    last = view.stretches[-1]
    if cause == "requests" and last.pace is not None:
        return _searching(when, view, last.allows, last.pace), None
    under, others = _longest_bound(cause, view)
    allows = under.stretches[-1].allows
    names = [name for name in allows if name in NAMES and NAMES[name][0] == cause]
    if not names:
        return _of(cause, when, view), None
    name = max(names, key=lambda each: use(each, allows[each], under))
    limit = allows[name]
    used = min(1.0, use(name, limit, under))
    _, words, period = NAMES[name]
    binds = f"{words.capitalize()} {view.said('bind', 'bound')}{When(share=when.share)}"
    most = f"most of it at {limit:,.0f} a {period}, of which " if others else ""
    of = "" if others else f" of {limit:,.0f} a {period}"
    uses = f"{most}{figures.percent(used, 1)}{of} {view.said('are', 'were')} used{When(since=when.since)}"
    return f"{binds}: {uses}. {_help(name, used, under)}", used


def _while_bound(cause: str, view: View, since: float | None) -> View:
    """What is looked at of a limit that binds now: the time for which it has bound, with the burst before that.

    A minute's requests may go at once. The rest of that minute alone says nothing of how much is used.
    """
    if not view.live or since is None:
        return view
    begin, limits = max(since, view.now - WHILE), _limits(cause, view.stretches[-1])
    under = [each for each in view.whole if _limits(cause, each) == limits]
    bursts = (each.began_at for each in under if each.began_at >= begin - MINUTE and _is_burst(each, limits, view))
    begin = min(begin, next(bursts, begin))
    return view.only([each for each in under if each.began_at + each.seconds >= begin])


def _is_burst(stretch: Stretch, limits: Iterable[tuple[str, float]], view: View) -> bool:
    """Whether more went than a limit allows for long."""
    alone = view.only([stretch])
    return any(use(name, limit, alone) > 1.0 for name, limit in limits)


def _limits(cause: str, stretch: Stretch) -> tuple[tuple[str, float], ...]:
    """The limits behind a cause that were in force, by name."""
    found = ((name, limit) for name, limit in stretch.allows.items() if name in NAMES and NAMES[name][0] == cause)
    return tuple(sorted(found))


def _longest_bound(cause: str, view: View) -> tuple[View, bool]:
    """The stretches with the limits under which a cause held longest, and whether others were in force as well.

    Limits change: by a person, or by what the provider says. Use under one of them says nothing of another. Bursts
    count, too: calls are held because of them.
    """
    under: dict[tuple[tuple[str, float], ...], list[Stretch]] = {}
    for each in view.stretches:
        limits = _limits(cause, each)
        if each.held.get(cause, 0.0) > 0.0 or _is_burst(each, limits, view):
            under.setdefault(limits, []).append(each)
    if not under:
        return view, False
    longest = max(under.values(), key=lambda stretches: _seconds(stretches, cause))
    return view.only(longest), len(under) > 1


def _seconds(stretches: Iterable[Stretch], cause: str) -> float:
    return sum(each.held.get(cause, 0.0) for each in stretches)


def _help(name: str, used: float, view: View) -> str:
    if used < ALONE and SHARED in view.stretches[-1].allows:
        kept = ", or kept free for answers as long as they may be" if NAMES[name][0] == "tokens" else ""
        return f"Others share this limit: the rest {view.said('is', 'was')} theirs{kept}."
    if used < ENOUGH and NAMES[name][0] == "tokens":
        return "The rest is kept free for answers as long as they may be; a lower max_tokens lets more calls go."
    if name == "rpm" and used < ENOUGH * min(1.0, view.rates.held.get("requests", 0.0)):
        late = f"{view.said('is', 'was')} late (its event loop {view.said('is', 'was')} blocked, or the machine busy)"
        return f"The program itself {late}, or others {view.said('use', 'used')} this limit."
    would = view.said("would be", "would have been")
    provider = BUILT_IN.get(view.target.partition("/")[0])
    if provider is None or provider.self_hosted:
        if TOLD + name in view.stretches[-1].allows:
            return f"The server {view.said('names', 'named')} this limit; a higher --{name} does not raise it."
        return f"{_within(used, f'a higher --{name} {would}', view)}, if the server bears it."
    batches = " or the batch lane" if provider.batch and view.lane in (None, "live") else ""
    return f"{_within(used, f'a second key{batches} {would}', view)}."


def _within(used: float, other: str, view: View) -> str:
    """What is faster. Of a limit that is not used to the full, nobody can say that it allows no more."""
    if used < ENOUGH:
        return f"{other[0].upper()}{other[1:]} faster"
    return f"Nothing {view.said('is', 'was')} faster within this limit; {other}"


def _searching(when: When, view: View, allows: Mapping[str, float], pace: float) -> str:
    at = rate(pace)
    if "rpm" in allows and pace < allows["rpm"] / MINUTE:
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
    return f"{per_second * MINUTE:.0f}/min"


# Other causes


def _budget(when: When, view: View) -> str:
    flying = round(max(view.rates.in_flight, view.stretches[-1].in_flight))
    lets = f"The budget {view.said('lets', 'let')} only {figures.counted(flying, 'call')} be in flight{when}"
    if not flying:
        lets = f"The budget {view.said('has', 'had')} no room for another call{when}"
    return f"{lets}: each reserves what it may cost at most. A lower max_tokens or a higher --budget lets more go."


def _pause(when: When, view: View) -> str:
    over = view.rates
    refused = figures.percent(over.refused, over.answered + over.failed + over.refused) if over.refused else ""
    refuses = f"{view.said('refuses', 'refused')} {refused} of the calls (429) and " if refused else ""
    asks = f"{view.said('asks', 'asked')} for pauses{'' if refused else ' (429)'}"
    return f"The provider {refuses}{asks}, which {view.said('hold', 'held')} up all calls{when}."


def _outage(when: When, view: View) -> str:
    return f"The server {view.said('fails', 'failed')} call after call; the others {view.said('wait', 'waited')}{when}."


def _probe(when: When, view: View) -> str:
    return f"Calls {view.said('wait', 'waited')} for the first answer, which shows that key and request are good{when}."


def _connect(when: When, view: View) -> str:
    return f"Calls {view.said('wait', 'waited')} for connections that {view.said('are', 'were')} being opened{when}."


def _backoff(when: When, view: View) -> str:
    return f"Failed calls {view.said('wait', 'waited')} before they {view.said('are', 'were')} tried again{when}."


def _prompt_cache(when: When, view: View) -> str:
    off = "without --prompt-cache" if view.command else "without prompt_cache='auto'"
    return (
        f"Calls that begin alike {view.said('wait', 'waited')} for the first of them to fill the provider's prompt "
        f"cache{when}; {off} they {view.said('go', 'would have gone')} at once, at the full price."
    )


def _room(when: When, view: View) -> str:
    live = "--lane live" if view.command else "lane='live'"
    return (
        f"The provider's flex service {view.said('has', 'had')} no room{when}; "
        f"{live} {view.said('is', 'would have been')} faster, and costs more."
    )


def _paused(when: When, view: View) -> str:
    if not view.live:
        return f"Somebody had paused it{when}."
    return by_you(when, view.name if view.command else None)


def by_you(when: When, name: str | None) -> str:
    """What to say of a pause by a person, of a run that `flatout ctl` knows by a name, or of a program's."""
    return f"It is paused by you{when}; {'client.resume()' if name is None else f'flatout ctl {name} resume'} goes on."


def _input(when: When, view: View) -> str:
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


def _function(when: When, view: View) -> str:
    takes = view.said("takes", "took")
    return (
        f"What the program's own function does beside its calls {takes} the time{when}: {_in_flight(view)}. "
        "Work that keeps a processor busy belongs in asyncio.to_thread, or in other processes."
    )


def _in_flight(view: View) -> str:
    flying = view.rates.in_flight
    return f"{flying:,.{0 if flying >= 9.95 else 1}f} {view.said('are', 'were')} in flight on average"


_OTHERS: Mapping[str, Callable[[When, View], str]] = {
    "concurrency": concurrency,
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


def _of(cause: str, when: When, view: View) -> str:
    """A sentence for a cause of which no more is known."""
    return f"Calls {view.said('wait', 'waited')} for {CAUSES.get(cause, cause)}{when}."
