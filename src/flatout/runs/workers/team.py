"""The parent's side: gives rows to workers, writes what they answer, and replaces those that die."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from flatout.errors import BudgetExceeded, FlatoutError
from flatout.progress._counters import Progress, forget
from flatout.purse import Purse
from flatout.runs.alone import Over, nobody
from flatout.runs.skips import Skip, Skips
from flatout.runs.stops import Stops
from flatout.runs.work import Work
from flatout.steering import Change
from flatout.store import Item, RunFile
from flatout.store.course import Happening
from flatout.tasks.closing import reading

from .counters import add_up, over, parts
from .given import COST, MOST_DEATHS, STATE, Given
from .member import GRACE, Answers, Member
from .messages import Account, Report, fault
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
        divides: whether the workers divide the concurrency among them, and do not share their limits.
        steered: hears of a change first, may refuse it, and tells the most rows under way at once from then on.

    Attributes:
        sent: how many attempts were sent.
        counts: how many rows ended in each state.
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
        divides: bool = False,
        steered: Callable[[Change], int] = lambda _: 1,
    ) -> None:
        self.sent = 0
        self.counts = {"answered": 0, "failed": 0, "unsent": 0}
        self._most = most
        self._windows = parts(window, most)
        self._changes: list[Change] = []
        self._skips = Skips()
        self._over: Over = nobody
        self._taken_back: Counter[str] = Counter()  # rows that were counted as failed and are asked again, by class
        self._outset = outset
        self._store = store
        self._purse = purse
        self._progress = progress
        self._keep_prompts = keep_prompts
        self._port = metrics
        self._heard = heard
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
        self._over = over
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
        what = change.in_words()
        self._store.note_happening(Happening(at=time.time(), kind="change", target=change.target, what=what, by=by))
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
        self.counts[item.state] -= 1
        self._taken_back[item.error or ""] += 1

    def _part(self, change: Change, number: int) -> Change:
        """What one worker is told of a change."""
        most = change.limits.get("concurrency")
        if not self._divides or most is None:
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
            divides=self._divides,
        )
        for name, count in self._taken_back.items():
            forget(progress.failures, name, count)
        progress.elapsed = asyncio.get_running_loop().time() - progress.started
        progress.answered, progress.failed = self.counts["answered"], self.counts["failed"]
        progress.held = self.counts["unsent"]
        progress.cost, progress.unpriced = self._purse.spent, self._purse.unknown

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
        self._begin(self._commit(member))
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

    def _pass_on(self, report: Report) -> None:
        """Log what a worker logs, and write down the course of its targets."""
        for level, text in report.logged:
            _log.log(level, "%s", text)
        for stretch in report.stretches:
            self._store.note_stretch(stretch)
        for happening in report.happenings:
            self._store.note_happening(happening)

    def _take(self, member: Member, report: Report) -> None:
        self._still_born = 0
        self._settle(member, report.account)
        self._pass_on(report)
        if report.failure is not None:
            self._fail(fault(*report.failure))
        if report.metrics and self._metrics is not None:
            self._metrics.hear(member, report.metrics)
        if report.notes:
            self._begin(self._note(member, report))
        for index, attempt in report.unpaid:
            self._store.note_unpaid(index, attempt)
            if (given := member.rows.get(index)) is not None:
                given.tries.pop(attempt, None)
        for index in report.dropped:
            member.rows.pop(index, None)
        for ticket, cost in report.released:
            self._purse.release(member.open.pop(ticket), cost)
        for ticket, kind, worst in report.reserves:
            self._begin(self._reserve(member, ticket, kind, worst))
        if report.items or report.progress is not None:
            self._write(member, report)
        self._changed()

    async def _note(self, member: Member, report: Report) -> None:
        """Write attempts down, and let them go."""
        commit = self._store.note_all(report.notes)
        for index, attempt, _, _, estimate, *_ in report.notes:
            if (given := member.rows.get(index)) is not None:
                given.tries[attempt] = estimate
        await commit
        self.sent += len(report.notes)
        member.order.noted.extend(index for index, *_ in report.notes)

    def _write(self, member: Member, report: Report) -> None:
        """Write rows down that have ended."""
        rows, keep = member.rows, self._keep_prompts
        if self._heard is not None:
            for item in report.items:
                self._heard(rows[item[0]].work, item[COST])
        commit = self._store.finish_all([rows.pop(item[0]).complete(item, keep_prompts=keep) for item in report.items])
        states, indices = [item[STATE] for item in report.items], [item[0] for item in report.items]
        member.uncommitted += len(states)
        member.answers.put_nowait(Answers(commit, states, indices, report.progress))

    async def _commit(self, member: Member) -> None:
        """Count a worker's answers when they are in the run file, in their order."""
        while True:
            answers = await member.answers.get()
            await answers.commit
            member.uncommitted -= len(answers.states)
            for state in answers.states:
                self.counts[state] += 1
            for index in answers.rows:
                self._over(index)
            if answers.progress is not None:
                member.told = answers.progress
            self._changed()

    # Money

    def _settle(self, member: Member, account: Account) -> None:
        """Take over what a worker has spent since its last report."""
        before, member.account = member.account, account
        spent, reckoned = account.spent - before.spent, account.reckoned - before.reckoned
        self._purse.add(spent, account.unknown - before.unknown, reckoned)

    async def _reserve(self, member: Member, ticket: int, kind: str, worst: float) -> None:
        try:
            held = await self._purse.reserve(kind, worst)
        except BudgetExceeded as error:
            member.order.refused.append((ticket, str(error)))
            return
        if member.ended.done():
            self._purse.release(held, None)
        else:
            member.open[ticket] = held
            member.order.granted.append(ticket)

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
        await self._write_off(member, rows)
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

    async def _write_off(self, member: Member, rows: dict[int, Given]) -> None:
        """Count what a dead worker had in flight as spent, and free what it had reserved."""
        lost: list[tuple[int, int]] = []
        for index, given in rows.items():
            given.deaths += 1
            lost.extend((index, attempt) for attempt in given.tries)
            known = [cost for cost in given.tries.values() if cost != 0.0]  # 0.0: the model costs nothing
            self._purse.add(0.0, len(known), sum(cost or 0.0 for cost in known))
            given.tries.clear()
        for held in member.open.values():
            self._purse.release(held, None)
        member.open.clear()
        await self._store.lose(lost)

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
