"""Notices that a run file is gone from under its run, and keeps what the run had.

A file that was deleted, moved or replaced is still open: SQLite goes on writing into what nobody will find again, and
the run would pay to its end for nothing. One look at the file's name after each commit costs a microsecond.

What the open file holds is copied out whole, and put back where nothing stands in its place.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from flatout.errors import RunDamaged, StoreError

from .database import Place, connect
from .queries import queries

_SQL = queries("run")
_CONNECTION = queries("connection")


class _FileState(NamedTuple):
    """What the system tells of a file."""

    identity: tuple[int, int]
    size: int
    changed_at: int


class Watch:
    """Looks after one run file, in the thread that writes it.

    Args:
        place: where it should be.
        connection: the one that writes it.
    """

    def __init__(self, place: Place, connection: sqlite3.Connection) -> None:
        self._place = place
        self._connection = connection
        self._last = _look(place.path)
        self._log = _look(place.beside("-wal"))
        self._foreign = self._one(_CONNECTION["data_version"])
        self._created_at = self._one(_SQL["created_at"])
        self._items = int(self._one(_SQL["items"]))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block that writes.

        Raises:
            StoreError: before it, somebody else has written, and results are missing; or after it, the file is gone
                from its place, and what it held was kept where the message says.
        """
        self._check_changes()
        yield
        self._items = int(self._one(_SQL["items"]))
        self.check_place()

    def check_place(self) -> None:
        """See whether the file is still where it was.

        Raises:
            StoreError: it is not; what it held was kept where the message says.
        """
        look = _look(self._place.path)
        if self._last is not None and (look is None or look.identity != self._last.identity):
            raise self._rescued("deleted or moved" if look is None else "replaced")
        self._last = look

    def check_whole(self) -> None:
        """Compare the results that are there with those that were ever written.

        Raises:
            StoreError: some are missing, or the file cannot be read.
        """
        self._place.check_not_emptied()
        with closing(connect(self._place, "ro")) as other:  # the one that writes might tell what it remembers
            there, written = other.execute(_SQL["whole"]).fetchone()
        known = max(written, self._items)
        if there < known:
            raise RunDamaged(
                f"{self._place.name} was changed by another program while this run wrote it: "
                f"{there:,} of its {known:,} results are left"
            )

    def _check_changes(self) -> None:
        look, foreign = _look(self._place.path), self._one(_CONNECTION["data_version"])
        if look is None or self._last is None or look.identity != self._last.identity:
            return  # told once the transaction that comes now is kept too
        if look != self._last and not self._is_this_run():
            raise self._rescued("overwritten")
        if look != self._last or foreign != self._foreign:
            self.check_whole()
            self._last, self._foreign = look, foreign

    def _is_this_run(self) -> bool:
        """Whether the file by itself, without what its log has, is still this run's."""
        try:
            with closing(connect(self._place, "immutable")) as alone:
                return bool(alone.execute(_SQL["created_at"]).fetchone() == (self._created_at,))
        except sqlite3.Error:
            return False

    def _one(self, statement: str) -> Any:
        return self._connection.execute(statement).fetchone()[0]

    def _rescued(self, how: str) -> StoreError:
        """Copy what is still open to a file of its own; say where."""
        what = f"{self._place.name} was {how} while this run wrote it"
        try:
            kept = self._copied()
            self._connection.close()
            self._remove_log()
            if not self._place.path.exists():
                kept.rename(self._place.path)
                return StoreError(f"{what}: it was put back, with all its answers; run it again to go on")
        except (OSError, sqlite3.Error) as error:
            return StoreError(f"{what}, and what it held could not be kept ({error})")
        return StoreError(f"{what}: what the run had is kept in {kept}; put it in its place to go on")

    def _remove_log(self) -> None:
        """Remove the log of the file that is gone: SQLite would take it for the log of whatever stands there now."""
        log = _look(self._place.beside("-wal"))
        if log is not None and self._log is not None and log.identity == self._log.identity:
            self._place.beside("-wal").unlink()
            self._place.beside("-shm").unlink(missing_ok=True)

    def _copied(self) -> Path:
        kept = next(path for n in count(1) if not (path := self._place.beside(f".rescued-{n}")).exists())
        descriptor = os.open(kept, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            self._connection.execute(_CONNECTION["copy"], (str(kept),))
            os.fsync(descriptor)
        except BaseException:
            with suppress(OSError):
                kept.unlink()
            raise
        finally:
            os.close(descriptor)
        return kept


def _look(path: Path) -> _FileState | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _FileState((found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns)
