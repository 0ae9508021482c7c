"""Asks the rows of a run in batches, for half the price; see `flatout.lanes.batch.lane`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from msgspec.structs import astuple

from flatout.client import Client, engine_of
from flatout.client.change import Change
from flatout.durable.records import item_of
from flatout.errors import BudgetExceeded, ConfigError
from flatout.lanes.batch.lane import BatchLane
from flatout.lanes.batch.money import Money
from flatout.lanes.batch.rounds import Rounds
from flatout.lanes.batch.targets import target_of
from flatout.lanes.past import learnt_of, recalled
from flatout.policies.failures.decision import advice
from flatout.progress._counters import Failure, Progress
from flatout.progress._tally import Tally, batches_of
from flatout.values import Result

from .alone import exporting_to
from .job import RunOptions
from .skips import Skip
from .stops import Stops
from .work import Work

if TYPE_CHECKING:
    from flatout.store import RunFile

TOGETHER, TOGETHER_BYTES = 2_000, 8 * 1024 * 1024
"""Results that are committed together, and how large their calls and answers are."""

_NOT_HERE = "the run's rows are in batches, which the provider asks at its own pace: only status, stop and drain apply"

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

    Attributes:
        lane: the lane.

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
        engine = self._engine = engine_of(client)
        self.lane = BatchLane(engine, store.ledger, name, self._keep, Money.of(engine.stack, store))
        self._tally: Tally | None = None
        self._rounds: Rounds | None = None
        self._ending = Stops()
        self._collects = False
        self._task: asyncio.Task[Any] | None = None
        self._past = ""
        self._items: list[tuple[Any, ...]] = []  # to commit
        self._results: list[tuple[int, Result[Any]]] = []  # to count, once they are committed
        self._size = 0

    @property
    def sent(self) -> int:
        """How many rows were submitted."""
        return self.lane.submitted

    async def ask_all(self, pending: Pending, leave_at: float | None = None) -> bool:
        """Submit and collect, until every row has a result; or until `stop`, or at once with ``detach``.

        Args:
            pending: the rows.
            leave_at: when rows leave their batches, because they would not be in time; Unix time. None for never.

        Returns:
            Whether rows have left their batches.

        Raises:
            CallError: a provider is not reached, or refuses everything. What it has of ours is in the ledger.
            StoreError: the run file can no longer be written.
        """
        self._task = asyncio.current_task()
        self._engine.bind()
        self._past = await asyncio.to_thread(self._learnt)
        async with exporting_to(self._client, self._options, self._warn):
            self._tally = Tally(self._progress, self._engine)
            try:
                left = await self._rounds_of(pending).go(leave_at)
            except asyncio.CancelledError:
                if self._ending.count < 2:
                    raise
                return False
            else:
                self._note_short()
                return left
            finally:
                self.refresh()
                self._tally.leave()

    async def collect(self, pending: Pending) -> None:
        """Wait for the batches that are left, and submit nothing more.

        Raises:
            CallError, StoreError: as for `ask_all`.
        """
        self._tally = Tally(self._progress, self._engine)
        self._task, self._collects = asyncio.current_task(), True
        try:
            await self.lane.finish()
            await self._walk(pending, first=False)
        except asyncio.CancelledError:
            if not self._ending.count:
                raise
        finally:
            self._collects = False
            self.refresh()

    async def take(self, pending: Pending) -> None:
        """Keep the results that are here, and submit nothing.

        Raises:
            StoreError: as for `ask_all`.
        """
        self.lane.stop()
        self._tally = Tally(self._progress, self._engine)
        try:
            await self.lane.money.begin(self._store.ledger)
            await self._walk(pending, first=True)
        finally:
            self._tally.leave()

    def steer(self, change: Change, by: str) -> None:
        """Refuse a change: it would have no effect.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(_NOT_HERE)

    def skip(self, skip: Skip) -> bool:
        """Refuse to skip a row.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(_NOT_HERE)

    def _rounds_of(self, pending: Pending) -> Rounds:
        async def walk(first: bool) -> None:
            await self._walk(pending, first=first)

        options = self._options
        self._rounds = Rounds(self.lane, walk, detach=options.detach, keep_files=options.keep_files)
        if self._ending.count:
            self._rounds.stop()
        return self._rounds

    def _learnt(self) -> str:
        """How long past batches of the client's target took, in words; "" if nobody knows."""
        engine = self._engine
        if not engine.remembers or engine.targets.model is None:
            return ""
        with suppress(ConfigError):  # it has no batches
            return learnt_of(recalled(), target_of(engine, engine.targets.model))
        return ""

    def _note_short(self) -> None:
        """Count the rows that a used-up budget holds back. While batches are open, money may be left of them."""
        money, progress = self.lane.money, self._progress
        if money.short and not self._ending.count and not self.lane.open_batches:
            error = BudgetExceeded(self._engine.stack.purse.refusal(money.need))
            progress.held += money.short
            progress.failures[BudgetExceeded.__name__] = Failure(
                money.short, str(error), None, advice(error), money.short
            )

    async def _walk(self, pending: Pending, *, first: bool) -> None:
        async with aclosing(pending(first)) as works:
            await self.lane.walk(works)
        await self._commit()
        self.lane.money.save()

    def stop(self, *, drain: bool = False) -> None:
        """Submit nothing more, and leave; at the second call, at once. The batches go on at the provider.

        Args:
            drain: submit nothing more, and leave once the open batches have ended and their answers are kept.
        """
        self._ending.told(drain=drain)
        if self._ending.drains:
            self.lane.drain()
            return
        self.lane.stop()
        if self._rounds is not None:
            self._rounds.stop()
        if (self._ending.count == 2 or self._collects) and self._task is not None:
            self._task.cancel()

    def refresh(self) -> None:
        """Bring the live counters up to date."""
        if self._tally is None:
            return
        self._tally.refresh()
        self._progress.batches = batches_of([self.lane], self._past)

    async def _keep(self, work: Work, result: Result[Any]) -> None:
        """Keep a row's result, with those of many others in one commit."""
        keeps = self._options.keep_prompts
        item = item_of(result, made=work.made, row=work.kept, keep_prompts=keeps, mark=work.fingerprint)
        self._items.append(astuple(item))  # at once, while all of it is in the processor's cache
        self._results.append((work.index, result))
        self._size += len(work.made) + len(work.kept) + len(result.text or "")
        if len(self._results) >= TOGETHER or self._size >= TOGETHER_BYTES:
            await self._commit()

    async def _commit(self) -> None:
        results, self._results, self._size = self._results, [], 0
        items, self._items = self._items, []
        await self._store.finish_all(items)
        assert self._tally is not None
        for index, result in results:
            self._tally.finished(result, index)
