"""The calls of a program in a lane. It makes the same promises as the command, by the same means.

The program may end at any time. Called again with the same calls and the same run file, it goes on: what batches have
answered is collected, what is missing is submitted, and nothing is paid twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatout.durable.opening import StorePath
from flatout.durable.run import Asker, kept_results
from flatout.edge.fan_out import Flow, fan_out
from flatout.engine import Engine
from flatout.journey import Journey
from flatout.tasks.loop import wall
from flatout.values import CallLike, Result

from .batch.form import CALLS, Form
from .escalation import leaves_at
from .flex import FlexLane
from .kept_calls import LaneCalls, asked
from .refusals import PROGRAM
from .wish import Source, Wish
from .within import check_time, ways_of

if TYPE_CHECKING:
    from flatout.store import RunFile


def calls_in_lane(
    source: Source,
    wish: Wish,
    *,
    asker: Asker,
    engine: Engine,
    place: StorePath | None,
    job: Mapping[str, Any],
    retry_failed: bool,
    known: set[int] | None = None,
    form: Form = CALLS,
    ends_at: float | None = None,
) -> AsyncGenerator[Result[Any], None]:
    """`Client.as_completed` in a lane other than the live one; after `check_wish`.

    Args:
        source: the calls.
        wish: the lane, and by when the answers are wanted.
        asker: asks a call now.
        engine: the client's.
        place: the run file; None only for the flex lane.
        job: what makes two answers comparable.
        retry_failed: ask failed calls again.
        known: receives the indexes of the results that the run file had already; None if nobody wants them.
        form: what the calls ask for, and how they are written.
        ends_at: when batches are cancelled, and what has no answer by then is left without one; Unix time. None for
            never.
    """
    if place is None:
        return _flex_calls(source, wish, asker, engine)
    again, flow = {"unsent", "failed"} if retry_failed else {"unsent"}, Flow()

    def results(store: RunFile, name: str) -> AsyncGenerator[Result[Any], None]:
        return LaneCalls(
            store,
            name,
            source,
            wish,
            asker=asker,
            engine=engine,
            again=again,
            flow=flow,
            form=form,
            known=known,
            ends_at=ends_at,
        ).results()

    kept = kept_results(results, place, job=job, asker=asker, flow=flow)
    return kept if wish.within is None or Path(place).exists() else _in_time(kept, source, wish, engine)


async def _in_time(
    kept: AsyncGenerator[Result[Any], None], source: Source, wish: Wish, engine: Engine
) -> AsyncGenerator[Result[Any], None]:
    """The results of a new run, unless no lane is in time for it: then no run file is made."""
    async with aclosing(kept):
        lanes = await ways_of(source, engine)
        check_time(wish.lane, lanes, wish.within or 0.0, PROGRAM)
        async for result in kept:
            yield result


async def _flex_calls(source: Source, wish: Wish, asker: Asker, engine: Engine) -> AsyncGenerator[Result[Any], None]:
    """Ask calls in the flex lane, without a run file."""
    lane, began = FlexLane(engine), wall()
    if wish.within is not None:
        lanes = await ways_of(source, engine)
        check_time("flex", lanes, wish.within, PROGRAM)
        lane = FlexLane(engine, began + wish.within - leaves_at("flex", lanes))

    async def ask(index: int, value: CallLike) -> Result[Any]:
        return await asked(asker, value, index, Journey(asyncio.get_running_loop().time()), lane)

    async with aclosing(fan_out(source.read(), ask, lambda: asker.window)) as results:
        async for result in results:
            yield result
