"""The run file and the purse, as a worker sees them: what it asks of them, the parent does."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from itertools import count

import msgspec

from flatout.errors import BudgetExceeded
from flatout.money.purse import Purse
from flatout.policies.spending import Reservation, Shape
from flatout.progress._counters import Progress
from flatout.store import Item
from flatout.store.course import Happening, Stretch
from flatout.values import Budget

from .messages import Account, Order, Report

TOGETHER = 0.003
"""Seconds for which a worker gathers what it has to say."""

OWN = slice(2, 5)
"""The values of an Item that the parent fills in: the fingerprint, the input's row and the rendered call."""


_NOT_HERE = Shape()
"""Stands for the shapes that the parent learns."""


class Outbox:
    """Gathers what a worker has to say.

    Args:
        send: sends a report.
        account: what the worker has spent.
    """

    def __init__(self, send: Callable[[Report], None], account: Callable[[], Account]) -> None:
        self._send = send
        self._account = account
        self._report: Report | None = None

    @property
    def report(self) -> Report:
        """What will be sent next; to be added to."""
        if self._report is None:
            self._report = Report()
            asyncio.get_running_loop().call_later(TOGETHER, self.flush)
        return self._report

    def flush(self) -> None:
        """Send what was gathered now."""
        report, self._report = self._report, None
        if report is not None:
            report.account = self._account()
            self._send(report)


class RemoteFile:
    """The run file of the parent; see `flatout.durable.attempts.AttemptFile`."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}  # a row may have two attempts: the second is a hedge

    async def note_attempt(
        self,
        index: int,
        attempt: int,
        target: str,
        started_at: float,
        estimated_cost: float | None,
        place: str | None = None,
        after: str | None = None,
    ) -> None:
        """See `flatout.store.RunFile.note_attempt`."""
        noted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(index, deque()).append(noted)
        note = (index, attempt, target, started_at, estimated_cost, place, after)
        self._outbox.report.notes.append(note)
        await noted

    def note_failed(self, index: int, attempt: int, place: str | None = None, *, billed: bool) -> None:
        """See `flatout.store.RunFile.note_failed`."""
        self._outbox.report.failed.append((index, attempt, billed))

    def note_stretch(self, stretch: Stretch, /) -> None:
        """See `flatout.store.RunFile.note_stretch`."""
        self._outbox.report.stretches.append(stretch)

    def note_happening(self, happening: Happening, /) -> None:
        """See `flatout.store.RunFile.note_happening`."""
        self._outbox.report.happenings.append(happening)

    def finish(self, item: Item, progress: Progress) -> None:
        """Hand over a finished row, and the counters that have it in them."""
        values = list(msgspec.structs.astuple(item))
        values[OWN] = [None, None, None]
        report = self._outbox.report
        report.items.append(values)
        report.progress = progress

    def hear(self, order: Order) -> None:
        """Let the attempts go that are in the run file now."""
        for index in order.noted:
            waiting = self._waiting[index]
            noted = waiting.popleft()
            if not waiting:
                del self._waiting[index]
            if not noted.done():  # otherwise the call was cancelled
                noted.set_result(None)


class Ticket(Reservation):
    """A reservation that lies with the parent."""

    __slots__ = ("number",)

    def __init__(self, number: int, worst: float) -> None:
        super().__init__(_NOT_HERE, worst)
        self.number = number


class LentPurse(Purse):
    """A purse whose money lies with the parent, because all workers spend it."""

    asks = True

    __slots__ = ("_asked", "_outbox", "_tickets")

    def __init__(self, budget: Budget | float | None, outbox: Outbox) -> None:
        super().__init__(budget)
        self._outbox = outbox
        self._tickets = count()
        self._asked: dict[int, tuple[Ticket, asyncio.Future[None]]] = {}

    @property
    def account(self) -> Account:
        """What this worker has spent so far."""
        return Account(self.spent, self.unknown, self.reckoned)

    def take(self, kind: Hashable, worst: float) -> Reservation | None:
        """Nothing can be reserved without waiting for the parent."""
        return None

    async def reserve(self, kind: Hashable, worst: float) -> Reservation:
        """See `Purse.reserve`."""
        ticket, granted = Ticket(next(self._tickets), worst), asyncio.get_running_loop().create_future()
        self._asked[ticket.number] = ticket, granted
        self._outbox.report.reserves.append((ticket.number, str(kind), worst))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(ticket, None)  # granted and cancelled in one turn of the loop
            raise
        return ticket

    def release(self, held: Reservation, cost: float | None) -> None:
        """See `Purse.release`."""
        assert isinstance(held, Ticket)
        self._outbox.report.released.append((held.number, cost))

    def hear(self, order: Order) -> None:
        """Let the attempts go that the budget has room for, and fail the others."""
        for number in order.granted:
            ticket, granted = self._asked.pop(number)
            if granted.done():  # cancelled
                self.release(ticket, None)
            else:
                granted.set_result(None)
        for number, why in order.refused:
            _, granted = self._asked.pop(number)
            if not granted.done():
                granted.set_exception(BudgetExceeded(why))


class RemoteLog(logging.Handler):
    """Sends what a worker logs to the parent, which knows where its user wants to see it."""

    def __init__(self, outbox: Outbox, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._outbox = outbox
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record's line; from any thread."""
        line = (record.levelno, record.getMessage())
        with suppress(RuntimeError):  # the loop is closed, and the parent is told no more
            self._loop.call_soon_threadsafe(lambda: self._outbox.report.logged.append(line))
