"""Writes rows to an open file: as JSONL, as CSV, or as Parquet."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct, defstruct

from flatout.errors import ConfigError
from flatout.text.halves import to_json

from .answered import FIXED_TYPES, AnsweredRow, Rows

_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Layout(Struct, frozen=True):
    """The columns of an output that has the same in every row.

    Attributes:
        columns: the input's own.
        names: the fields of the answer, with their names in the output.
        types: the types of the input's columns, in the form that `flatout.runs.parquet.write_rows` takes.
    """

    columns: Sequence[str]
    names: Mapping[str, str]
    types: str | None = None

    @property
    def all(self) -> list[str]:
        """The names of all columns, in order."""
        return [*self.columns, *self.names.values()]

    @property
    def fixed(self) -> dict[str, str]:
        """The columns whose types are known, with Arrow's names for them."""
        return {self.names[field]: kind for field, kind in FIXED_TYPES.items() if field in self.names}

    def values(self, rows: Iterable[AnsweredRow]) -> Iterator[dict[str, Any]]:
        """The values of each row, by the names of all columns that it has."""
        known, fields, answer = frozenset(self.columns), attrgetter(*self.names), tuple(self.names.values())
        return ({**own_columns(row, known), **dict(zip(answer, fields(row), strict=True))} for row in rows)


def write_jsonl(file: BinaryIO, rows: Iterable[AnsweredRow], names: Mapping[str, str]) -> int:
    """Write an object a line, each with the columns that its row has."""
    total = 0
    own, fields = frozenset(names.values()), attrgetter(*names)
    answer = defstruct("Answer", [(f"_{field}", Any, msgspec.field(name=name)) for field, name in names.items()])
    for row in rows:
        columns = row.columns
        if not own.isdisjoint(columns):
            raise _unexpected_column(next(name for name in columns if name in own))
        line = to_json(answer(*fields(row)))
        file.write((to_json(columns)[:-1] + b"," + line[1:] if columns else line) + b"\n")
        total += 1
    return total


def write_parquet(file: BinaryIO, rows: Rows, layout: Layout) -> int:
    """Write a Parquet file."""
    from flatout.runs.parquet import write_rows

    return write_rows(file, lambda: layout.values(rows()), layout.all, layout.fixed, layout.types)


def own_columns(row: AnsweredRow, columns: frozenset[str]) -> Mapping[str, Any]:
    """The row's own values. None of them may be lost because its column is missing."""
    if not columns.issuperset(row.columns):
        raise _unexpected_column(next(name for name in row.columns if name not in columns))
    return row.columns


def _unexpected_column(name: str) -> ConfigError:
    return ConfigError(f"a row has the column {name!r}, which the input did not have before: has it changed?")


class _Lines:
    """Writes the lines of a csv.writer to a file, as bytes.

    The writer quotes a carriage return only if its line end has one. So it gets CR LF, and the CR is removed here.
    """

    __slots__ = ("_write",)

    def __init__(self, file: BinaryIO) -> None:
        self._write = file.write

    def write(self, line: str) -> None:
        self._write((line[:-2] + "\n").encode("utf-8", "replace"))


def write_delimited(
    file: BinaryIO, rows: Iterable[AnsweredRow], layout: Layout, delimiter: str, *, neutralise: bool
) -> int:
    """Write a header and a record for each row."""
    shown = _harmless_cell if neutralise else cell
    writer = csv.writer(_Lines(file), delimiter=delimiter)
    writer.writerow(map(shown, layout.all))
    known = frozenset(layout.columns)
    total = 0
    for row in rows:
        own = own_columns(row, known)
        cells = [shown(own.get(name)) for name in layout.columns]
        cells += [shown(getattr(row, field)) for field in layout.names]
        writer.writerow(cells)
        total += 1
    return total


def cell(value: Any) -> str:
    """A value as a cell: text as it is, None as "", everything else as JSON."""
    if isinstance(value, str):
        # Few programs can read a CSV file that contains NUL; this project's reader cannot either.
        return value.replace("\0", "\ufffd") if "\0" in value else value
    if value is None or value != value:  # NaN is the only value that differs from itself
        return ""
    text = to_json(value).decode()
    return text if isinstance(value, bool | int | float | list | dict) else text.strip('"')


def _harmless_cell(value: Any) -> str:
    text = cell(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _PLAIN_NUMBER.fullmatch(text) else text
