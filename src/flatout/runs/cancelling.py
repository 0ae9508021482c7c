"""Cancels the open batches of a run, and takes what was finished of them, with a progress to show."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct

from flatout.client import Client, engine_of
from flatout.errors import FlatoutError
from flatout.lanes.batch.lane import BatchLane
from flatout.lanes.batch.money import Money
from flatout.progress._counters import Progress
from flatout.progress._tally import batches_of
from flatout.store import RunFile
from flatout.text import figures

PATIENCE = 900.0
"""Seconds to wait until cancelled batches have ended. OpenAI names up to 10 minutes."""


class Cancelled(Struct, frozen=True):
    """What cancelling has left.

    Attributes:
        answers: rows whose answers are here, and are kept when the run continues.
        cost: US dollars that these answers are known to have cost.
        unknown_costs: how many of them cost an unknown amount.
        left: batches that have not ended yet.
    """

    answers: int
    cost: float
    unknown_costs: int
    left: int


class Cancelling:
    """Cancels the open batches of one run. `stop` may come at any time.

    Args:
        client: has the targets and the keys.
        store: the run file.
        name: its name, for messages.

    Attributes:
        progress: what to show meanwhile.
    """

    def __init__(self, client: Client, store: RunFile, name: str) -> None:
        self.progress = Progress()
        self._client = client
        self._store = store
        self._name = name
        self._lane: BatchLane | None = None
        self._task: asyncio.Task[Any] | None = None

    async def run(self) -> Cancelled:
        """Ask the providers to cancel, wait until they have, and take the results.

        Raises:
            FlatoutError: the batches do not end, or a provider is not reached.
        """
        loop = asyncio.get_running_loop()
        self.progress.started = loop.time()
        async with self._client:
            engine = engine_of(self._client)
            money = Money.of(engine.stack, self._store)
            lane = self._lane = BatchLane(engine, self._store.ledger, self._name, _keep, money)
            self._task = asyncio.ensure_future(self._end(lane))
            try:
                await self._task
            except asyncio.CancelledError:
                if not self._task.cancelled():
                    raise
            answers = await lane.reckon()
            await lane.learn()
        unread = money.record.all_unread()
        return Cancelled(answers, unread.cost, unread.unknown, len(lane.open_batches))

    async def _end(self, lane: BatchLane) -> None:
        await lane.cancel()
        try:
            async with asyncio.timeout(PATIENCE):
                await lane.finish()
        except TimeoutError:
            waited = figures.duration(PATIENCE)
            raise FlatoutError(f"the batches have not ended within {waited}: give this command again") from None

    def refresh(self) -> None:
        """Bring the progress up to date."""
        self.progress.elapsed = asyncio.get_running_loop().time() - self.progress.started
        if self._lane is not None:
            batches = self.progress.batches = batches_of([self._lane])
            self.progress.total = max(self.progress.total or 0, batches.rows)
            self.progress.resumed = self.progress.total - batches.rows + batches.done

    def stop(self) -> None:
        """Wait no longer. The batches are cancelled all the same."""
        if self._task is not None:
            self._task.cancel()


async def _keep(*_: object) -> None:
    raise AssertionError("no row is read")
