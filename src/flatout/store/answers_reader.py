"""Read a cache of answers, for commands: how much is in it, and each answer with its question."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

from flatout.errors import ConfigError
from flatout.values.kept import Kept

from .answers_file import kept_of, opened, opened_to_read, reason
from .database import Place
from .queries import queries

_SQL = queries("answers")


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


class AnswersReader:
    """A cache of answers, for commands. Use it with ``with``. It changes nothing, and needs no right to.

    Args:
        path: the file.

    Raises:
        ConfigError: there is no such file, or it is not a cache, or it is damaged. Every method may raise it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._place = Place.to(path)
        if not self._place.path.exists():
            raise ConfigError(f"there is no cache {self._place.name}")
        self._connection = opened_to_read(self._place)

    def __enter__(self) -> AnswersReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def size(self) -> Size:
        """How much is in it."""
        with _explained(self._place):
            return Size(*self._connection.execute(_SQL["size"]).fetchone())

    def entries(self) -> Iterator[Entry]:
        """All answers, the newest first."""
        with _explained(self._place):
            for key, at, cost, said, asked in self._connection.execute(_SQL["all"]):
                yield Entry(key, kept_of(at, cost, said), asked)


def prune(path: str | os.PathLike[str], before: float) -> int:
    """Remove the answers from before a time, and return their number.

    Raises:
        ConfigError: the file cannot be changed.
    """
    place = Place.to(path)
    if not place.path.exists():
        raise ConfigError(f"there is no cache {place.name}")
    with closing(opened(place)) as connection, _explained(place):
        removed = connection.execute(_SQL["prune"], (before,)).rowcount
        if removed:
            connection.execute(_SQL["shrink"])
        return removed


@contextmanager
def _explained(place: Place) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise ConfigError(f"{place.name} cannot be used as a cache: {reason(error, place)}") from None
