"""Rows that will stand in one batch together."""

from __future__ import annotations

from hashlib import blake2b

from msgspec import Struct

from flatout.policies.batches import Bound
from flatout.store.ledger import Placed

from .format import Line

_DIGITS = 18  # of an index


class Packed(Struct, frozen=True, gc=False):
    """A row in a box.

    Attributes:
        placed: the row, for the ledger.
        body: its request's JSON.
    """

    placed: Placed
    body: bytes


class Box:
    """Rows that will stand in one batch together, in the order of their indices.

    Args:
        rows: the most rows.
        size: the most bytes.
        around: bytes that each row takes beside its body.
    """

    def __init__(self, rows: int, size: int, around: int) -> None:
        self.most = rows
        self.largest = size - around
        self.size = 0
        self.rows: list[Packed] = []
        self.bound = Bound()
        self._around = around
        self._most_size = size

    def has_room(self, body: bytes) -> bool:
        """Whether one more row fits."""
        return len(self.rows) < self.most and self.size + len(body) + self._around <= self._most_size

    def add(self, row: Packed) -> None:
        """Add a row that fits."""
        self.rows.append(row)
        self.size += len(row.body) + self._around

    def lines(self, stamp: str) -> list[Line]:
        """The rows as the provider gets them."""
        return [Line(key_of(stamp, row.placed.index), row.body) for row in self.rows]

    def digest(self) -> bytes:
        """What tells the box from others: its rows, and what they ask."""
        made = blake2b(digest_size=16)
        for row in self.rows:
            made.update(b"%d " % row.placed.index)
            made.update(row.placed.fingerprint)
        return made.digest()


def key_of(stamp: str, index: int) -> str:
    """The name of a row among the results."""
    return f"{stamp}-{index}"


def index_of(stamp: str, key: str) -> int | None:
    """The index of a row by its name; None if the name is not one of a batch with this stamp."""
    found, _, index = key.rpartition("-")
    known = found == stamp and len(index) <= _DIGITS and index.isascii() and index.isdecimal()
    return int(index) if known else None
