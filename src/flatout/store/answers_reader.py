"""Read a cache of answers, for commands: how much is in it, and each answer with its question."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice

from flatout.errors import ConfigError
from flatout.values.answers import Entry, Size

from .answers_file import kept_of, opened, opened_to_read, reason
from .database import Place
from .queries import queries

_SQL = queries("answers")


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

    def survey(self, shown: int) -> tuple[Size, list[Entry]]:
        """How much is in it, and the newest answers."""
        return self.size(), list(islice(self.entries(), shown))

    def size(self) -> Size:
        """How much is in it."""
        with _explained(self._place):
            answers, cost, unpriced, oldest, newest = self._connection.execute(_SQL["size"]).fetchone()
        return Size(answers, cost, unpriced, oldest, newest, self._place.size())

    def entries(self) -> Iterator[Entry]:
        """All answers, the newest first."""
        with _explained(self._place):
            for key, at, cost, said, asked in self._connection.execute(_SQL["all"]):
                yield Entry(key, kept_of(at, cost, said), asked)


def prune(path: str | os.PathLike[str], before: float) -> tuple[int, int]:
    """Remove the answers from before a time. Returns how many it removed, and how many are left.

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
        left, *_ = connection.execute(_SQL["size"]).fetchone()
        return removed, left


@contextmanager
def _explained(place: Place) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise ConfigError(f"{place.name} cannot be used as a cache: {reason(error, place)}") from None
