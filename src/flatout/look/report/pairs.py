"""The rows that two runs have in common: those with the same id, or, without ids, with the same content."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import msgspec
from msgspec import Struct

from flatout.store import Item, RunReader

from .variants import labels_of

MOST_APART = 50_000
"""Rows of each run that wait for their like at another place. Further ones are compared at their own place only."""

Labels = dict[str, str]


class _Answered(Struct, frozen=True):
    """What is kept of a row while its like is looked for."""

    id: str | None
    content: bytes | None
    labels: Labels


_Known = dict[str | bytes, _Answered]


class _Asked(Struct):
    """The parts of a rendered call that are the question, whatever model is asked."""

    prompt: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()


def pairs(left: RunReader, right: RunReader) -> Iterator[tuple[Labels, Labels]]:
    """The labels of the rows that both runs answered.

    The rows are the same if they have the same id. Where ids are absent or differ, they are the same if their content
    is: the row of the input, or without one the question. If nothing else is known, those at the same place are.
    """
    apart = _Apart(), _Apart()
    found = False
    for one, other in _side_by_side(left, right):
        if one is not None and other is not None and _same(one, other):
            found = True
            yield one.labels, other.labels
        else:
            for where, row in zip(apart, (one, other), strict=True):
                where.add(row)
    for pair in apart[0].met_in(apart[1]):
        found = True
        yield pair
    if not found and not any(each.ids for each in apart):
        yield from ((a.labels, b.labels) for a, b in _side_by_side(left, right) if a is not None and b is not None)


class _Apart:
    """Rows of one run that have not met their like."""

    def __init__(self) -> None:
        self.ids: _Known = {}
        self._contents: _Known = {}

    def add(self, row: _Answered | None) -> None:
        """Keep a row, if there is room."""
        if row is None:
            return
        if row.id is not None and len(self.ids) < MOST_APART:
            self.ids.setdefault(row.id, row)
        if row.content is not None and len(self._contents) < MOST_APART:
            self._contents.setdefault(row.content, row)

    def met_in(self, other: _Apart) -> Iterator[tuple[Labels, Labels]]:
        """The pairs: by id, and among all others by content."""
        met: set[int] = set()
        for known, theirs in ((self.ids, other.ids), (self._contents, other._contents)):
            for key, row in known.items():
                like = theirs.get(key)
                if like is not None and not {id(row), id(like)} & met:
                    met |= {id(row), id(like)}
                    yield row.labels, like.labels


def _same(one: _Answered, other: _Answered) -> bool:
    """Whether two rows at the same place are the same beyond doubt."""
    if one.id is not None and other.id is not None:
        return one.id == other.id
    if one.content is None or other.content is None:
        return one.id == other.id
    return one.content == other.content


def _side_by_side(left: RunReader, right: RunReader) -> Iterator[tuple[_Answered | None, _Answered | None]]:
    """The answered rows of two runs by their places, in order; constant memory."""
    mine, theirs = _items(left), _items(right)
    one, other = next(mine, None), next(theirs, None)
    while one is not None or other is not None:
        places = [item.index for item in (one, other) if item is not None]
        place = min(places)
        first = one if one is not None and one.index == place else None
        second = other if other is not None and other.index == place else None
        yield _answered(first), _answered(second)
        if first is not None:
            one = next(mine, None)
        if second is not None:
            other = next(theirs, None)


def _items(reader: RunReader) -> Iterator[Item]:
    return reader.items("answered", damaged=_ignored)


def _answered(item: Item | None) -> _Answered | None:
    return None if item is None else _Answered(item.id, _content(item), dict(labels_of(item)))


def _content(item: Item) -> bytes | None:
    """A digest of a row's content; None if it was not kept."""
    kept = item.input or _question(item.prompt)
    return blake2b(kept, digest_size=16).digest() if kept else None


def _question(prompt: bytes | None) -> bytes | None:
    if prompt is None:
        return None
    try:
        asked = msgspec.json.decode(prompt, type=_Asked)
    except msgspec.MsgspecError:
        return prompt
    return bytes(asked.prompt) + bytes(asked.messages) or prompt


def _ignored(index: int) -> None:
    """An item that cannot be read: its own run's report tells of it."""
