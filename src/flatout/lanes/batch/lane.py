"""The batch lane of a run: walks over its rows, and hands each to a batch, leaves it there, or keeps its result.

The lane goes in rounds. A pass over the rows decides for each of them by what the ledger says; then the lane waits
until results are here, and the next pass takes them. *The same command again* is only one more pass, in another
process. Nothing is remembered from pass to pass but the ledger, so memory stays constant, however many rows there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from flatout.config.folders import state_folder
from flatout.engine import Engine
from flatout.errors import ConfigError, RunMismatch, ServerError
from flatout.lanes.noted import forget, note
from flatout.lanes.past import Past, remember
from flatout.lanes.standing import done_rows
from flatout.store.ledger import Batch, BatchRow, Ledger, Seen
from flatout.tasks.loop import wall_clock

from .asked import TOGETHER, Asked, is_fresh
from .form import CALLS, Form
from .hand_in import HandIn, Keep
from .known import Known
from .lane_target import LaneTarget
from .lane_targets import LaneTargets
from .leftovers import clear, unread_answers
from .money import Money, Record
from .replay import Unanswered
from .row import Before, Row, RowT

MOST_LOST = 5
"""How many batches may leave a row unanswered before it fails."""

PASS_EVERY = 60.0
"""The least seconds between two passes, as long as batches are open: each pass reads the whole input."""

LONGEST_NAP = 30.0
"""The most seconds of one sleep."""


class BatchLane:
    """The rows of one run file in batches.

    Args:
        engine: the client's: targets, connections, prices, settings.
        ledger: the run file's.
        name: the run file's name, for messages.
        keep: puts a row's result into the run file.
        money: keeps the batches to the budget; None for a lane that submits nothing.
        form: what the rows ask for, and how they are written.

    Attributes:
        collected: the batches that ended while this process looked after them.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        name: str,
        keep: Keep,
        money: Money | None = None,
        form: Form = CALLS,
    ) -> None:
        self.money = money or Money(engine.stack.purse, engine.stack.prices, Record(), lambda _: None)
        cache = engine.stack.cache if form.cached else None
        self._asked = Asked(cache, ledger) if cache is not None else None
        self._engine = engine
        self._ledger = ledger
        self._name = name
        self._keep = keep
        self._wall = wall_clock(asyncio.get_running_loop())
        known = ledger.batches()
        self._targets = LaneTargets(engine, ledger, self._wall, known, form)
        self._stopped = asyncio.Event()
        self._passes = 0
        self.collected: list[Past] = []
        self._noted: bool | None = None
        self._walked_at = 0.0
        self._changed = False
        self._seen: dict[int, Seen] = {}
        self._hand_in = HandIn(self._targets, keep, self.money, self._asked, self._wall, known)
        self._targets.check_keys(name)

    # What is open

    @property
    def open_batches(self) -> list[Batch]:
        """The batches that a provider has, or may have."""
        return self._targets.open_batches

    @property
    def open_rows(self) -> int:
        """How many rows stand in them."""
        return sum(batch.rows for batch in self.open_batches)

    @property
    def done_rows(self) -> int:
        """How many of those the providers say are finished."""
        return done_rows(self.open_batches, self.seen)

    @property
    def seen(self) -> dict[int, Seen]:
        """What the providers last said of them, by the batch's number."""
        return self._targets.seen

    @property
    def has_begun(self) -> bool:
        """Whether rows have ever stood in a batch."""
        return self._hand_in.has_begun

    def now(self) -> float:
        """The wall clock; Unix time."""
        return self._wall()

    @property
    def waits(self) -> bool:
        """Whether another pass will find something to do."""
        if self._hand_in.over:
            return bool(self.open_batches or self._has_news)
        waiting = [*(each.deferred for each in self._targets), self._asked.waiting if self._asked else 0]
        return bool(self.open_batches or self._has_news or any(waiting) or self.money.may_come)

    @property
    def submitted(self) -> int:
        """How many rows this process has submitted."""
        return self._hand_in.submitted

    @property
    def _has_news(self) -> bool:
        """Whether results have come since the last pass began, or rows have come back."""
        return self._changed or self._hand_in.came_back

    # The rounds

    async def begin(self) -> None:
        """Learn what became of the batches of earlier processes, and take the results that are there.

        Raises:
            CallError: a provider is not reached, or refuses everything.
        """
        await self._note(True)
        await self.money.begin(self._ledger)
        for each in self._targets:
            await each.collector.look(all=True)
        self._note_seen()

    async def walk(self, rows: AsyncIterator[Row]) -> None:
        """One pass over all rows without a result.

        Raises:
            CallError: a provider is not reached, or refuses everything.
            RunMismatch: a row has changed since it was submitted.
            StoreError: the run file can no longer be written.
        """
        await self._engine.stack.prices.load()
        self._passes += 1
        self._changed = self._hand_in.came_back = False
        for each in self._targets:
            each.deferred = 0
            each.boxes.clear()
        await self.money.walks(self._ledger)
        known = Known(self._ledger.rows())
        if self._asked is None or self._stopped.is_set():
            async for row in rows:
                await self._see(row, await known.at(row.index))
        else:
            await self._walk_with_answers(self._asked, rows, known)
        await self._hand_in.all_boxes()
        self._walked_at = self._wall()

    async def _walk_with_answers(self, asked: Asked, rows: AsyncIterator[Row], known: Known) -> None:
        """The same pass, where answers may be kept somewhere: many are looked up at once."""
        await asked.begin()
        some: list[tuple[Row, BatchRow | None]] = []
        async for row in rows:
            some.append((row, await known.at(row.index)))
            if len(some) == TOGETHER:
                await self._see_all(asked, some)
                some = []
        await self._see_all(asked, some)

    async def _see_all(self, asked: Asked, some: list[tuple[Row, BatchRow | None]]) -> None:
        fresh = [row for row, known in some if is_fresh(known)]
        answers = dict(zip((row.index for row in fresh), await asked.answers(fresh), strict=True))
        for row, known in some:
            if not is_fresh(known):
                await self._see(row, known)
            elif (reply := answers[row.index]) is not None:
                await self._keep(row, self._targets.of(row.call).replay.kept(row.index, row.call, reply))
            elif not await asked.under_way(row.fingerprint):
                await self._see(row, known)
            elif (reply := await asked.answer(row.call)) is not None:  # it has come since
                await self._keep(row, self._targets.of(row.call).replay.kept(row.index, row.call, reply))
            else:
                asked.waiting += 1

    async def wait(self, until: float | None = None) -> None:
        """Wait until another pass is worth its time, or `stop`.

        Args:
            until: the longest; Unix time.

        Raises:
            CallError, StoreError: as for `walk`.
        """
        while not self._stopped.is_set():
            for each in self._targets:
                self._changed |= await each.collector.look()
            self._note_seen()
            if self._is_worth_it() or (until is not None and self._wall() >= until):
                return
            try:
                async with asyncio.timeout(self._nap()):
                    await self._stopped.wait()
            except TimeoutError:
                continue

    async def free(self, rows: AsyncGenerator[RowT, None]) -> AsyncGenerator[RowT, None]:
        """The rows that no provider may have, each with what batches have answered to it before."""
        known = Known(self._ledger.rows())
        async with aclosing(rows):
            async for row in rows:
                found = await known.at(row.index)
                if found is None or found.state != "sent":
                    yield row if found is None or not found.told else await self._with_bill(row, found)

    async def _with_bill(self, row: RowT, known: BatchRow) -> RowT:
        """A row that leaves its batches, which knows what their answers to it have cost."""
        each = self._targets.of(row.call)
        bill = await each.replay.leaves(row.call, known.told)
        self.money.leaves(known.batch, bill.cost or 0.0)
        return replace(row, before=Before(bill.cost, partial(self.money.bills, known.batch, bill)))  # type: ignore[type-var]

    async def _note(self, has_batches: bool) -> None:
        """Note that the run has batches, or forget it, for ``flatout batch ls`` in other folders."""
        if self._engine.remembers and has_batches is not self._noted:
            with suppress(OSError, ConfigError):
                await asyncio.to_thread(note if has_batches else forget, state_folder(), Path(self._name))
            self._noted = has_batches

    async def learn(self) -> None:
        """Remember how long the batches took that have ended, and whether others are open."""
        ended = [past for each in self._targets for past in each.desk.take_ended()]
        self.collected += ended
        if ended and self._engine.remembers:
            with suppress(OSError, ConfigError):
                await asyncio.to_thread(remember, state_folder(), ended)
        await self._note(bool(self.open_batches))
        self._note_seen()

    def _note_seen(self) -> None:
        """Keep what the providers say in the run file, for those who look at it."""
        if (seen := self.seen) != self._seen:
            self._ledger.note_seen(seen)
            self._seen = seen

    def stop(self) -> None:
        """Wait no longer, and submit nothing more."""
        self._hand_in.over = True
        self._stopped.set()

    def drain(self) -> None:
        """Submit nothing more. What is open is waited for."""
        self._hand_in.over = True

    async def cancel(self) -> None:
        """Cancel all open batches."""
        for each in self._targets:
            await each.collector.cancel()

    async def finish(self) -> None:
        """Wait until no batch is open any more, and take the results.

        Raises:
            CallError, StoreError: as for `walk`.
        """
        while self.open_batches:
            for each in self._targets:
                await each.collector.look()
            self._note_seen()
            if self.open_batches:
                await asyncio.sleep(self._nap())

    async def reckon(self) -> int:
        """Add up what the answers have cost that are here, where no row is at hand to keep them for. Returns how many.

        Raises:
            CallError, StoreError: as for `walk`.
        """
        await self._engine.stack.prices.load()
        answers, unread = await asyncio.to_thread(unread_answers, self._ledger, self._targets)
        self.money.leaves_unread(unread)
        return answers

    async def clear(self) -> None:
        """Delete the files at the providers whose rows are all in the run file."""
        await clear(self._ledger, self._targets)

    def _is_worth_it(self) -> bool:
        if self.open_batches:  # a clock that was set back does not hold a pass up
            return self._has_news and not 0 <= self._wall() - self._walked_at < PASS_EVERY
        deferring = [each for each in self._targets if each.deferred]
        return self._has_news or not deferring or any(not each.desk.rests for each in deferring)

    def _nap(self) -> float:
        now = self._wall()
        times = [due for each in self._targets if (due := each.collector.due()) is not None]
        times += [each.desk.rest_until for each in self._targets if each.deferred]
        return max(0.1, min([LONGEST_NAP, *(due - now for due in times)]))

    # One row

    async def _see(self, row: Row, known: BatchRow | None) -> None:
        """Decide about a row by what the ledger says of it."""
        each = self._targets.of(row.call)
        changed = known is not None and known.state != "kept" and known.fingerprint != row.fingerprint
        if changed and known is not None and known.state != "sent" and not known.told:
            known = None  # it was not run as it was, so it may be put right
        elif changed and known is not None:
            raise RunMismatch(
                f"{self._name} belongs to another job: row {row.index + 1} has changed since it was submitted, "
                f"in batch {known.batch}"
            )
        if known is not None and known.state == "sent":
            return
        if known is not None and known.state == "kept":
            if self._passes > 1:  # it has just got its result, and is asked again by the next process only
                return
            known = None
        await self._answer(each, row, known)

    async def _answer(self, each: LaneTarget, row: Row, known: BatchRow | None) -> None:
        """Keep the result of a row, if it has one; else put its question into a box."""
        told = known.told if known is not None else ()
        tries = known.tries if known is not None else 0
        if tries - len(told) >= MOST_LOST and not self._stopped.is_set():  # otherwise it may still be asked live
            error = ServerError(f"none of the {tries} batches that it stood in has answered it")
            await self._keep(row, each.replay.failed(row.index, row.call, error, tries))
            return
        if known is None or not told:
            await self._hand_in.put(each, row, row.call, known)
            return
        try:
            result, bill = await each.replay.of(row.index, row.call, told, self._hand_in.age(known.batch))
        except Unanswered as question:
            await self._hand_in.put(each, row, question.call, known, paid=question.bill.cost or 0.0)
        else:
            self.money.settles(known.batch, each.desk.target, row.call, bill)
            await self._keep(row, result)
