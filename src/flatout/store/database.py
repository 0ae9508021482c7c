"""Open the SQLite file: connections, whose file it is, and what SQLite's errors mean.

Once a run file exists, only SQLite may open it. SQLite uses POSIX locks. The system drops them for the whole process as
soon as any descriptor of the file is closed. So even a harmless look at the first bytes would unlock a run that another
part of the program is reading or writing.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from sys import getsizeof
from typing import Any, NamedTuple

from flatout.errors import RunDamaged, StoreError

from .queries import migrations, queries

APPLICATION_ID = 0x464C4154
"""SQLite's field for the program that owns a file: "FLAT"."""

_SQL = queries("connection")
_BUSY_SECONDS = 30.0
"""How long to wait for another program that has locked the file, such as a database browser."""

_MOST_BYTES = 4 * 1024 * 1024
"""Bytes of long rows that are in memory at once, beside one row more."""

_FULL_BELOW = 1 << 20
"""Free bytes below which a failed write counts as a full disk, whatever SQLite calls it."""


class RunNotBegun(StoreError):
    """The file is there, but no run has begun in it yet: a process is creating it, or died while it did."""


class Place(NamedTuple):
    """Where a run file is: as the user wrote it, for messages, and its real path."""

    name: str
    path: Path

    @classmethod
    def to(cls, path: str | os.PathLike[str]) -> Place:
        """The place, whatever is there. Links are resolved: all names of a file lead to the same lock and log."""
        return cls(os.fspath(path), Path(os.path.realpath(path)))  # `Path.resolve` fails at a link to itself

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Place:
        place = cls.to(path)
        if place.path.is_dir():
            raise StoreError(f"{place.name} is a folder; a run is kept in a file")
        if not place.path.parent.is_dir():
            raise StoreError(f"there is no folder {Path(path).parent} to keep {place.path.name} in")
        return place

    def beside(self, suffix: str) -> Path:
        """A file that goes with the run file, such as ``-wal`` or ``.lock``."""
        return self.path.with_name(self.path.name + suffix)

    def size(self, suffix: str = "") -> int:
        """Bytes of the run file, or of a file that goes with it; 0 if it does not exist."""
        try:
            return self.beside(suffix).stat().st_size
        except FileNotFoundError:
            return 0

    def is_empty(self) -> bool:
        """Whether SQLite takes the file for a new one. For old systems' sake, it treats a single byte as none."""
        return self.size() <= 1

    def check_not_emptied(self) -> None:
        """Refuse a file that lost all its bytes: SQLite would delete its log, and the answers in it."""
        if self.path.exists() and self.is_empty() and self.size("-wal") > 0:
            raise RunDamaged(f"{self.name} is damaged: it is empty, but the log beside it is not")


connection_class = sqlite3.Connection
"""Tests replace it with one that fails."""


def connect(place: Place, mode: str) -> sqlite3.Connection:
    """A connection that distrusts the file. ``mode``: ``ro``, ``rw``, ``rwc``, or ``immutable`` (no lock, no log)."""
    if mode == "rwc":
        _make(place)
    parameters = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    # check_same_thread: different threads open, write and close the connection, but never at the same time.
    connection = sqlite3.connect(
        f"{place.path.as_uri()}?{parameters}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        factory=connection_class,
        timeout=_BUSY_SECONDS,
    )
    try:
        for pragma in ("distrust", "check_cells", "no_mmap", "whole_flush", "whole_flush_at_checkpoints"):
            connection.execute(_SQL[pragma])
    except BaseException:
        connection.close()
        raise
    return connection


def _make(place: Place) -> None:
    """Create the file if it is missing, readable by its owner only. SQLite gives its log and index the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(place.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def version_of(connection: sqlite3.Connection, place: Place) -> int:
    """The schema's version; 0 if nothing was written yet.

    Raises:
        StoreError: it is another program's database.
        RunDamaged: its last page is incomplete; SQLite would fill it up with zeros.
    """
    application, version, tables, page_size = connection.execute(_SQL["identity"]).fetchone()
    if application == 0 and tables == 0:
        return 0
    if application != APPLICATION_ID:
        raise StoreError(f"{place.name} is an SQLite database of another program, not a run file")
    # If there is a log, a partial page may come from a power loss, and the log has the whole page.
    if place.size() % page_size and not place.size("-wal"):
        raise RunDamaged(f"{place.name} is damaged: its end is cut off")
    return int(version)


def check_version(version: int, place: Place) -> None:
    """Refuse a file that a newer flatout wrote: this version might spoil what it does not understand."""
    newest = len(migrations())
    if version > newest:
        raise StoreError(
            f"{place.name} was written by a newer flatout (version {version} of the run file; "
            f"this one knows {newest}): upgrade flatout"
        )


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables up to date, completely or not at all: who looks meanwhile sees no file between two versions."""
    if not (steps := "\n".join(migrations()[version:])):
        return
    try:
        connection.executescript(f"{_SQL['begin']};\n{steps}\n{_SQL['commit']};")
    except BaseException:
        take_back(connection)
        raise


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A block whose changes are committed together, or not at all."""
    connection.execute(_SQL["begin"])
    try:
        yield
    except BaseException:
        take_back(connection)
        raise
    connection.execute(_SQL["commit"])


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """A block that reads, and sees the file as it is at its beginning. Each read alone would take a lock."""
    connection.execute(_SQL["begin_to_read"])
    try:
        yield
    finally:
        take_back(connection)


def prepare_to_write(connection: sqlite3.Connection, place: Place) -> None:
    """Turn on the write-ahead log, and fsync every commit."""
    (mode,) = connection.execute(_SQL["write_ahead"]).fetchone()
    if mode != "wal":
        raise StoreError(f"{place.name} cannot be kept there: the file system does not allow a log; use a local disk")
    connection.execute(_SQL["durable"])
    connection.execute(_SQL["bound_log"])


def take_back(connection: sqlite3.Connection) -> None:
    """Roll back, if there is a transaction to roll back."""
    with suppress(sqlite3.Error):
        connection.execute(_SQL["rollback"])


def retire(connection: sqlite3.Connection) -> None:
    """Close, leaving a single file. If readers or the disk prevent that, the log stays beside it: nothing is lost."""
    try:
        with suppress(sqlite3.Error):
            connection.execute(_SQL["be_brief"])
            connection.execute(_SQL["checkpoint"])
            connection.execute(_SQL["one_file"])
    finally:
        with suppress(sqlite3.Error):
            connection.close()


def sync_folder(place: Place) -> None:
    """Make the file's name as durable as its content."""
    descriptor = os.open(place.path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot do this
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite read a database and found it broken. False if the file is not a database at all."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT or "decode to UTF-8" in str(error)


@contextmanager
def explained(place: Place) -> Iterator[None]:
    """Turn SQLite's errors into flatout's, in one sentence each."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, place) from error


def explain(error: sqlite3.Error, place: Place) -> StoreError:
    """The StoreError for an SQLite error."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind of error, the rest is detail
    if code == sqlite3.SQLITE_NOTADB:
        return RunDamaged(f"{place.name} is not a run file")
    if is_damage(error):
        return RunDamaged(f"{place.name} is damaged ({error}); flatout export --salvage recovers what is left")
    if code == sqlite3.SQLITE_BUSY:
        return StoreError(f"{place.name} is held by another program that reads or writes it")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(f"{place.name} cannot be opened: the file or its folder is read-only, or not yours")
    if "closed database" in str(error):
        return StoreError(f"{place.name} is closed")
    return StoreError(f"{place.name}: {what_failed(error, place)}")


def what_failed(error: BaseException, place: Place) -> str:
    """The machine's fault behind a failed write, as the start of a sentence."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    with suppress(OSError):
        if code == sqlite3.SQLITE_IOERR and shutil.disk_usage(place.path.parent).free < _FULL_BELOW:
            code = sqlite3.SQLITE_FULL
    if code == sqlite3.SQLITE_FULL:
        return "the disk is full"
    if code == sqlite3.SQLITE_IOERR:
        return f"the disk failed ({getattr(error, 'sqlite_errorname', error)})"
    if code == sqlite3.SQLITE_BUSY:
        return f"another program kept the file locked for {_BUSY_SECONDS:.0f} s"
    return f"writing failed ({error})"


def first_rows(cursor: sqlite3.Cursor, long: Sequence[int]) -> list[tuple[Any, ...]]:
    """The first rows of a query: as many as may be in memory at once, and at least one.

    Args:
        cursor: the query; it is ended.
        long: the numbers of the columns that may be long; at least two.
    """
    rows: list[tuple[Any, ...]] = []
    size, pick = 0, itemgetter(*long)
    with closing(cursor):
        for row in cursor:
            rows.append(row)
            size += sum(map(getsizeof, pick(row)))
            if size >= _MOST_BYTES:
                break
    return rows
