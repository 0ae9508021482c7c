"""What a gateway did, in words. Its run file has callers, and no rows."""

from __future__ import annotations

from collections.abc import Iterator

from flatout.store.gateway import CallerServed, Served
from flatout.text import figures

STATES = {"running": "serving", "finished": "stopped", "interrupted": "stopped"}
"""What the states of a run are called for a gateway."""

SHOWN = 8
"""Most callers that are named; the busiest first."""

_LIMITS = {"rpm": "{:,g} calls a minute", "concurrency": "{:,g} calls at once"}


def calls(served: Served) -> str:
    """What became of its calls: ``310 calls, 2 failed, 1 hung up``."""
    failed, left = sum(each.failed for each in served.callers), sum(each.hung_up for each in served.callers)
    return figures.counted(served.calls, "call") + _ends(failed, left)


def cost(served: Served) -> str:
    """What it has spent, as far as that is known."""
    if not served.calls:
        return "nothing spent yet"
    return figures.cost_in_words(served.spent, served.unpriced, "call")


def callers(served: Served) -> list[str]:
    """What each caller did, the busiest first."""
    busiest = sorted(served.callers, key=lambda each: -each.calls)
    lines = [_line(each) for each in busiest[:SHOWN]]
    if more := busiest[SHOWN:]:
        lines.append(f"and {figures.counted(len(more), 'caller')} more, {sum(each.calls for each in more):,} calls")
    return lines


def held(served: Served) -> Iterator[str]:
    """Which callers wait for a limit of their own, in sentences."""
    for each in sorted(served.callers, key=lambda each: -each.waiting):
        if each.waiting and each.holds in _LIMITS and each.allowed is not None:
            waits = f"{figures.counted(each.waiting, 'call')} of {each.caller}"
            yield f"{waits} wait for a limit of its own key: {_LIMITS[each.holds].format(each.allowed)}."


def _line(caller: CallerServed) -> str:
    spent = figures.cost(caller.spent, caller.unpriced)
    money = f"cost {spent}" if spent == figures.UNKNOWN else spent
    waits = f", {caller.waiting:,} waiting" if caller.waiting else ""
    ends = _ends(caller.failed, caller.hung_up)
    return f"{caller.caller}: {figures.counted(caller.calls, 'call')}{ends}, {money}{waits}"


def _ends(failed: int, hung_up: int) -> str:
    return (f", {failed:,} failed" if failed else "") + (f", {hung_up:,} hung up" if hung_up else "")
