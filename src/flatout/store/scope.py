"""A budget that the processes of one machine share: a small SQLite file for each scope.

A process borrows some money, spends it without looking at the file again, and borrows more before it runs out. So a
call costs nothing extra. What is lent is committed before it is spent, and only its borrower gives it back. So all
processes together never spend more than the budget, whenever one of them is killed: what it had borrowed counts as
spent, until somebody knows how much of it was. The next process that continues its run file does.

A borrower holds a lock on a byte of a side file, which the system drops when the process ends, however it ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import time
import uuid
import weakref
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from flatout.errors import ConfigError
from flatout.money.lending import Borrower
from flatout.policies.spending import Loan
from flatout.presence import Presence
from flatout.values.budget import Budget

from . import byte_locks
from .database import transaction
from .queries import queries

_SQL = queries("scope")
_APPLICATION_ID = 0x464C4142
"""SQLite's field for the program that owns a file: "FLAB"."""

_PORTION = 0.02
"""The share of a budget to borrow at a time, if less is needed. A borrower that gives back what it does not need lives
long, and may be killed at any time: it borrows what it needed since it gave back before, and twice as much if that is
used up, but no more than this share."""

_REST = 0.25
"""The largest share of what is left to borrow at a time, if less is needed: others want to go on, too."""

_BUSY = 10.0
"""Seconds to wait for other processes. Each one holds the file for a few milliseconds."""


class Scope:
    """Lends money from a shared budget.

    Args:
        budget: the budget; its ``shared`` is not None.
        folder: where the file is kept.
        wall: the wall clock, in seconds since the epoch.
    """

    def __init__(self, budget: Budget, folder: Path, wall: Callable[[], float] = time.time) -> None:
        self._budget = budget
        self._wall = wall
        self._process = uuid.uuid4().hex
        self._period = ""  # of the last loan
        self._borrowed = 0.0  # in all
        self._portion = _PORTION * budget.usd  # to lend at a time, if less is needed
        self._lately = 0.0  # lent since some was given back
        self._lives: weakref.finalize[[int], Scope] | None = None  # what ends this borrower's lock
        self._turn = asyncio.Lock()
        self._borrower: Borrower | None = None
        self._path = place_of(folder, budget.per, budget.shared or "")
        self._presence = Presence(self._make)

    def __repr__(self) -> str:
        return f"Scope({self._budget}, borrowed=${self._borrowed:.4f})"

    def check(self) -> None:
        """See `flatout.money.lending.Lender`. It makes the file if the file is missing."""
        self._presence.check()

    def _make(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            with closing(opened(self._path)) as file:
                application, version = file.execute(_SQL["identity"]).fetchone()
                if application not in (0, _APPLICATION_ID) or version != 0:
                    wrong = f"{self._path} is not a file of this flatout"
                    raise ConfigError(f"the budget {self._budget} cannot be kept: {wrong}")
                for statement in ("create", "create_about", "create_borrowers", "name"):
                    file.execute(_SQL[statement])
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None

    @property
    def borrower(self) -> str:
        """The name under which this process borrows."""
        return self._process

    def attend(self, borrower: Borrower) -> None:
        """Nothing to ask: what is lent stays lent until it is given back, and the system tells who lives."""
        self._borrower = borrower

    async def lend(self, need: float, used: float) -> Loan:
        """See `flatout.money.lending.Lender`."""
        async with self._turn:
            return await asyncio.to_thread(self._lend, need, used)

    async def take_over(self, usd: float, at: float) -> bool:
        """See `flatout.money.lending.Lender`. Nobody's money becomes this process's: the sum stays as it is."""
        async with self._turn:
            return await asyncio.to_thread(self._take_over, usd, at)

    async def give_back(self, usd: float) -> bool:
        """See `flatout.money.lending.Lender`."""
        if self._borrower is not None:
            self._borrower.lose(usd)  # first, so that nobody reserves it meanwhile
        async with self._turn:
            try:
                await asyncio.to_thread(self._give_back, usd)
            except ConfigError:
                if self._borrower is not None:
                    self._borrower.lose(-usd)  # it still has it, and may try again
                raise
        return True

    async def close(self, used: float) -> None:
        """See `flatout.money.lending.Lender`. A scope that lent nothing does not touch its file."""
        if not self._period:
            return
        async with self._turn:
            await asyncio.to_thread(self._settle, used)

    def left(self) -> float:
        """US dollars that nobody holds in this period."""
        try:
            with closing(self._opened()) as file:
                return self._left(file, self._now())
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def take_back(self, borrower: str, spent: float) -> None:
        """Settle the loan of a process that has ended: it has spent this much at most, since it borrowed first.

        Nothing is done while it lives, or if that cannot be told.

        Raises:
            ConfigError: the file cannot be used.
        """
        if (descriptor := sign_of_life(self._path, borrower)) is None:
            return
        os.close(descriptor)
        try:
            with closing(self._opened()) as file, transaction(file):
                for period, usd in file.execute(_SQL["loans_of"], (borrower,)).fetchall():
                    file.execute(_SQL["leave"], (period, borrower))
                    file.execute(_SQL["lend"], (period, "", min(usd, spent)))
                file.execute(_SQL["forget"], (borrower,))
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def _lend(self, need: float, used: float) -> Loan:
        period = self._now()
        self._live()
        try:
            with closing(self._opened()) as file, transaction(file):
                if self._period not in ("", period):
                    self._move(file, period, max(0.0, self._borrowed - used))
                self._period = period
                left = self._left(file, period)
                if need > left:
                    return Loan(0.0, left)
                usd = max(need, min(self._portion, _REST * left))
                file.execute(_SQL["lend"], (period, self._process, usd))
                file.execute(_SQL["tell"], (self._budget.per, self._budget.shared, self._budget.usd))
                file.execute(_SQL["borrow"], (self._process, os.getpid(), self._wall()))
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        self._borrowed += usd
        self._lately += usd
        self._portion = min(2 * usd, _PORTION * self._budget.usd)
        return Loan(usd, left - usd)

    def _live(self) -> None:
        """Show that this borrower lives, as long as it does."""
        self.check()  # the lock is beside the file
        if self._lives is None and (descriptor := sign_of_life(self._path, self._process)) is not None:
            self._lives = weakref.finalize(self, os.close, descriptor)

    def _take_over(self, usd: float, at: float) -> bool:
        period = self._now()
        if self._name_of(at) != period or self._period not in ("", period):
            return False
        self._live()
        try:
            with closing(self._opened()) as file, transaction(file):
                file.execute(_SQL["lend"], (period, "", -usd))
                file.execute(_SQL["lend"], (period, self._process, usd))
                file.execute(_SQL["borrow"], (self._process, os.getpid(), self._wall()))
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        self._period = period
        self._borrowed += usd
        return True

    def _give_back(self, usd: float) -> None:
        try:
            with closing(self._opened()) as file:
                file.execute(_SQL["lend"], (self._period, self._process, -usd))
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        self._borrowed -= usd
        self._portion = min(max(0.0, self._lately - usd), _PORTION * self._budget.usd)
        self._lately = 0.0

    def _settle(self, used: float) -> None:
        """Give back what is not used, and keep what is used in one row for all processes."""
        try:
            with closing(self._opened()) as file, transaction(file):
                self._move(file, self._period, 0.0, max(0.0, self._borrowed - used))
                file.execute(_SQL["forget"], (self._process,))
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        self._period = ""
        self._borrowed = used
        if self._lives is not None:
            self._lives()
            self._lives = None

    def _move(self, file: sqlite3.Connection, period: str, rest: float, given: float = 0.0) -> None:
        """Close the account of the last loan's period. The rest of the money goes to ``period``, or is given back."""
        (own,) = file.execute(_SQL["own"], (self._period, self._process)).fetchone()
        file.execute(_SQL["leave"], (self._period, self._process))
        file.execute(_SQL["lend"], (self._period, "", max(0.0, own - rest - given)))
        if rest:
            file.execute(_SQL["lend"], (period, self._process, rest))

    def _left(self, file: sqlite3.Connection, period: str) -> float:
        (held,) = file.execute(_SQL["held"], (period,)).fetchone()
        return self._budget.usd - float(held)

    def _now(self) -> str:
        return self._name_of(self._wall())

    def _name_of(self, at: float) -> str:
        return period_at(self._budget.per, at)

    def _opened(self) -> sqlite3.Connection:
        self.check()
        return opened(self._path)

    def _unusable(self, error: Exception) -> ConfigError:
        why = getattr(error, "strerror", None) or error
        return ConfigError(f"the budget {self._budget} cannot be kept in {self._path}: {why}")


def place_of(folder: Path, per: str, scope: str) -> Path:
    """The file of a scope. Names never become paths. Each kind of period has a file of its own."""
    mark = hashlib.sha256(f"{per}\0{scope}".encode()).hexdigest()[:24]
    return folder / f"{mark}.budget"


def opened(path: Path) -> sqlite3.Connection:
    """A connection to a scope's file."""
    file = sqlite3.connect(path, isolation_level=None, timeout=_BUSY)
    file.execute(_SQL["durable"])
    return file


def period_at(per: str, at: float) -> str:
    """The name of the period at a time, which is in seconds since the epoch."""
    return time.strftime({"run": "all", "day": "%Y-%m-%d", "month": "%Y-%m"}[per], time.gmtime(at))


def sign_of_life(path: Path, borrower: str) -> int | None:
    """Lock the byte of a borrower. Returns the descriptor that holds it; None if there is no such lock, or it is taken.

    The side file stays empty.
    """
    if byte_locks.SET_LOCK is None:
        return None
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path.with_suffix(".borrowers"), flags, 0o600)
    except OSError:
        return None
    with suppress(OSError):
        if byte_locks.lock(descriptor, int(borrower[:14], 16)):
            return descriptor
    os.close(descriptor)
    return None
