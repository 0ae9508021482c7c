"""The cache of answers: one SQLite file that many processes read and write at once.

The event loop never waits for it. Lookups of one turn of the loop go to a thread together. New answers are gathered and
written behind the calls, because losing the last of them in a crash costs only asking again. For the same reason a
cache that fails is given up with one warning, and never fails a call.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from flatout.errors import ConfigError
from flatout.values.kept import Kept

from . import database
from .database import Place
from .queries import queries

APPLICATION_ID = 0x464C4143
"""SQLite's field for the program that owns a file: "FLAC"."""

VERSION = 1

GATHER = 0.05
"""Seconds for which new answers are gathered before they are written."""

MOST = 500
"""New answers that are written at once."""

_SQL = queries("answers")
_CONNECTION = queries("connection")
_log = logging.getLogger("flatout")

_Asked = tuple[bytes, "asyncio.Future[Kept | None]"]
_New = tuple[bytes, Kept, Callable[[], bytes]]


class Entry(NamedTuple):
    """One answer of the cache, with its question.

    Attributes:
        key: the digest of the question.
        kept: the answer.
        asked: the question, as JSON.
    """

    key: bytes
    kept: Kept
    asked: bytes


class Size(NamedTuple):
    """How much is in a cache.

    Attributes:
        answers: how many.
        cost: US dollars that they cost together, as far as it is known.
        unpriced: how many of them have an unknown cost.
        oldest, newest: when they were given, in Unix seconds; None if there are none.
    """

    answers: int
    cost: float | None
    unpriced: int
    oldest: float | None
    newest: float | None


class Answers:
    """A cache of answers, for one event loop.

    Args:
        path: the file; made at the first answer if it is missing.

    Raises:
        ConfigError: the file cannot be used as a cache.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._place = Place(os.fspath(path), Path(path).resolve())
        opened(self._place).close()  # so that an unusable file is known before anything is sent
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "flatout cache")
        self._broken = False
        self._asked: list[_Asked] = []
        self._reading = False
        self._new: list[_New] = []
        self._unwritten: dict[bytes, Kept] = {}

    def __repr__(self) -> str:
        return f"Answers({self._place.name!r})"

    def get(self, key: bytes) -> asyncio.Future[Kept | None]:
        """The answer of a key; None if there is none, or if it cannot be read."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Kept | None] = loop.create_future()
        if self._broken or key in self._unwritten:
            found.set_result(self._unwritten.get(key))
            return found
        if not self._asked and not self._reading:
            loop.call_soon(self._look_up, loop)
        self._asked.append((key, found))
        return found

    def put(self, key: bytes, kept: Kept, describe: Callable[[], bytes]) -> None:
        """Keep an answer, soon. ``describe`` is called in the cache's thread."""
        if self._broken:
            return
        self._unwritten[key] = kept
        self._new.append((key, kept, describe))
        if len(self._new) == 1:
            asyncio.get_running_loop().call_later(GATHER, self._write)
        elif len(self._new) >= MOST:
            self._write()

    async def close(self) -> None:
        """Write what is not written yet, and close the file."""
        self._write()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._end)
        self._thread.shutdown(wait=False)

    def _look_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the thread what was asked since it was given something last."""
        asked, self._asked = self._asked, []
        self._reading = True

        def done(reading: asyncio.Future[list[Kept | None]]) -> None:
            self._reading = False
            _hand_out(asked, [] if reading.cancelled() or reading.exception() else reading.result())
            if self._asked:
                self._look_up(loop)

        loop.run_in_executor(self._thread, self._read, [key for key, _ in asked]).add_done_callback(done)

    def _write(self) -> None:
        if not self._new:
            return
        new, self._new = self._new, []
        loop = asyncio.get_running_loop()
        writing = self._thread.submit(self._insert, new)
        writing.add_done_callback(lambda done: self._written(done, new, loop))

    def _written(self, done: Future[None], new: list[_New], loop: asyncio.AbstractEventLoop) -> None:
        def forget() -> None:
            for key, kept, _ in new:
                if self._unwritten.get(key) is kept:
                    del self._unwritten[key]

        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(forget)

    # In the cache's thread

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = opened(self._place)
        return self._connection

    def _read(self, keys: list[bytes]) -> list[Kept | None]:
        found: list[Kept | None] = []
        try:
            connection = self._open()
            for key in keys:
                row = connection.execute(_SQL["get"], (key,)).fetchone()
                found.append(None if row is None else _kept(*row))
        except (sqlite3.Error, ConfigError, TypeError, ValueError) as error:
            self._give_up(error)
        return found

    def _insert(self, new: list[_New]) -> None:
        if self._broken:
            return
        try:
            rows = [(key, kept.at, kept.cost, kept.said, _described(describe)) for key, kept, describe in new]
            connection = self._open()
            with database.transaction(connection):
                connection.executemany(_SQL["put"], rows)
        except Exception as error:  # whatever it is, calls go on without the cache
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if not self._broken:
            self._broken = True
            _log.warning("the cache %s is not used any more: %s", self._place.name, _reason(error, self._place))

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _kept(at: Any, cost: Any, said: Any) -> Kept:
    return Kept(at=float(at), cost=None if cost is None else float(cost), said=bytes(said))


def _described(describe: Callable[[], bytes]) -> bytes:
    """The question for people; an answer is kept without it if a user's own classes fail to describe themselves."""
    try:
        return describe()
    except Exception:
        return b"{}"


def _hand_out(asked: list[_Asked], found: list[Kept | None]) -> None:
    """Give each caller its answer; None to all those for whom nothing could be read."""
    for place, (_, waiting) in enumerate(asked):
        if not waiting.done():
            waiting.set_result(found[place] if place < len(found) else None)


class AnswersReader:
    """A cache of answers, for commands. Use it with ``with``.

    Args:
        path: the file.

    Raises:
        ConfigError: there is no such file, or it is not a cache.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        place = Place(os.fspath(path), Path(path).resolve())
        if not place.path.exists():
            raise ConfigError(f"there is no cache {place.name}")
        self._connection = opened(place)

    def __enter__(self) -> AnswersReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def size(self) -> Size:
        """How much is in it."""
        return Size(*self._connection.execute(_SQL["size"]).fetchone())

    def entries(self) -> Iterator[Entry]:
        """All answers, the newest first."""
        for key, at, cost, said, asked in self._connection.execute(_SQL["all"]):
            yield Entry(key, _kept(at, cost, said), asked)

    def prune(self, before: float) -> int:
        """Remove the answers from before a time, and return their number."""
        removed = self._connection.execute(_SQL["prune"], (before,)).rowcount
        if removed:
            self._connection.execute(_SQL["shrink"])
        return removed


def opened(place: Place) -> sqlite3.Connection:
    """A connection to a cache that can be written.

    Raises:
        ConfigError: it cannot be used; the message says why.
    """
    if place.path.is_dir():
        raise ConfigError(f"{place.name} is a folder; a cache is one file")
    if not place.path.parent.is_dir():
        raise ConfigError(f"there is no folder {place.path.parent} to keep {place.path.name} in")
    try:
        connection = database.connect(place, "rwc")
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(f"{place.name} cannot be used as a cache: {_reason(error, place)}") from None
    try:
        _make_ready(connection, place)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise ConfigError(f"{place.name} cannot be used as a cache: {_reason(error, place)}") from None
        raise
    return connection


def _make_ready(connection: sqlite3.Connection, place: Place) -> None:
    _check(connection, place)
    (mode,) = connection.execute(_CONNECTION["write_ahead"]).fetchone()
    if mode != "wal":
        raise ConfigError(f"{place.name} cannot be used as a cache: its file system allows no log; use a local disk")
    connection.execute(_CONNECTION["handed_over"])
    with database.transaction(connection):
        if not _check(connection, place):
            for statement in ("make", "claim"):
                connection.execute(_SQL[statement])
        connection.execute(_SQL["version"])  # each time, to see whether the file can be written


def _check(connection: sqlite3.Connection, place: Place) -> bool:
    """Whether the file is a cache; False if it is empty.

    Raises:
        ConfigError: it is something else, or a newer flatout wrote it.
    """
    application, version, tables, _ = connection.execute(_CONNECTION["identity"]).fetchone()
    if application == 0 and tables == 0:
        return False
    if application == database.APPLICATION_ID:
        raise ConfigError(f"{place.name} is a run file, not a cache: use its answers with --reuse, or reuse=")
    if application != APPLICATION_ID:
        raise ConfigError(f"{place.name} is an SQLite database of another program, not a cache")
    if version > VERSION:
        raise ConfigError(
            f"{place.name} was written by a newer flatout (version {version} of the cache; this one knows {VERSION}): "
            "upgrade flatout, or use another file"
        )
    return True


def _reason(error: Exception, place: Place) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return "it is no database"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM) or isinstance(
        error, PermissionError
    ):
        return "the file or its folder is read-only, or not yours"
    if isinstance(error, sqlite3.Error):
        return f"it is damaged ({error})" if database.is_damage(error) else database.what_failed(error, place)
    return str(error)
