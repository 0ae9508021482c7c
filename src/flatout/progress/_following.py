"""Progress for the library: follows the results of many calls, and shows how far they are.

::

    results = flatout.run(prompts, model="openai/gpt-5-mini", progress=True)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sized
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from flatout.lanes.batch.under_way import lanes_of
from flatout.values import Result

from ._counters import Progress, Spent
from ._shown import Shows, shows_for
from ._tally import Tally, batches_of

if TYPE_CHECKING:
    from flatout.engine import Engine

ResultT = TypeVar("ResultT", bound=Result[Any])

Heard = Callable[[Result[Any]], None]

ShowProgress = bool | Callable[[Progress], None]
"""True to show the progress, or a function that receives it now and then."""


async def followed(
    results: AsyncGenerator[ResultT, None],
    engine: Engine,
    wanted: ShowProgress,
    *,
    total: int | None,
    known: set[int] | None = None,
) -> AsyncGenerator[ResultT, None]:
    """Pass results on, and show the progress meanwhile.

    Args:
        results: the results.
        engine: answers the calls.
        wanted: how the progress is shown.
        total: how many results there will be; None if nobody knows.
        known: the indexes of results that a run file had already; None without a run file.
    """
    async with following(engine, wanted, total=total, known=known) as heard, aclosing(results):
        async for result in results:
            heard(result)
            yield result


@asynccontextmanager
async def following(
    engine: Engine, wanted: ShowProgress, *, total: int | None, known: set[int] | None = None, counts: str = "call"
) -> AsyncGenerator[Heard, None]:
    """Within the block, show the progress of the results that the yielded function receives. See `followed`.

    Args:
        engine: see `followed`.
        wanted: see `followed`.
        total: see `followed`.
        known: see `followed`.
        counts: what the results are of; see `Progress`.
    """
    shows = shows_for(wanted)
    progress = Progress(counts=counts, total=total, started=asyncio.get_running_loop().time())
    tally = _ResultTally(progress, engine, known)
    watching = asyncio.ensure_future(_watch(tally, progress, shows))
    try:
        yield tally.heard
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)  # a display that failed has failed no call
        tally.refresh()
        tally.leave()
        await shows.end(progress)


def rows_in(values: object, each: int = 1) -> int | None:
    """How many results many calls will have; None if nobody knows before their end.

    Args:
        values: the calls, or what stands for them.
        each: results of each.
    """
    return len(values) * each if isinstance(values, Sized) else None


async def _watch(tally: Tally, progress: Progress, shows: Shows) -> None:
    while True:
        await asyncio.sleep(shows.seconds)
        tally.refresh()
        await shows.show(progress)


class _ResultTally(Tally):
    """Counts the money and the tokens of the results alone: the client may answer other calls at the same time."""

    def __init__(self, progress: Progress, engine: Engine, known: set[int] | None) -> None:
        super().__init__(progress, engine)
        self._known = known

    def heard(self, result: Result[Any]) -> None:
        """Count a result."""
        if self._known is not None and result.index in self._known:
            self._known.discard(result.index)
            self._count_known(result)
            return
        self.finished(result, result.index)
        if result.cost is not None:
            self._progress.cost += result.cost
        else:
            self._progress.unpriced += bool(result.attempts)

    def refresh(self) -> None:
        """Read the clock, the state of every target, and the open batches."""
        super().refresh()
        if lanes := lanes_of(self._engine):
            self._progress.batches = batches_of(lanes)

    def _is_held(self, error: Exception) -> bool:
        return self._known is not None and super()._is_held(error)  # without a run file nothing will be asked again

    def _count_money(self) -> None:
        """The results have told it."""

    def _count_known(self, result: Result[Any]) -> None:
        """Count a result of an earlier process."""
        progress, before = self._progress, self._progress.earlier
        usage = result.reply.usage if result.reply is not None else None
        progress.resumed += 1
        progress.failed_before += result.error is not None
        progress.earlier = Spent(
            input_tokens=before.input_tokens + ((usage and usage.input_tokens) or 0),
            output_tokens=before.output_tokens + ((usage and usage.output_tokens) or 0),
            cost=before.cost + (result.cost or 0.0),
            unpriced=before.unpriced + (result.cost is None and result.attempts > 0),
        )
