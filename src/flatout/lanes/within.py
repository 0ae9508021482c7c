"""The time that a run has (``within``), and the cheapest lane that is in time; see `flatout.lanes.escalation`."""

from __future__ import annotations

from collections.abc import Sequence

from flatout.engine import Engine
from flatout.errors import ConfigError
from flatout.store import RunFile
from flatout.values import Call

from .escalation import Way, at_rate, choose, flex_seconds, leaves_at, live_seconds, on_the_way, spoken, stays
from .offers import Lane, Wanted, lanes_of
from .past import batch_seconds, recalled
from .refusals import Spelling
from .wish import Source

WITHIN = "within"
"""The fact in the run file that says until when its answers are wanted."""

LEAVES = "leaves"
"""The fact in the run file that says when rows leave their batches; Unix time, or None for never."""


SAMPLE = 100
"""Calls by which limits that count tokens are reckoned."""


def deadline(store: RunFile, seconds: float, now: float, *, anew: bool) -> float:
    """Until when the answers are wanted; Unix time. It counts from the first command with the same ``seconds``.

    Args:
        store: the run file.
        seconds: the time that the run has.
        now: Unix time.
        anew: count from now on, because the run was finished before.
    """
    fact = store.fact(WITHIN)
    if not anew and isinstance(fact, dict) and fact.get("seconds") == seconds:
        return float(fact["until"])
    return now + seconds


def keep_deadline(store: RunFile, seconds: float, until: float) -> None:
    """Let the time of a run count, once a lane was found that is in time."""
    store.set_fact(WITHIN, {"seconds": seconds, "until": until})


def ways(engine: Engine, model: str | None, rows: int, calls: Sequence[Call] = ()) -> list[Way]:
    """The lanes for rows: live, and what else there is.

    Args:
        engine: knows the target and its limits; its prices are loaded.
        model: the rows' model; None for the client's.
        rows: how many rows have no answer yet.
        calls: some of them; limits that count tokens count by these.
    """
    name = model or engine.targets.model
    if name is None or engine.targets.is_local(name) or engine.targets.routes.find(name) is not None:
        return [Way("live", 0.0, 1.0, "it is the only lane")]
    target = engine.targets.target(name)
    rate, source = engine.stack.limiters.speed(target, calls)
    spoken_rate = at_rate(rate, source)
    found = [Way("live", live_seconds(rows, rate), 1.0, f"it is the fastest lane, {spoken_rate}")]
    if "flex" in lanes_of(target):
        seconds = flex_seconds(rows, rate)
        share = engine.stack.prices.share(target, target.endpoint.flex)
        why = f"rows that find no room there have time to be asked live, {spoken_rate}"
        found.append(Way("flex", seconds, share, why))
    if "batch" in lanes_of(target):
        seconds, why = batch_seconds(recalled(), target, rows)
        found.append(Way("batch", seconds, engine.stack.prices.share(target, "batch"), why))
    return found


async def ways_of(source: Source, engine: Engine) -> list[Way]:
    """The lanes for the calls of a program."""
    await engine.stack.prices.load()
    return ways(engine, None, await source.rows(), await source.some(SAMPLE))


def lane_for(
    wanted: Wanted, lanes: list[Way], left: float, *, whole: float, began: bool, say: Spelling
) -> tuple[Lane, str]:
    """The lane of rows without an answer, and why, for people. Where ``began``, ``live`` stands for no batches.

    Args:
        wanted: the lane that the user named.
        lanes: the lanes that there are.
        left: seconds until the answers are wanted.
        whole: the same at the first command.
        began: whether rows have been in the lane before.
        say: how the caller writes the options.

    Raises:
        ConfigError: nothing was submitted before, and the time is too short for what the user wants.
    """
    first: Lane = "flex" if wanted == "flex" else "batch"
    ahead = lanes if first == "flex" else on_the_way(lanes, whole)
    if began:
        return (first if stays(first, ahead, left) else "live"), ""
    if wanted == first:
        if not stays(first, ahead, left):
            what, them = ("batches", "them") if first == "batch" else ("flex", "it")
            need = spoken(leaves_at(first, ahead))
            live = ", ".join(way.why for way in lanes if way.lane == "live")
            raise ConfigError(
                f"{say.within} is too short for {what}: rows must leave {them} {need} before the end, to be asked live "
                f"({live}), and {spoken(left)} are left; take {say.lane.format('live')}, or give more time"
            )
        return first, ""
    choice = choose(lanes, left)
    if choice.lane is None:
        raise ConfigError(f"{say.within}: {choice.reason}")
    return choice.lane, f"{say.lane.format('auto')} takes {choice.lane}: {choice.reason}"


def check_time(wanted: Wanted, lanes: list[Way], seconds: float, say: Spelling) -> None:
    """Refuse a time that is too short for what the user wants, of rows that nobody has asked yet.

    Raises:
        ConfigError: as for `lane_for`.
    """
    lane_for(wanted, lanes, seconds, whole=seconds, began=False, say=say)
