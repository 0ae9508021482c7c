"""Notice that a run file has disappeared during its run, and save what the run had.

A file that was deleted, moved or replaced stays open. SQLite would go on writing into a file that nobody will find
again, and the whole rest of the run would be paid for nothing. Checking the file's name after each commit costs a
microsecond.

If the file is gone, the content of the open file is copied, and put back if nothing else has taken its place.
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
    """What the system knows about a file."""

    identity: tuple[int, int]
    size: int
    changed_at: int


class Watch:
    """Guards one run file, in the thread that writes it.

    Args:
        place: where the file should be.
        connection: the writing connection.
    """

    def __init__(self, place: Place, connection: sqlite3.Connection) -> None:
        self._place = place
        self._connection = connection
        self._last = _file_state(place.path)
        self._log = _file_state(place.beside("-wal"))
        self._foreign = self._one(_CONNECTION["data_version"])
        self._created_at = self._one(_SQL["created_at"])
        self._items = int(self._one(_SQL["items"]))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block that writes.

        Raises:
            StoreError: before the block: another program wrote to the file, and results are missing. After it: the
                file is no longer in its place; the message says where its content was saved.
        """
        self._check_changes()
        yield
        self._items = int(self._one(_SQL["items"]))
        self.check_place()

    def check_place(self) -> None:
        """Check that the file is still in its place.

        Raises:
            StoreError: it is not; the message says where its content was saved.
        """
        state = _file_state(self._place.path)
        if self._last is not None and (state is None or state.identity != self._last.identity):
            raise self._rescue("deleted or moved" if state is None else "replaced")
        self._last = state

    def check_whole(self) -> None:
        """Compare the number of results in the file with the number that was ever written.

        Raises:
            StoreError: some are missing, or the file cannot be read.
        """
        self._place.check_not_emptied()
        with closing(connect(self._place, "ro")) as other:  # the writing connection might answer from its own cache
            there, written = other.execute(_SQL["whole"]).fetchone()
        known = max(written, self._items)
        if there < known:
            raise RunDamaged(
                f"{self._place.name} was changed by another program while this run wrote it: "
                f"{there:,} of its {known:,} results are left"
            )

    def _check_changes(self) -> None:
        state, foreign = _file_state(self._place.path), self._one(_CONNECTION["data_version"])
        if state is None or self._last is None or state.identity != self._last.identity:
            return  # `check_place` reports this after the coming transaction, whose content is then saved too
        if state != self._last and not self._is_this_run():
            raise self._rescue("overwritten")
        if state != self._last or foreign != self._foreign:
            self.check_whole()
            self._last, self._foreign = state, foreign

    def _is_this_run(self) -> bool:
        """Whether the file by itself, without its log, still belongs to this run."""
        try:
            with closing(connect(self._place, "immutable")) as alone:
                return bool(alone.execute(_SQL["created_at"]).fetchone() == (self._created_at,))
        except sqlite3.Error:
            return False

    def _one(self, statement: str) -> Any:
        return self._connection.execute(statement).fetchone()[0]

    def _rescue(self, how: str) -> StoreError:
        """Copy what is still open to another file; return the error that says where."""
        what = f"{self._place.name} was {how} while this run wrote it"
        try:
            kept = self._copy()
            self._connection.close()
            self._remove_log()
            if not self._place.path.exists():
                kept.rename(self._place.path)
                return StoreError(f"{what}: it was put back, with all its answers; run it again to continue")
        except (OSError, sqlite3.Error) as error:
            return StoreError(f"{what}, and what it held could not be kept ({error})")
        return StoreError(f"{what}: what the run had is kept in {kept}; move it to the old place to continue")

    def _remove_log(self) -> None:
        """Remove the log of the file that is gone. SQLite would take it for the log of the file that is there now."""
        log = _file_state(self._place.beside("-wal"))
        if log is not None and self._log is not None and log.identity == self._log.identity:
            self._place.beside("-wal").unlink()
            self._place.beside("-shm").unlink(missing_ok=True)

    def _copy(self) -> Path:
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


def _file_state(path: Path) -> _FileState | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _FileState((found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns)
