"""What every kind of input comes down to: its rows, and its columns if they are known before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from flatout.errors import ConfigError

from .rows import InputSource, Row
from .streams import plain_errors


class Begun(NamedTuple):
    """An input that has been opened: its columns, their types and its rows; see `Input`."""

    rows: Iterator[Row]
    columns: tuple[str, ...] | None = None
    types: str | None = None


Begin = Callable[[], Begun]
"""Opens an input. Each call reads it anew."""


class Input:
    """The rows of an input, made by `flatout.runs.input.read.open_input`. Each iteration reads them anew.

    Attributes:
        name: the file as the user wrote it; ``stdin`` for standard input.
        format: one of `flatout.runs.input.formats.FORMATS`.
        columns: the columns' names if known before the rows are read; None for JSON.
        types: the columns' types in the form that `flatout.runs.parquet.write_rows` takes; None if everything is text
            or JSON.
        repeatable: False for stdin and pipes, whose rows can be read only once.

    Iterating raises ConfigError at the first row that cannot be read, and if there are no rows at all.
    """

    __slots__ = ("_rows", "columns", "format", "name", "repeatable", "types")

    def __init__(self, source: InputSource, begin: Begin, *, repeatable: bool) -> None:
        self.name = source.name
        self.format = source.format
        self.repeatable = repeatable
        with plain_errors(self.name):
            begun = begin()
        self.columns, self.types = begun.columns, begun.types
        self._rows = _again(begin) if repeatable else _only_once(self.name, begun.rows)

    def __repr__(self) -> str:
        return f"Input({self.name!r}, {self.format})"

    def __iter__(self) -> Iterator[Row]:
        rows = self.rows()
        first = next(rows, None)
        if first is None:
            raise ConfigError(f"{self.name}: no rows")
        yield first
        yield from rows

    def rows(self) -> Iterator[Row]:
        """The rows, of which there may be none."""
        with plain_errors(self.name):
            yield from self._rows()


def check_unique(columns: Iterable[str], where: str) -> None:
    """Refuse a column that occurs twice."""
    seen = set()
    for column in columns:
        if column in seen:
            raise ConfigError(f"{where} the column {column!r} occurs twice")
        seen.add(column)


def _again(begin: Begin) -> Callable[[], Iterator[Row]]:
    return lambda: begin().rows


def _only_once(name: str, rows: Iterator[Row]) -> Callable[[], Iterator[Row]]:
    unread = [rows]

    def take() -> Iterator[Row]:
        if not unread:
            raise ConfigError(f"{name}: can be read only once")
        return unread.pop()

    return take
