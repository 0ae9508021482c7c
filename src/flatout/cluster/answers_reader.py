"""Read a cache of answers in Redis, for commands.

Redis has no list of a team's answers, so each command reads them all. One that is written or moved meanwhile may come
twice, or not at all.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import closing, contextmanager
from math import inf
from operator import attrgetter

from flatout.errors import ConfigError
from flatout.values.answers import Entry, Size
from flatout.values.place import Place

from .answers import entry_of, parts, prefix
from .line import RedisLine

PATIENCE = 10.0
"""Seconds to wait for the server, to connect and for each answer."""


class AnswersInRedisReader:
    """A cache in Redis, for commands. Use it with ``with``. It changes nothing.

    Args:
        place: where it is.

    Raises:
        ConfigError: the server does not answer, or does not let us in. Every method may raise it.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._line = _line(place)

    def __enter__(self) -> AnswersInRedisReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def survey(self, shown: int) -> tuple[Size, list[Entry]]:
        """How much is in it, and the newest answers."""
        answers = priced = taken = 0
        cost, oldest, newest = 0.0, inf, -inf

        def counted() -> Iterator[Entry]:
            nonlocal answers, priced, taken, cost, oldest, newest
            for entry in self.entries():
                kept = entry.kept
                answers += 1
                taken += len(kept.said) + len(entry.asked)
                priced += kept.cost is not None
                cost += kept.cost or 0.0
                oldest, newest = min(oldest, kept.at), max(newest, kept.at)
                yield entry

        entries = heapq.nlargest(shown, counted(), key=attrgetter("kept.at"))
        if not answers:
            return Size(0, None, 0, None, None, 0), []
        return Size(answers, cost if priced else None, answers - priced, oldest, newest, taken), entries

    def entries(self) -> Iterator[Entry]:
        """All answers, in no order."""
        with _explained(self._place):
            yield from filter(None, (entry for _, entry in _named(self._line, self._place)))


def prune(place: Place, before: float) -> tuple[int, int]:
    """Remove the answers from before a time, and what is damaged. Returns how many it removed, and how many are left.

    Raises:
        ConfigError: the server does not answer, or refuses.
    """
    removed = left = 0
    with closing(_line(place)) as line, _explained(place):
        for some in parts(_named(line, place)):
            old = [name for name, entry in some if entry is None or entry.kept.at < before]
            removed += line.remove(old) if old else 0
            left += len(some) - len(old)
    return removed, left


def _named(line: RedisLine, place: Place) -> Iterator[tuple[str, Entry | None]]:
    """The names of a team's answers, and each answer; None for one that is damaged."""
    begins = prefix(place)
    for names in parts(line.names(begins)):
        for name, value in zip(names, line.read(names), strict=True):
            if value is not None:
                yield name, entry_of(_key(name.removeprefix(begins)), value)


def _key(digits: str) -> bytes:
    """The digest at the end of a name. Empty if the name does not end with one."""
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""


def _line(place: Place) -> RedisLine:
    return RedisLine(place, f"the cache {place} needs", PATIENCE)


@contextmanager
def _explained(place: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"the cache {place} cannot be used: {error}") from None
