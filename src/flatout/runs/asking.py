"""Asks one row in this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from flatout.client import Client
from flatout.edge.fan_out import outcome
from flatout.errors import Skipped
from flatout.journey import AttemptNotes, Journey
from flatout.values import Call, Result

from .under_way import UnderWay

if TYPE_CHECKING:
    from flatout.lanes.batch.row import Before
    from flatout.lanes.flex import FlexLane


async def ask(
    client: Client,
    call: Call,
    index: int,
    *,
    under_way: UnderWay,
    notes: AttemptNotes,
    flex: FlexLane | None = None,
    before: Before | None = None,
) -> Result[Any] | None:
    """Make a row's call, in this task. A failure is part of the result, and so is that somebody skips the row.

    Args:
        client: makes it.
        call: the call.
        index: the row's index.
        under_way: the calls in flight, which end when the run stops.
        notes: where its attempts are noted.
        flex: the flex lane, if the row goes there.
        before: what batches have answered to it before; None for nothing.

    Returns:
        The result; None if the run stops, and the row is left for the next.
    """
    task = asyncio.current_task()
    assert task is not None
    journey = Journey(asyncio.get_running_loop().time())
    journey.notes = notes
    if (skipped := _skipped(under_way, call, index, journey)) is not None:
        return skipped
    if flex is not None:
        flex.take(call, journey)
    if before is not None:
        journey.account.spent(before.cost)
    under_way.begin(task, index, journey, call.id)
    try:
        return await client.result(call, index=index, journey=journey)
    except asyncio.CancelledError:
        if (skipped := _skipped(under_way, call, index, journey)) is not None:
            task.uncancel()
            return skipped
        if under_way.ending.count:
            return None
        raise
    finally:
        under_way.end(index)


def _skipped(under_way: UnderWay, call: Call, index: int, journey: Journey) -> Result[Any] | None:
    """The result of a row that somebody has skipped; None if nobody has."""
    by = under_way.skips.by(index, call.id)
    if by is None:
        return None
    return outcome(index, journey, call=call, error=Skipped(f"skipped by {by}", attempts=journey.attempts))
