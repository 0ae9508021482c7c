"""What every kind of input comes down to: its rows, and the columns if they are known before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from flatout.errors import ConfigError

from .rows import Row


class Begun(NamedTuple):
    """An input that has been opened: its columns, their types and its rows; see `Input`."""

    rows: Iterator[Row]
    columns: tuple[str, ...] | None = None
    types: str | None = None


Begin = Callable[[], Begun]
"""Opens an input. Each call reads it anew."""


def check_unique(columns: Iterable[str], where: str) -> None:
    """Refuse a column that occurs twice."""
    seen = set()
    for column in columns:
        if column in seen:
            raise ConfigError(f"{where} the column {column!r} occurs twice")
        seen.add(column)
