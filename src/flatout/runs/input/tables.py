"""Recognises text that is a table, or JSON, under another name.

A table read as lines of text would send its header and its separators as prompts. So what looks like a table is never
read as text unless the user says so, and a file whose name tells another format than its content is refused by name.
"""

from __future__ import annotations

import csv
import re
from itertools import islice
from typing import NamedTuple

from flatout.errors import ConfigError

from .decode import first_letter
from .rows import JSON_FORMATS

DELIMITERS = {"csv": ",", "tsv": "\t"}
"""What stands between the cells of each format, unless the user says otherwise."""

_KNOWN = (",", ";", "\t", "|")
_RECORDS = 20  # most records that are looked at
_NAME = 60  # most characters of a column's name; sentences are longer
_NAMED = 5  # columns that a message names
_LIST = re.compile(rb'\[\s*(?:[\[{"]|$)')
_OBJECT = re.compile(rb'\{\s*(?:"|$)')


class Table(NamedTuple):
    """A table that text seems to be: what stands between its cells, and its columns."""

    delimiter: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        more = ", …" if len(self.columns) > _NAMED else ""
        return f"a table with the columns {', '.join(self.columns[:_NAMED])}{more}"

    @property
    def options(self) -> str:
        """The options with which it is read."""
        if self.delimiter == DELIMITERS["tsv"]:
            return "--format tsv"
        return "--format csv" + ("" if self.delimiter == DELIMITERS["csv"] else f" {self.option}")

    @property
    def option(self) -> str:
        """The option that names its delimiter."""
        return "--delimiter " + ("'\\t'" if self.delimiter == "\t" else f"'{self.delimiter}'")


def table_in(head: bytes) -> Table | None:
    """The table that a text seems to be by its start: records of equally many cells below a header."""
    text = _text(head)
    found = (_table(text, delimiter) for delimiter in _KNOWN)
    return max(filter(None, found), key=lambda table: len(table.columns), default=None)


def json_in(head: bytes) -> str | None:
    """What JSON a text seems to be by its start: ``a JSON list`` or ``JSON``; None if it is none."""
    letter = first_letter(head)
    if letter not in (b"[", b"{"):
        return None
    head = head.replace(b"\0", b"")  # as UTF-16 has them
    start = head[head.index(letter) :]
    if _LIST.match(start):
        return "a JSON list"
    return "JSON" if _OBJECT.match(start) else None


def check_text(head: bytes, format: str, name: str, *, guessed: bool, delimiter: str | None) -> None:
    """Refuse text that is a table or JSON when it would be read as something else.

    Args:
        head: the first bytes of the input, unpacked.
        format: the format it would be read as.
        name: the input as the user wrote it.
        guessed: whether neither the user nor the name tells the format.
        delimiter: the delimiter that the user gave.

    Raises:
        ConfigError: saying what the input is and how to read it.
    """
    if format in DELIMITERS:
        if (found := json_in(head)) is not None:
            raise ConfigError(f"{name}: is {found}, not {format.upper()}; add --format jsonl")
        if delimiter is None:
            _check_delimiter(table_in(head), DELIMITERS[format], name)
    elif format == "text" and guessed and (table := table_in(head)) is not None:
        raise ConfigError(f"{name}: looks like {table}; add {table.options}, or --format text to ask each line")
    elif format in JSON_FORMATS and first_letter(head) not in b'{["' and (table := table_in(head)) is not None:
        raise ConfigError(f"{name}: is no JSON; it looks like {table}: add {table.options}")
    elif format == "parquet" and (way := _read_as(head)) is not None:
        raise ConfigError(f"{name}: is no Parquet file; {way}")


def _check_delimiter(table: Table | None, expected: str, name: str) -> None:
    """Refuse a table with another delimiter than the format has, whose header would be one column."""
    if table is not None and table.delimiter != expected and all(expected not in column for column in table.columns):
        raise ConfigError(f"{name}: looks like {table}; add {table.option}")


def _read_as(head: bytes) -> str | None:
    if (found := json_in(head)) is not None:
        return f"it is {found}: add --format jsonl"
    if (table := table_in(head)) is not None:
        return f"it looks like {table}: add {table.options}"
    return None


def _text(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", "ignore")
    return head.replace(b"\0", b"").decode("utf-8-sig", "replace")


def _table(text: str, delimiter: str) -> Table | None:
    records = _records(text, delimiter)
    if len(records) > 2 and not text.endswith(("\n", "\r")):
        records.pop()  # it may be cut off
    if len(records) < 2 or len({len(record) for record in records}) > 1:
        return None
    header = records[0]
    return Table(delimiter, tuple(header)) if len(header) > 1 and _are_names(header) else None


def _records(text: str, delimiter: str) -> list[list[str]]:
    lines = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    try:
        return list(islice(filter(None, lines), _RECORDS))
    except csv.Error:
        return []


def _are_names(header: list[str]) -> bool:
    """Whether cells are names of columns. In a sentence a blank follows the comma, and parts are long."""
    if len(set(header)) < len(header):
        return False
    return all(cell and cell == cell.strip() and len(cell) <= _NAME for cell in header)
