"""Writes rows to an open file: as JSONL, as CSV, or as Parquet."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, BinaryIO

import msgspec
from msgspec import defstruct

from flatout.errors import ConfigError
from flatout.text.halves import to_json

from .answered import FIXED_TYPES, AnsweredRow, Rows

_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_jsonl(file: BinaryIO, rows: Iterable[AnsweredRow], names: Mapping[str, str]) -> int:
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


def _answer_values(names: Mapping[str, str]) -> Callable[[AnsweredRow], dict[str, Any]]:
    """A function that takes the answer's columns out of a row, by their names in the output."""
    fields, own = attrgetter(*names), tuple(names.values())
    return lambda row: dict(zip(own, fields(row), strict=True))


def write_parquet(
    file: BinaryIO, rows: Rows, columns: Sequence[str], names: Mapping[str, str], types: str | None
) -> int:
    from flatout.runs.parquet import write_rows

    known = frozenset(columns)
    answer = _answer_values(names)
    fixed = {names[field]: kind for field, kind in FIXED_TYPES.items() if field in names}
    return write_rows(
        file,
        lambda: ({**_own_columns(row, known), **answer(row)} for row in rows()),
        [*columns, *names.values()],
        fixed,
        types,
    )


def _own_columns(row: AnsweredRow, columns: frozenset[str]) -> Mapping[str, Any]:
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
    file: BinaryIO,
    rows: Iterable[AnsweredRow],
    columns: Sequence[str],
    names: Mapping[str, str],
    delimiter: str,
    neutralise: bool,
) -> int:
    cell = _harmless_cell if neutralise else _cell
    writer = csv.writer(_Lines(file), delimiter=delimiter)
    writer.writerow([cell(name) for name in (*columns, *names.values())])
    known = frozenset(columns)
    total = 0
    for row in rows:
        own = _own_columns(row, known)
        cells = [cell(own.get(name)) for name in columns]
        cells += [cell(getattr(row, field)) for field in names]
        writer.writerow(cells)
        total += 1
    return total


def _cell(value: Any) -> str:
    """A value as a cell: text as it is, None as "", everything else as JSON."""
    if isinstance(value, str):
        # Few programs can read a CSV file that contains NUL; this project's reader cannot either.
        return value.replace("\0", "\ufffd") if "\0" in value else value
    if value is None or value != value:  # NaN is the only value that differs from itself
        return ""
    text = to_json(value).decode()
    return text if isinstance(value, bool | int | float | list | dict) else text.strip('"')


def _harmless_cell(value: Any) -> str:
    text = _cell(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _PLAIN_NUMBER.fullmatch(text) else text
