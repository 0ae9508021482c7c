"""Answers in one SQLite file, which many processes read and write at once."""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import time
from collections.abc import Callable, Sequence

from flatout.errors import ConfigError
from flatout.values.answers import Found, New, Wanted

from . import database
from .answers_file import kept_of, opened, reason
from .claims import Claims
from .database import Place
from .queries import queries

GATHER = 0.05
"""Seconds for which new answers are gathered before they are written: the disk takes its time for each commit."""

POLL = 0.25
"""Seconds between two looks at a question that another process asks."""

AT_ONCE = 32
"""Questions that one statement looks up. One by one, each takes twice as long."""

RETRY = 60.0
"""Seconds after a failed write until the next one is tried."""

_SQL = queries("answers")
_CONNECTION = queries("connection")
_log = logging.getLogger("flatout")


class AnswersFile:
    """The file as a shelf; see `flatout.values.answers.Shelf`. A question that is asked now is a claim (see `claims`).

    Args:
        path: the file; made at the first answer if it is missing.
        clock: tells the present, in seconds.

    Raises:
        ConfigError: the file cannot be used as a cache.
    """

    gather = GATHER
    hiccup = 0.0
    rest = math.inf
    poll = POLL
    beat = math.inf

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._place = Place.to(path)
        opened(self._place).close()  # so that an unusable file is known before anything is sent
        self.name = str(self._place.name)
        self._connection: sqlite3.Connection | None = None
        self._claims = Claims(self._place.beside("-claims"))
        self._clock = clock
        self._refused_at: float | None = None  # when a write failed last; None after one that did not

    def check(self) -> None:
        """Nothing to do: the file was looked at when this was made."""

    def look(self, wanted: Sequence[Wanted], found: Found) -> None:
        """Look up questions, and claim those without an answer."""
        connection = self._open()
        before = _version(connection)
        _select(connection, wanted, found)
        missing = [one for one in wanted if one.claims and one.fresh(found.kept.get(one.key)) is None]
        found.elsewhere.update(one.key for one in missing if not self._claims.take(one.key))
        if missing and _version(connection) != before:
            self._look_again([one for one in missing if one.key not in found.elsewhere], connection, found)

    def keep(self, new: Sequence[New]) -> None:
        """Keep new answers, and free their questions, even if that fails.

        A full disk, or a program that locks the file, keeps nobody from reading. So what is there is used all the same.
        New answers are dropped, and every `RETRY` seconds some are tried again.
        """
        try:
            if self._refused_at is None or self._clock() >= self._refused_at + RETRY:
                self._write(new)
                self._tell_kept()
        except (sqlite3.Error, OSError, ConfigError) as error:
            self._tell_refused(error)
        finally:
            for each in new:
                self._claims.free(each.key)

    def _write(self, new: Sequence[New]) -> None:
        rows = [(each.key, each.kept.at, each.kept.cost, each.kept.said, each.asked()) for each in new]
        connection = self._open()
        if self._refused_at is not None:
            connection.execute(_CONNECTION["be_brief"])  # lookups wait behind a write that waits for a lock
        try:
            with database.transaction(connection):
                connection.executemany(_SQL["put"], rows)
        finally:
            connection.execute(_CONNECTION["be_patient"])

    def _tell_refused(self, error: Exception) -> None:
        if self._refused_at is None:
            said = "the cache %s keeps no new answers: %s; it is tried again every %g s"
            _log.warning(said, self.name, self.reason(error), RETRY)
        self._refused_at = self._clock()

    def _tell_kept(self) -> None:
        if self._refused_at is not None:
            self._refused_at = None
            _log.warning("the cache %s keeps new answers again", self.name)

    def free(self, key: bytes) -> None:
        """Let other processes ask a question."""
        self._claims.free(key)

    def hold(self) -> bool:
        """Nothing to do: the system holds them."""
        return False

    def lapsed(self) -> bool:
        """Locks end with their process, and not before."""
        return False

    def reason(self, error: Exception) -> str:
        """Why it failed, for the end of a sentence."""
        return reason(error, self._place)

    def close(self) -> None:
        """Close the file, and free all questions."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._claims.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = opened(self._place)
        return self._connection

    def _look_again(self, claimed: list[Wanted], connection: sqlite3.Connection, found: Found) -> None:
        """Read what was claimed: it may have been answered, and the other claim given up, just before."""
        _select(connection, claimed, found)
        for one in claimed:
            if one.fresh(found.kept.get(one.key)) is not None:
                self._claims.free(one.key)


def _version(connection: sqlite3.Connection) -> int:
    """A number that changes when another connection has written."""
    (number,) = connection.execute(_CONNECTION["data_version"]).fetchone()
    return int(number)


def _select(connection: sqlite3.Connection, wanted: Sequence[Wanted], found: Found) -> None:
    """Add the kept answers, whatever their age."""
    with database.snapshot(connection):
        for first in range(0, len(wanted), AT_ONCE):
            keys = [one.key for one in wanted[first : first + AT_ONCE]]
            keys += [b""] * (AT_ONCE - len(keys))
            for key, *columns in connection.execute(_SQL["get"], keys):
                found.kept[key] = kept_of(*columns)
