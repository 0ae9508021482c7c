"""Answers in Redis or Valkey, for workers on several machines: above all for an engine's task that is tried again.

Each answer is one value, under the digest of its question. It begins with a checksum over that digest and the rest, so
nothing that is damaged, or lies under another key, is taken for an answer.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import msgspec
from msgspec import Struct

from flatout.values.answers import Entry, Found, New, Wanted
from flatout.values.kept import Kept
from flatout.values.place import Place

from .line import RedisLine

FORMAT = 1
"""The version of the values. Raise it if they change: programs with different versions use different keys."""

KEPT = 30 * 86_400
"""Seconds after which the server removes an answer, unless the user gave an age."""

AT_ONCE = 100
"""Answers that are read or written in one step."""

LARGEST = 1 << 20
"""Bytes of the largest value. A larger answer is not kept."""

REST = 5.0
"""Seconds between two looks for a server that is away."""

_CHECKSUM = 16  # bytes
_log = logging.getLogger("flatout")


class AnswersInRedis:
    """The server as a shelf; see `flatout.store.answers.Shelf`.

    It has no claims: a question that another process asks now is asked here, too.

    Args:
        place: where it is.
        max_age: seconds for which an answer is kept; None for `KEPT`.

    Raises:
        ConfigError: the package redis is not installed, or the server does not let us in.
    """

    gather = 0.0
    rest = REST

    def __init__(self, place: Place, max_age: float | None = None) -> None:
        self.name = str(place)
        self._line = RedisLine(place, f"the cache {place} needs")
        self._prefix = prefix(place)
        self._seconds = max(1, round(max_age or KEPT))
        self._refused = False

    def look(self, wanted: Sequence[Wanted], found: Found) -> None:
        """Look up questions."""
        for keys in parts({one.key for one in wanted}):
            values = self._line.read([self._prefix + key.hex() for key in keys])
            entries = map(entry_of, keys, values)
            found.kept.update((entry.key, entry.kept) for entry in entries if entry is not None)

    def keep(self, new: Sequence[New]) -> None:
        """Keep new answers. If the server refuses one, this says so once: the others may be read all the same."""
        for some in parts(new):
            values = {self._prefix + each.key.hex(): value_of(each) for each in some}
            small = {name: value for name, value in values.items() if len(value) <= LARGEST}
            refusal = self._line.write(small, self._seconds)
            if refusal is not None and not self._refused:
                _log.warning("the cache %s keeps no new answers: %s", self.name, refusal)
            self._refused = refusal is not None

    def free(self, key: bytes) -> None:
        """Nothing to do: there are no claims."""

    def reason(self, error: Exception) -> str:
        """Why it failed, for the end of a sentence."""
        return str(error)

    def close(self) -> None:
        """Close the connection."""
        self._line.close()


def prefix(place: Place) -> str:
    """What the names of a team's answers begin with. The braces keep them together where a server is one of many."""
    return f"flatout:{{{place.name}}}:answers:{FORMAT}:"


def value_of(new: New) -> bytes:
    """The value of an answer."""
    kept = new.kept
    content = _encode(_Content(kept.at, kept.cost, kept.said, new.asked()))
    return _checksum(new.key, content) + content


def entry_of(key: bytes, value: bytes | None) -> Entry | None:
    """The answer in a value; None if there is none, or if it is damaged."""
    if value is None or value[:_CHECKSUM] != _checksum(key, value[_CHECKSUM:]):
        return None
    try:
        content = _decode(value[_CHECKSUM:])
    except msgspec.MsgspecError:
        return None
    return Entry(key, Kept(at=content.at, cost=content.cost, said=content.said), content.asked)


class _Content(Struct, array_like=True):
    at: float
    cost: float | None
    said: bytes
    asked: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Content).decode


def _checksum(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, key=key, digest_size=_CHECKSUM).digest()


PartT = TypeVar("PartT")


def parts(whole: Iterable[PartT]) -> Iterator[list[PartT]]:
    """As many as are read or written in one step."""
    left = iter(whole)
    while some := list(islice(left, AT_ONCE)):
        yield some
