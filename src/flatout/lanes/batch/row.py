"""What the batch lane needs to know of a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from msgspec import Struct

from flatout.values import Call


class Before(Struct, frozen=True):
    """What batches have answered to a row that leaves them for the live lane. It was paid for, though it did not fit.

    Attributes:
        cost: US dollars; None if unknown.
        settle: adds it to the money of its batch, once the row has its result.
    """

    cost: float | None
    settle: Callable[[], None]


class Row(Protocol):
    """A row to answer."""

    @property
    def index(self) -> int: ...
    @property
    def call(self) -> Call: ...
    @property
    def fingerprint(self) -> bytes: ...
    @property
    def before(self) -> Before | None: ...


RowT = TypeVar("RowT", bound=Row)
