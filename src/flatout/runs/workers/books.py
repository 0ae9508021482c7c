"""The books of a run with several workers: what they report goes into the run file, and what they spend is counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from flatout.errors import BudgetExceeded
from flatout.money.purse import Purse
from flatout.progress._counters import Progress, forget
from flatout.runs.alone import Over, nobody
from flatout.runs.work import Work
from flatout.store import Item, RunFile

from .given import COST, STATE, Given
from .member import Answers, Member
from .messages import Account, Report

_log = logging.getLogger("flatout")


class Books:
    """What the workers of one run have done.

    Args:
        store: the run file.
        purse: the money of the run.
        keep_prompts: whether the run file keeps the rows and the rendered calls.
        heard: hears of each row that has a result, and what it cost.
        changed: called when rows were counted.

    Attributes:
        sent: how many attempts were sent.
        over: hears of each row that is in the run file.
    """

    def __init__(
        self,
        store: RunFile,
        purse: Purse,
        *,
        keep_prompts: bool,
        heard: Callable[[Work, float | None], None] | None,
        changed: Callable[[], None],
    ) -> None:
        self.sent = 0
        self.over: Over = nobody
        self._store = store
        self._purse = purse
        self._keep_prompts = keep_prompts
        self._heard = heard
        self._changed = changed
        self._counts = {"answered": 0, "failed": 0, "unsent": 0}
        self._taken_back: Counter[str] = Counter()  # rows that were counted as failed and are asked again, by class

    def take(self, member: Member, report: Report) -> list[Coroutine[Any, Any, None]]:
        """Book what a worker reports. Returns what is left to do, and takes time."""
        self._settle(member, report.account)
        for level, text in report.logged:
            _log.log(level, "%s", text)
        for stretch in report.stretches:
            self._store.note_stretch(stretch)
        for happening in report.happenings:
            self._store.note_happening(happening)
        for index, attempt, billed in report.failed:
            self._store.note_failed(index, attempt, billed=billed)
            if not billed and (given := member.rows.get(index)) is not None:
                given.tries.pop(attempt, None)
        for index in report.dropped:
            member.rows.pop(index, None)
        for ticket, cost in report.released:
            self._purse.release(member.open.pop(ticket), cost)
        if report.items or report.progress is not None:
            self._write(member, report)
        noting = [self._note(member, report)] if report.notes else []
        return noting + [self._reserve(member, ticket, kind, worst) for ticket, kind, worst in report.reserves]

    async def commit(self, member: Member) -> None:
        """Count a worker's answers when they are in the run file, in their order. It never ends."""
        while True:
            answers = await member.answers.get()
            await answers.commit
            member.uncommitted -= len(answers.states)
            for state in answers.states:
                self._counts[state] += 1
            for index in answers.rows:
                self.over(index)
            if answers.progress is not None:
                member.told = answers.progress
            self._changed()

    async def write_off(self, member: Member, rows: dict[int, Given]) -> None:
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

    def take_back(self, item: Item) -> None:
        """Count a row no longer that was over, and is asked again."""
        self._counts[item.state] -= 1
        self._taken_back[item.error or ""] += 1

    def refresh(self, progress: Progress) -> None:
        """Bring rows and money up to date, in counters that the workers' own were added up to."""
        for name, count in self._taken_back.items():
            forget(progress.failures, name, count)
        progress.answered, progress.failed = self._counts["answered"], self._counts["failed"]
        progress.held = self._counts["unsent"]
        progress.cost, progress.unpriced = self._purse.spent, self._purse.unknown

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

    def _settle(self, member: Member, account: Account) -> None:
        """Take over what a worker has spent since its last report."""
        before, member.account = member.account, account
        spent, reckoned = account.spent - before.spent, account.reckoned - before.reckoned
        self._purse.add(spent, account.unknown - before.unknown, reckoned)

    async def _reserve(self, member: Member, ticket: int, kind: str, worst: float) -> None:
        """Reserve the money of a worker's attempt, or tell it that there is none."""
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
