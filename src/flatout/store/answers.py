"""The cache of answers: one SQLite file that many processes read and write at once.

The event loop never waits for it. Lookups of one turn of the loop go to a thread together. New answers are gathered and
written behind the calls, because losing the last of them in a crash costs only asking again. For the same reason a
cache that fails is given up with one warning, and never fails a call.

A question without an answer is claimed by the first process that looks it up (see `claims`). The others look again
every `POLL` seconds. They find the answer, or that the claim is free: then its process has ended, or had no answer.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import zip_longest
from typing import NamedTuple

from flatout.errors import ConfigError
from flatout.values.kept import Kept

from . import database
from .answers_file import kept_of, opened, reason
from .claims import Claims
from .database import Place
from .queries import queries

GATHER = 0.05
"""Seconds for which new answers are gathered before they are written."""

AT_ONCE = 32
"""Questions that one statement looks up. One by one, each takes twice as long."""

MOST = 500
"""New answers that are written at once."""

POLL = 0.25
"""Seconds between two looks at a question that another process asks."""

PATIENCE = 300.0
"""Seconds after which a question is asked although another process asks it: the usual timeout of an attempt. The other
process may be stopped, or far slower."""

_SQL = queries("answers")
_CONNECTION = queries("connection")
_log = logging.getLogger("flatout")

_New = tuple[bytes, Kept, Callable[[], bytes]]


class Asked(NamedTuple):
    """A question that is looked up.

    Attributes:
        key: its digest.
        since: answers from before that are not wanted, in Unix seconds.
        claims: whether to claim it, if there is no answer.
        until: when it no longer waits for another process, on the event loop's clock.
        found: receives the answer.
    """

    key: bytes
    since: float
    claims: bool
    until: float
    found: asyncio.Future[Kept | None]


class Elsewhere:
    """The result of looking up a question that another process asks now."""


_ELSEWHERE = Elsewhere()


class Answers:
    """A cache of answers, for one event loop.

    Args:
        path: the file; made at the first answer if it is missing.

    Raises:
        ConfigError: the file cannot be used as a cache.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._place = Place.to(path)
        opened(self._place).close()  # so that an unusable file is known before anything is sent
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "flatout cache")
        self._broken = False
        self._claims = Claims(self._place.beside("-claims"))
        self._asked: list[Asked] = []
        self._reading = False
        self._elsewhere: list[Asked] = []
        self._polling: asyncio.TimerHandle | None = None
        self._new: list[_New] = []
        self._unwritten: dict[bytes, Kept] = {}

    def __repr__(self) -> str:
        return f"Answers({self._place.name!r})"

    def get(self, key: bytes, since: float = -math.inf, *, claims: bool = True) -> asyncio.Future[Kept | None]:
        """The answer of a key; None if there is none, or if it cannot be read.

        None with ``claims`` means that the caller asks, and ends that with `put` or `let_go`. Other processes wait for
        it. While another process asks, this waits.

        Args:
            key: the digest of the question.
            since: answers from before that are not wanted, in Unix seconds.
            claims: whether to claim the question. Whoever waits for several answers at once must not: two processes
                could wait for each other.
        """
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Kept | None] = loop.create_future()
        if self._broken or key in self._unwritten:
            found.set_result(self._unwritten.get(key))
            return found
        if not self._asked and not self._reading:
            loop.call_soon(self._look_up, loop)
        self._asked.append(Asked(key, since, claims, loop.time() + PATIENCE, found))
        return found

    def let_go(self, key: bytes) -> None:
        """Give up a question that has no answer to keep. The next process asks it."""
        self._claims.free(key)

    def put(self, key: bytes, kept: Kept, describe: Callable[[], bytes]) -> None:
        """Keep an answer, soon. ``describe`` is called in the cache's thread."""
        if self._broken:
            self._claims.free(key)
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
        if self._polling is not None:
            self._polling.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._end)
        self._thread.shutdown(wait=False)
        self._claims.close()

    def _look_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the thread what was asked since it was given something last."""
        if self._reading or not self._asked:
            return
        asked, self._asked = self._asked, []
        self._reading = True

        def done(reading: asyncio.Future[list[Kept | Elsewhere | None]]) -> None:
            self._reading = False
            self._hand_out(asked, [] if reading.cancelled() or reading.exception() else reading.result())
            self._look_up(loop)

        loop.run_in_executor(self._thread, self._read, asked).add_done_callback(done)

    def _hand_out(self, asked: list[Asked], found: list[Kept | Elsewhere | None]) -> None:
        """Give each caller its answer; None to all those for whom nothing could be read."""
        for one, kept in zip_longest(asked, found):
            if isinstance(kept, Elsewhere):
                self._elsewhere.append(one)
            elif not one.found.done():
                one.found.set_result(kept)
            elif kept is None and one.claims:
                self._claims.free(one.key)  # its caller was cancelled
        if self._elsewhere and self._polling is None:
            self._polling = asyncio.get_running_loop().call_later(POLL, self._look_again)

    def _look_again(self) -> None:
        """Look up what other processes were asking, and let those ask that have waited long enough."""
        self._polling = None
        loop = asyncio.get_running_loop()
        waiting, self._elsewhere = self._elsewhere, []
        for one in waiting:
            if one.found.done():
                continue
            if loop.time() < one.until:
                self._asked.append(one)
            else:
                one.found.set_result(None)
        self._look_up(loop)

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

    def _read(self, asked: list[Asked]) -> list[Kept | Elsewhere | None]:
        kept: dict[bytes, Kept] = {}
        elsewhere: set[bytes] = set()
        try:
            connection = self._open()
            before = _version(connection)
            _select(connection, asked, kept)
            missing = [one for one in asked if one.claims and _fresh(one, kept) is None]
            elsewhere.update(one.key for one in missing if not self._claims.take(one.key))
            if missing and _version(connection) != before:
                self._read_again([one for one in missing if one.key not in elsewhere], connection, kept)
        except (sqlite3.Error, ConfigError, TypeError, ValueError) as error:
            self._give_up(error)  # what was read before counts
        return [_fresh(one, kept) or (_ELSEWHERE if one.claims and one.key in elsewhere else None) for one in asked]

    def _read_again(self, claimed: list[Asked], connection: sqlite3.Connection, kept: dict[bytes, Kept]) -> None:
        """Read what was claimed: it may have been answered, and the other claim given up, just before."""
        _select(connection, claimed, kept)
        for one in claimed:
            if _fresh(one, kept) is not None:
                self._claims.free(one.key)

    def _insert(self, new: list[_New]) -> None:
        try:
            if not self._broken:
                rows = [(key, kept.at, kept.cost, kept.said, _described(describe)) for key, kept, describe in new]
                connection = self._open()
                with database.transaction(connection):
                    connection.executemany(_SQL["put"], rows)
        except Exception as error:  # whatever it is, calls go on without the cache
            self._give_up(error)
        finally:
            for key, _, _ in new:
                self._claims.free(key)

    def _give_up(self, error: Exception) -> None:
        if not self._broken:
            self._broken = True
            _log.warning("the cache %s is not used any more: %s", self._place.name, reason(error, self._place))

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _version(connection: sqlite3.Connection) -> int:
    """A number that changes when another connection has written."""
    (number,) = connection.execute(_CONNECTION["data_version"]).fetchone()
    return int(number)


def _select(connection: sqlite3.Connection, asked: Sequence[Asked], kept: dict[bytes, Kept]) -> None:
    """Add the kept answers, whatever their age."""
    with database.snapshot(connection):
        for first in range(0, len(asked), AT_ONCE):
            keys = [one.key for one in asked[first : first + AT_ONCE]]
            keys += [b""] * (AT_ONCE - len(keys))
            for key, *columns in connection.execute(_SQL["get"], keys):
                kept[key] = kept_of(*columns)


def _fresh(one: Asked, kept: Mapping[bytes, Kept]) -> Kept | None:
    """The answer of a question, unless it is too old."""
    found = kept.get(one.key)
    return None if found is None or found.at < one.since else found


def _described(describe: Callable[[], bytes]) -> bytes:
    """The question for people; an answer is kept without it if a user's own classes fail to describe themselves."""
    try:
        return describe()
    except Exception:
        return b"{}"
