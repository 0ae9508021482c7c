"""The lane that a planned job would take."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from flatout.client import Client, engine_of
from flatout.lanes.refusals import COMMAND
from flatout.lanes.within import lane_for, ways
from flatout.runs import lane
from flatout.runs.job import RunOptions
from flatout.store import RunFile


class Taken(NamedTuple):
    """A lane, and why it is taken; "" if the user named it."""

    lane: str = "live"
    why: str = ""


async def lane_of(options: RunOptions, client: Client, rows: int) -> Taken:
    """The lane that a run with these options takes.

    Args:
        options: the run's.
        client: knows the target, its limits and the prices.
        rows: how many rows have no answer.

    Raises:
        ConfigError: the time is too short.
    """
    if options.lane == "live" or options.within is None:
        return Taken(options.lane)
    await engine_of(client).stack.prices.load()
    lanes = ways(engine_of(client), options.model, rows)
    return Taken(*lane_for(options.lane, lanes, options.within, whole=options.within, began=False, say=COMMAND))


def check_none_in_batches(options: RunOptions, client: Client, store: RunFile, name: str) -> None:
    """Refuse a sample while rows stand in batches: it is asked live, and they would be paid for twice.

    Raises:
        ConfigError: the message names the batches.
    """
    lane.check_ledger(replace(options, lane="live"), client, store, name)
