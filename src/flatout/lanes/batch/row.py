"""What the batch lane needs to know of a row."""

from __future__ import annotations

from typing import Protocol, TypeVar

from flatout.values import Call


class Row(Protocol):
    """A row to answer."""

    @property
    def index(self) -> int: ...
    @property
    def call(self) -> Call: ...
    @property
    def made(self) -> bytes: ...


RowT = TypeVar("RowT", bound=Row)
