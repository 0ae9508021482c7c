"""The parent's side: gives rows to workers, hears what they answer, and replaces those that die."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from flatout.client.change import Change
from flatout.errors import FlatoutError
from flatout.money.purse import Purse
from flatout.progress._counters import Progress
from flatout.runs.alone import Over, nobody
from flatout.runs.skips import Skip, Skips
from flatout.runs.stops import Stops
from flatout.runs.work import Work
from flatout.store import Item, RunFile
from flatout.store.course import Happening
from flatout.tasks.closing import reading

from .books import Books
from .counters import add_up, of_all, over, parts
from .given import MOST_DEATHS, Given
from .member import GRACE, Member
from .messages import Report, fault
from .outset import Outset

if TYPE_CHECKING:
    from flatout.telemetry._together import Together

DYING = 1.0
"""Seconds that a worker has to end after it has closed its socket."""

HURRY = 5.0
"""Seconds that workers have to drop their calls at a second interrupt."""

_log, _own_log = logging.getLogger("flatout"), logging.getLogger("flatout.workers")


class Team:
    """The workers of one run.

    Args:
        most: how many workers there are at most; each row needs one at least.
        window: the most rows under way at once, over all of them.
        outset: describes how a worker begins, by its number and its window.
        store: the run file.
        purse: the money of the run.
        progress: the run's counters.
        keep_prompts: whether the run file keeps the rows and the rendered calls.
        metrics: the port that serves the workers' metrics to Prometheus, added up.
        heard: hears of each row that has a result, and what it cost.
        leave: removes what the workers shared; called last of all.
        divides: the concurrency that the workers divide among them; None if they share their limits instead.
        steered: hears of a change first, may refuse it, and tells the most rows under way at once from then on.
    """

    def __init__(
        self,
        most: int,
        window: int,
        outset: Callable[[int, int], Outset],
        *,
        store: RunFile,
        purse: Purse,
        progress: Progress,
        keep_prompts: bool,
        metrics: int | None = None,
        heard: Callable[[Work, float | None], None] | None = None,
        leave: Callable[[], object] = lambda: None,
        divides: int | None = None,
        steered: Callable[[Change], int] = lambda _: 1,
    ) -> None:
        self._most = most
        self._windows = parts(window, most)
        self._changes: list[Change] = []
        self._skips = Skips()
        self._outset = outset
        self._store = store
        self._books = Books(store, purse, keep_prompts=keep_prompts, heard=heard, changed=self._changed)
        self._progress = progress
        self._port = metrics
        self._metrics: Together | None = None
        self._leave = leave
        self._divides = divides
        self._steered = steered
        self._members: dict[int, Member] = {}  # by their numbers
        self._past: list[Member] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._ending = Stops()
        self._at_end = False
        self._ends = False
        self._still_born = 0
        self._fault: BaseException | None = None
        self._change: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def sent(self) -> int:
        """How many attempts were sent."""
        return self._books.sent

    async def ask(self, works: AsyncIterator[Work], *, over: Over = nobody) -> None:
        """Ask all rows; return when each of them is in the run file, or dropped.

        Args:
            works: the rows.
            over: hears of each row that is in the run file.

        Raises:
            StoreError: the run file can no longer be written.
            FlatoutError: the workers cannot go on.
            ConfigError: the metrics cannot be served.
        """
        self._books.over = over
        async with self._serving():
            await self._ask_all(works)

    def _serving(self) -> AbstractAsyncContextManager[object]:
        if self._port is None:
            return nullcontext()
        from flatout.telemetry._together import Together

        self._metrics = Together()
        return self._metrics.served(self._port)

    async def _ask_all(self, works: AsyncIterator[Work]) -> None:
        feeder = self._feeder = asyncio.ensure_future(self._feed(works))
        feeder.add_done_callback(lambda _: self._changed())
        try:
            await self._until(lambda: feeder.done() and all(member.is_idle for member in self._all()))
            feeder.result()  # what the input raises, after everything that was given has ended
            await self._dismiss()
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
            await self._end()

    def input_at_end(self) -> None:
        """Tell all workers that the input was read to its end. Rows that are asked again may still come."""
        self._at_end = True
        for member in self._members.values():
            member.order.at_end = True

    def steer(self, change: Change, by: str) -> None:
        """Make a change in all workers, and write it down.

        Raises:
            ConfigError: as for `flatout.Client.set_limits`.
        """
        self._windows = parts(self._steered(change), self._most)
        self._changes.append(change)
        if self._divides is not None:
            self._divides = change.limits.get("concurrency") or self._divides
        what, does = change.in_words(), change.does
        told = Happening(at=time.time(), kind="change", target=change.target, what=what, by=by, does=does)
        self._store.note_happening(told)
        for member in self._members.values():
            member.order.changes.append(self._part(change, member.number))
            member.widen(self._windows[member.number])
        self._changed()

    def skip(self, skip: Skip) -> bool:
        """Skip a row: now if a worker has it, otherwise when it comes. Returns whether a worker has it."""
        self._skips.add(skip)
        found = [member.skip(skip) for member in self._members.values()]
        return any(found)

    def forget_skip(self, work: Work) -> None:
        """Ask a row although it was skipped."""
        self._skips.forget(work.index, work.call.id)

    def take_back(self, item: Item) -> None:
        """Count a row no longer that was over, and is asked again."""
        self._books.take_back(item)

    def _part(self, change: Change, number: int) -> Change:
        """The part of a change that one worker makes."""
        most = change.limits.get("concurrency")
        if self._divides is None or most is None:
            return change
        return replace(change, limits={**change.limits, "concurrency": parts(most, self._most)[number]})

    def stop(self, *, drain: bool = False) -> None:
        """Stop the run, as `flatout.runs.under_way.UnderWay.stop` does; at the second call, drop everything."""
        ending = self._ending
        ending.told(drain=drain)
        for member in self._members.values():
            member.order.stops, member.order.drains = ending.count, ending.drains
            member.dismiss()
        if ending.count == 2:
            asyncio.get_running_loop().call_later(HURRY, self._kill_all)
        self._changed()

    def refresh(self) -> None:
        """Bring the run's counters up to date."""
        progress = self._progress
        add_up(
            [*(over(member.told) for member in self._past), *(m.told for m in self._members.values())],
            progress,
            divides=self._divides is not None,
        )
        self._books.refresh(progress)
        progress.elapsed = asyncio.get_running_loop().time() - progress.started

    # Giving rows

    async def _feed(self, works: AsyncIterator[Work]) -> None:
        async with reading(works) as source:
            async for work in source:
                if (member := self._free()) is None:
                    await self._until(lambda: self._ending.count or self._free() is not None)
                    member = self._free()
                if self._ending.count or member is None:
                    return
                self._give(member, Given(work))
        self.input_at_end()

    def _give(self, member: Member, given: Given) -> None:
        member.give(given)
        if (by := self._skips.by(given.work.index, given.work.call.id)) is not None:
            member.skip(Skip(index=given.work.index, by=by))

    def _free(self) -> Member | None:
        """The worker that has the fewest rows among those that can take another one; None if there is none."""
        if len(self._members) < self._most:
            return self._add(len(self._members))
        free = (member for member in self._members.values() if member.has_room)
        return min(free, key=lambda member: len(member.rows), default=None)

    def _add(self, number: int) -> Member:
        window = self._windows[number]
        member = self._members[number] = Member(number, window, self._hear, self._lost)
        member.order.at_end = self._at_end
        self._starting.add(self._begin(member.start(self._outset(number, window))))
        self._begin(self._books.commit(member))
        for change in self._changes:
            member.order.changes.append(self._part(change, number))
        return member

    async def _dismiss(self) -> None:
        """Let every worker end by itself."""
        for member in self._members.values():
            member.dismiss()
        late = asyncio.get_running_loop().call_later(GRACE, self._kill_all)
        await self._until(lambda: all(member.ended.done() for member in self._members.values()))
        late.cancel()

    async def _end(self) -> None:
        """Leave no process and no task behind."""
        self._ends = True
        await asyncio.gather(*self._starting, return_exceptions=True)  # a process that is half started cannot be ended
        if not all(member.ended.done() for member in self._members.values()):
            self._kill_all()
        await asyncio.gather(*(member.bury() for member in self._all()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._leave)

    def _kill_all(self) -> None:
        for member in self._members.values():
            member.kill()

    def _all(self) -> list[Member]:
        return [*self._past, *self._members.values()]

    # Hearing of them

    def _hear(self, member: Member, report: Report) -> None:
        try:
            self._take(member, report)
        except Exception as error:  # out of here, it would end the channel and no more
            self._fail(error)

    def _take(self, member: Member, report: Report) -> None:
        self._still_born = 0
        if report.failure is not None:
            self._fail(fault(*report.failure))
        if report.metrics and self._metrics is not None:
            self._metrics.hear(member, report.metrics)
        if self._divides is not None:
            report.stretches = [of_all(stretch, self._divides) for stretch in report.stretches]
        for later in self._books.take(member, report):
            self._begin(later)
        self._changed()

    # The end of a worker

    def _lost(self, member: Member) -> None:
        """A worker has ended: as it was told to, or it is dead."""
        if self._metrics is not None:
            self._metrics.over(member)
        self._changed()
        if not self._ends and (not member.dismissed or member.rows):
            self._begin(self._replace(member))

    async def _replace(self, member: Member) -> None:
        """Give a dead worker's rows to another one. What it had in flight may have been paid for."""
        how = await member.bury(DYING)
        self._still_born += 1
        rows = dict(member.rows)
        await self._books.write_off(member, rows)
        member.rows.clear()
        self._changed()
        if self._fault is not None or self._ending.count or (not rows and self._feeder.done()):
            return
        if self._still_born >= MOST_DEATHS or any(given.deaths >= MOST_DEATHS for given in rows.values()):
            self._fail(FlatoutError(f"{MOST_DEATHS} worker processes died one after another: {how}"))
            return
        _own_log.warning("a worker process has died: %s; another one takes its rows", how)
        self._past.append(member)
        successor = self._add(member.number)
        for given in rows.values():
            self._give(successor, given)

    # Waiting

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._starting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, fault: BaseException) -> None:
        self._fault = self._fault or fault
        self._changed()

    def _changed(self) -> None:
        if not self._change.done():
            self._change.set_result(None)

    async def _until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds.

        Raises:
            FlatoutError: the team cannot go on.
        """
        while True:
            if self._fault is not None:
                raise self._fault
            if condition():
                return
            if self._change.done():
                self._change = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._change)  # several may wait for it
