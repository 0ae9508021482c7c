"""The time that a run has (``--within``), and the cheapest lane that is in time; see `flatout.lanes.escalation`."""

from __future__ import annotations

from flatout.client import Client
from flatout.config.folders import state_folder
from flatout.errors import ConfigError
from flatout.lanes.escalation import Way, choose, leaves_at, live_seconds, spoken, stays
from flatout.lanes.offers import lanes_of
from flatout.lanes.past import Past, batch_seconds, recall
from flatout.store import RunFile

from .job import Lane

WITHIN = "within"
"""The fact in the run file that says until when its answers are wanted."""


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
    store.set_fact(WITHIN, {"seconds": seconds, "until": now + seconds})
    return now + seconds


def ways(client: Client, model: str | None, rows: int) -> list[Way]:
    """The lanes for rows: batch, if there is one, and live.

    Args:
        client: knows the target and its limits; its prices are loaded.
        model: the rows' model; None for the client's.
        rows: how many rows have no answer yet.
    """
    engine = client.engine
    name = model or client.model
    if name is None or engine.targets.is_local(name) or engine.targets.routes.find(name) is not None:
        return [Way("live", 0.0, 1.0, "it is the only lane")]
    target = engine.targets.target(name)
    rpm = engine.targets.limits_of(target).rpm
    rate = None if rpm is None else rpm / 60
    found = [Way("live", live_seconds(rows, rate), 1.0, "it is the fastest lane")]
    if "batch" in lanes_of(target):
        seconds, why = batch_seconds(_past(), target.name, rows)
        found.append(Way("batch", seconds, engine.stack.prices.share(target, "batch"), why))
    return found


def lane_for(wanted: Lane, lanes: list[Way], left: float, *, began: bool) -> tuple[bool, str]:
    """Whether rows without an answer go into batches, and why, for people.

    Args:
        wanted: the lane that the user named.
        lanes: the lanes that there are.
        left: seconds until the answers are wanted.
        began: whether rows have stood in batches before.

    Raises:
        ConfigError: nothing was submitted before, and the time is too short for what the user wants.
    """
    if began:
        return stays("batch", lanes, left), ""
    if wanted == "batch":
        if not stays("batch", lanes, left):
            need = spoken(leave_before(lanes))
            raise ConfigError(
                f"--within is too short for batches: rows must leave them {need} before the end, to be asked live, and "
                f"{spoken(left)} are left; take --lane live, or give more time"
            )
        return True, ""
    choice = choose(lanes, left)
    if choice.lane is None:
        raise ConfigError(f"--within: {choice.reason}")
    return choice.lane == "batch", f"--lane auto takes {choice.lane}: {choice.reason}"


def leave_before(lanes: list[Way]) -> float:
    """The seconds before the deadline at which rows leave their batches."""
    return leaves_at("batch", lanes)


def _past() -> list[Past]:
    try:
        return recall(state_folder())
    except ConfigError:  # without a home folder, nothing is learnt
        return []
