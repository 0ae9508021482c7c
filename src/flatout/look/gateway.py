"""What a gateway did, in words. Its run file has callers, and no rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

from flatout.store.gateway import CallerServed, FailedCalls, Served
from flatout.text import figures

STATES = {"running": "serving", "finished": "stopped", "interrupted": "stopped"}
"""What the states of a run are called for a gateway."""

SHOWN = 8
"""Most callers that are named, the busiest first, and most reasons of failures."""

_LIMITS = {"rpm": "{:,g} calls a minute", "concurrency": "{:,g} calls at once"}


def calls(served: Served) -> str:
    """What became of its calls: ``310 calls, 2 failed, 1 hung up``."""
    return _asked(reduce(CallerServed.plus, served.callers, CallerServed("")), served)


def cost(served: Served) -> str:
    """What it has spent, as far as that is known."""
    if not served.calls:
        return "nothing spent yet"
    if not served.spent and (lost := sum(each.lost for each in served.callers)):
        return f"{figures.UNKNOWN}: {figures.counted(lost, 'call')} broke off with their process"
    words = figures.cost_in_words(served.spent, served.unpriced, "call")
    return f"at least {words}" if served.at_least and not served.unpriced else words


def failures(served: Served) -> list[FailedCalls]:
    """Why calls failed, the most frequent reason first; what is beyond the most that are shown, as one."""
    shown, rest = served.failures[:SHOWN], served.failures[SHOWN:]
    return [*shown, FailedCalls("others", sum(each.calls for each in rest))] if rest else [*shown]


def callers(served: Served) -> list[str]:
    """What each caller did, the busiest first."""
    busiest = sorted(served.callers, key=lambda each: -each.calls)
    lines = [_line(each, served) for each in busiest[:SHOWN]]
    if more := busiest[SHOWN:]:
        lines.append(f"and {figures.counted(len(more), 'caller')} more, {sum(each.calls for each in more):,} calls")
    return lines


def held(served: Served) -> Iterator[str]:
    """Which callers wait for a limit of their own, in sentences."""
    for each in sorted(served.callers, key=lambda each: -each.waiting):
        if each.waiting and each.holds in _LIMITS and each.allowed is not None:
            waits = f"{figures.counted(each.waiting, 'call')} of {each.caller}"
            yield f"{waits} wait for a limit of its own key: {_LIMITS[each.holds].format(each.allowed)}."
        elif each.holds == "budget":
            yield f"Calls of {each.caller} wait for the budget of its key: until others end, or its server is back."


def _line(caller: CallerServed, served: Served) -> str:
    spent = figures.cost(caller.spent, caller.unpriced + caller.lost)
    money = f"cost {spent}" if spent == figures.UNKNOWN else spent
    waits = f", {caller.waiting:,} waiting" if caller.waiting else ""
    return f"{caller.caller}: {_asked(caller, served)}, {money}{waits}"


def _asked(caller: CallerServed, served: Served) -> str:
    whole = f"{'at least ' if served.at_least else ''}{figures.counted(caller.calls, 'call')}"
    ends = {"failed": caller.failed, "hung up": caller.hung_up, "broken off": caller.lost}
    return whole + "".join(f", {number:,} {what}" for what, number in ends.items() if number)
