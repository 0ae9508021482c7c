"""Looks at the budgets that processes share, and mends them; `flatout.store.scope` lends from them."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from flatout.errors import ConfigError
from flatout.values.accounts import Account, Lent, end_of

from . import byte_locks
from .database import transaction
from .queries import queries
from .scope import opened, period_at, place_of, sign_of_life

_SQL = queries("scope")


def accounts(folder: Path, wall: Callable[[], float] = time.time) -> Iterator[Account]:
    """How each budget stands, in the order of their names. Files that are none are left out."""
    found = []
    for path in folder.glob("*.budget"):
        with suppress(sqlite3.Error, OSError):
            found.append(_account(path, wall()))
    yield from sorted(filter(None, found), key=lambda account: (account.per, account.scope))


def account(folder: Path, per: str, scope: str, wall: Callable[[], float] = time.time) -> Account | None:
    """How one budget stands; None if nobody has borrowed from it."""
    path = place_of(folder, per, scope)
    if not path.exists():
        return None
    try:
        return _account(path, wall())
    except sqlite3.Error as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def mend(folder: Path, per: str, scope: str, spent: float, wall: Callable[[], float] = time.time) -> Account:
    """Set what is spent in this period, and take back what processes had borrowed that have ended.

    Raises:
        ConfigError: there is no such budget, or its file cannot be used.
    """
    now, path = wall(), place_of(folder, per, scope)
    before = account(folder, per, scope, wall)
    if before is None:
        raise ConfigError(f"nobody has borrowed from a budget {per}:{scope}; flatout budget ls shows those there are")
    try:
        with closing(opened(path)) as file, transaction(file):
            period = period_at(per, now)
            for lent in before.lent:
                if not lent.alive:
                    file.execute(_SQL["leave"], (period, lent.borrower))
                    file.execute(_SQL["forget"], (lent.borrower,))
            file.execute(_SQL["spend"], (period, spent))
        after = _account(path, now)
    except sqlite3.Error as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None
    assert after is not None
    return after


def _account(path: Path, now: float) -> Account | None:
    with closing(opened(path)) as file:
        about = file.execute(_SQL["about"]).fetchone()
        if about is None:
            return None
        per, scope, usd = about
        period = period_at(per, now)
        (spent,) = file.execute(_SQL["own"], (period, "")).fetchone()
        loans = file.execute(_SQL["loans"], (period,)).fetchall()
    lent = tuple(Lent(who, lent, pid, since, _is_alive(path, who)) for who, lent, pid, since in loans)
    return Account(per, scope, usd, spent, lent, end_of(per, now))


def _is_alive(path: Path, borrower: str) -> bool:
    """Whether a borrower's lock is held; true if that cannot be seen."""
    if byte_locks.SET_LOCK is None:
        return True
    descriptor = sign_of_life(path, borrower)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False
