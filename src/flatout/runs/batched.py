"""Asks the rows of a run in batches, for half the price; see `flatout.lanes.batch.lane`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from msgspec.structs import astuple

from flatout.client import Client
from flatout.durable.records import item_of
from flatout.lanes.batch.lane import BatchLane
from flatout.values import Result

from .alone import exporting_to
from .job import RunOptions
from .story.progress import Batches, Progress
from .story.tally import Tally
from .work import Work

if TYPE_CHECKING:
    from flatout.store import RunFile

TOGETHER = 500
"""Results that are committed together."""

Pending = Callable[[bool], AsyncGenerator[Work, None]]
"""The rows without a result; whether to count those that have one, which is right for the first pass only."""


class Batched:
    """Asks rows in batches.

    Args:
        client: has the targets, the connections and the prices; it makes no calls.
        store: the run file.
        options: the run's.
        progress: the run's counters.
        name: the run file's name, for messages.
        warn: receives problems beside the run.

    Raises:
        ConfigError: batches are open that this client cannot collect.
    """

    def __init__(
        self,
        client: Client,
        store: RunFile,
        options: RunOptions,
        progress: Progress,
        name: str,
        warn: Callable[[str], None],
    ) -> None:
        self._client = client
        self._store = store
        self._options = options
        self._progress = progress
        self._warn = warn
        self._lane = BatchLane(client.engine, store.ledger, name, self._keep)
        self._tally: Tally | None = None
        self._stops = 0
        self._task: asyncio.Task[Any] | None = None
        self._results: list[tuple[Work, Result[Any]]] = []

    @property
    def sent(self) -> int:
        """How many rows were submitted."""
        return self._lane.submitted

    async def ask_all(self, pending: Pending) -> None:
        """Submit and collect, until every row has a result; or until `stop`, or at once with ``detach``.

        Raises:
            CallError: a provider is not reached, or refuses everything. What it has of ours is in the ledger.
            StoreError: the run file can no longer be written.
        """
        self._task = asyncio.current_task()
        async with self._client as client, exporting_to(self._client, self._options, self._warn):
            self._tally = Tally(self._progress, client)
            try:
                await self._rounds(pending)
            except asyncio.CancelledError:
                if self._stops < 2:
                    raise
            finally:
                self.refresh()

    async def take(self, pending: Pending) -> None:
        """Keep the results that are here, and submit nothing.

        Raises:
            StoreError: as for `ask_all`.
        """
        self._lane.stop()
        self._tally = Tally(self._progress, self._client)
        try:
            async with aclosing(pending(True)) as works:
                await self._lane.walk(works)
            await self._commit()
        finally:
            self._tally.leave()

    async def _rounds(self, pending: Pending) -> None:
        lane, first = self._lane, True
        await lane.begin()
        while True:
            async with aclosing(pending(first)) as works:
                await lane.walk(works)
            await self._commit()
            first = False
            if not self._options.keep_files:
                await lane.clear()
            if self._stops or self._options.detach or not lane.waits:
                return
            await lane.wait()

    def stop(self) -> None:
        """Submit nothing more, and leave; at the second call, at once. The batches go on at the provider."""
        self._stops += 1
        self._lane.stop()
        if self._stops == 2 and self._task is not None:
            self._task.cancel()

    def refresh(self) -> None:
        """Bring the live counters up to date."""
        if self._tally is None:
            return
        self._tally.refresh()
        lane = self._lane
        began = min((batch.intended_at for batch in lane.open_batches), default=None)
        self._progress.batches = Batches(len(lane.open_batches), lane.open_rows, lane.done_rows, began)

    async def _keep(self, work: Work, result: Result[Any]) -> None:
        """Keep a row's result, with those of many others in one commit."""
        self._results.append((work, result))
        if len(self._results) >= TOGETHER:
            await self._commit()

    async def _commit(self) -> None:
        results, self._results = self._results, []
        keeps = self._options.keep_prompts
        items = [item_of(each, made=work.made, row=work.kept, keep_prompts=keeps) for work, each in results]
        await self._store.finish_all(map(astuple, items))
        assert self._tally is not None
        for work, result in results:
            self._tally.finished(result, work.index)
