"""Writes the output of a run: the input's own columns first, then the outcome of each row.

An output file appears whole or not at all: it is written beside its final place, made durable, and then renamed.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct, defstruct

from flatout.errors import ConfigError, StoreError
from flatout.text.halves import to_json
from flatout.text.visible import visible_lines

from .claim import Claim
from .whole import whole

OUTPUT_FORMATS = ("jsonl", "csv", "tsv", "parquet")
"""The formats that `write` makes."""

MOST_COLUMNS = 10_000
"""The most columns of a CSV or Parquet file."""

_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_PREFIX = "flatout_"
_FIXED_TYPES = {
    "error": "string",
    "finish_reason": "string",
    "model": "string",
    "input_tokens": "int64",
    "output_tokens": "int64",
    "cost": "double",
    "attempts": "int64",
    "seconds": "double",
    "provider_seconds": "double",
    "queued_seconds": "double",
    "target": "string",
    "cached": "bool",
    "repaired": "bool",
    "raw_answer": "string",
}
"""The answer's columns except ``answer`` itself, with their Parquet types."""

_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class AnsweredRow(Struct, frozen=True, kw_only=True):
    """One row of the output. An unknown value is None, and is written as null or an empty cell.

    Attributes:
        columns: the input's own.
        answer: the text, or the parsed object if an output schema was given.
        error: why there is no answer, in the form of `named_error`.
        cost: US dollars.
        attempts: how many times the call was tried.
        seconds: from the call's start, queueing included, to its end.
        provider_seconds: how long its last attempt took.
        queued_seconds: how much of ``seconds`` no attempt was on the wire.
        target: which target of a route answered, or was tried last.
        cached: whether the answer comes from a cache.
        repaired: whether the parsed object comes from an answer that was not valid JSON as it stood.
        raw_answer: the model's text, if it could not be used.
    """

    columns: Mapping[str, Any]
    answer: Any = None
    error: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    attempts: int | None = None
    seconds: float | None = None
    provider_seconds: float | None = None
    queued_seconds: float | None = None
    target: str | None = None
    cached: bool | None = None
    repaired: bool | None = None
    raw_answer: str | None = None


ALL_COLUMNS = AnsweredRow.__struct_fields__[1:]
"""The columns that a run may add, in order. ``target``, ``cached``, ``repaired`` and ``raw_answer`` appear only if they
have something to say.
"""

ANSWER_COLUMNS = ALL_COLUMNS[:-4]
"""The columns that every run adds."""

ANYTHING = Claim(overwrite=True)
"""The claim of a caller that has made the check itself."""

Rows = Callable[[], Iterable[AnsweredRow]]
"""Returns a fresh iterator over the output's rows, the same each time."""


def named_error(name: str, message: str) -> str:
    """An error's class and message on one line: ``RateLimited: too fast``."""
    return f"{name}: {' '.join(message.split())}".rstrip(": ")


def answer_names(columns: Collection[str], fields: Sequence[str] = ANSWER_COLUMNS) -> dict[str, str]:
    """The name of each field beside these columns: with ``flatout_`` in front if the name is taken."""
    names = {}
    for name in fields:
        free = name
        while free in columns:
            free = _PREFIX + free
        names[name] = free
    return names


def output_format(path: str | Path, format: str | None = None) -> str:
    """The format to write: the one given, else the one that the suffix names; JSONL for ``-`` and for devices.

    Raises:
        ConfigError: the format is not one of `OUTPUT_FORMATS`, or cannot be written there.
    """
    if format is not None and format not in OUTPUT_FORMATS:
        raise ConfigError(f"the output format is one of {', '.join(OUTPUT_FORMATS)}, not {format!r}")
    suffix = Path(path).suffix.lower()
    chosen = format or ("jsonl" if is_stream(path) else _SUFFIXES.get(suffix))
    if chosen is None:
        what = f"the suffix {suffix}" if suffix else "a name without a suffix"
        raise ConfigError(f"{path}: {what} names no output format; use .jsonl, .csv, .tsv or .parquet")
    if chosen == "parquet" and is_stream(path):
        raise ConfigError(f"{path}: Parquet can only be written to a file")
    return chosen


def check_output(
    path: str | Path,
    *,
    format: str | None = None,
    claim: Claim = ANYTHING,
) -> None:
    """Check before the first call that the output can be written.

    Args:
        path: the output; ``-`` is stdout.
        format: one of `OUTPUT_FORMATS`; overrides the suffix.
        claim: what it may overwrite.

    Raises:
        ConfigError: the suffix is unknown, the folder is missing or read-only, the path is a directory or another's
            file, or pyarrow is not installed.
    """
    try:
        if str(path) != "-" and Path(path).is_dir():
            raise ConfigError(f"{path}: is a directory; name a file in it")
        if output_format(path, format) == "parquet":
            from flatout.runs.parquet import arrow

            arrow()
        if str(path) != "-":
            _check_place(path, claim)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def write(
    path: str | Path,
    rows: Rows,
    columns: Sequence[str] | None = None,
    *,
    format: str | None = None,
    neutralise: bool = False,
    routed: bool = False,
    cached: bool = False,
    parsed: bool = False,
    raw: bool = False,
    types: str | None = None,
    claim: Claim = ANYTHING,
) -> int:
    """Write the output in constant memory and return the number of its rows.

    A file is replaced as a whole once everything is on disk. If anything fails, the old file is still there.

    Args:
        path: the output; ``-`` is stdout.
        rows: returns a fresh iterator over the rows. It is called again for each thing to find out beforehand (the
            columns if they are not given, the types for Parquet).
        columns: all the input's columns, in order; None if unknown.
        format: one of `OUTPUT_FORMATS`; overrides the suffix.
        neutralise: put ``'`` before cells of CSV and TSV that a spreadsheet would run as a formula.
        routed: whether some calls had a choice of targets; adds the column ``target``.
        cached: whether some answers come from a cache; adds the column ``cached``.
        parsed: whether answers were to be parsed; adds the column ``repaired``.
        raw: whether some answers could not be used; adds the column ``raw_answer`` with their text.
        types: the types of the input's columns, for Parquet; the values then come as JSON has them.
        claim: what the output may replace.

    Raises:
        ConfigError: the suffix is unknown, there are too many columns for CSV or Parquet, a row has an unknown column,
            or another's file is in the output's place.
        StoreError: the disk is full, or the file cannot be written for another reason.
        BrokenPipeError: the reader of stdout has gone.
    """
    chosen = output_format(path, format)
    if columns is None:
        columns = _taken_names(rows()) if chosen == "jsonl" else _all_columns(rows(), path)
    extra = {"target": routed, "cached": cached, "repaired": parsed, "raw_answer": raw}
    fields = (*ANSWER_COLUMNS, *(name for name, wanted in extra.items() if wanted))
    names = answer_names(frozenset(columns), fields)
    try:
        with _opened(path, claim) as file:
            if chosen == "jsonl":
                return _write_jsonl(file, rows(), names)
            if chosen == "parquet":
                return _write_parquet(file, rows, columns, names, types)
            return _write_delimited(file, rows(), columns, names, "\t" if chosen == "tsv" else ",", neutralise)
    except BrokenPipeError:
        raise
    except OSError as error:
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise StoreError(f"{path}: cannot be written: {why}") from error


def _check_place(path: str | Path, claim: Claim) -> None:
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise ConfigError(f"{path}: the folder {Path(path).parent} does not exist")
    if not is_stream(path):
        claim.check(path)
    if target.exists() and not os.access(target, os.W_OK):
        raise ConfigError(f"{path}: is not writable")
    if not is_stream(path) and not os.access(target.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: the folder {Path(path).parent} is not writable")


def is_stream(path: str | Path) -> bool:
    """Whether the output is not a file to replace: stdout, a device, a pipe.

    Raises:
        OSError: the path cannot be examined. `Path.exists` raises that only before Python 3.14.
    """
    if str(path) == "-":
        return True
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _taken_names(rows: Iterable[AnsweredRow]) -> tuple[str, ...]:
    """The columns that `answer_names` must avoid. JSONL rows differ, but the answer has one name in all of them."""
    taken: set[str] = set()
    for row in rows:
        taken.update(name for name in row.columns if name in ALL_COLUMNS or name.startswith(_PREFIX))
    return tuple(taken)


def _all_columns(rows: Iterable[AnsweredRow], path: str | Path) -> tuple[str, ...]:
    columns: dict[str, None] = {}
    for row in rows:
        if not row.columns.keys() <= columns.keys():
            columns.update(dict.fromkeys(row.columns))
            if len(columns) > MOST_COLUMNS:
                raise ConfigError(f"{path}: the input has more than {MOST_COLUMNS:,} different columns; write .jsonl")
    return tuple(columns)


@contextmanager
def _opened(path: str | Path, claim: Claim) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield _TerminalFile(sys.stdout.buffer) if sys.stdout.isatty() else sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if is_stream(path):
        with Path(path).open("wb") as stream:
            yield stream
        return

    def ready(temporary: Path) -> None:
        claim.check(path)  # again, because hours may have passed
        claim.written(temporary)

    with whole(Path(os.path.realpath(path)), ready) as file:  # a link stays a link; the file it points to is replaced
        yield file


class _TerminalFile(io.BytesIO):
    """Takes lines for a terminal. Control characters in an answer must not act on it, so they are made visible."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file

    def write(self, line: Any) -> int:
        return self._file.write(visible_lines(bytes(line).decode("utf-8", "replace")).encode("utf-8", "replace"))


def _write_jsonl(file: BinaryIO, rows: Iterable[AnsweredRow], names: Mapping[str, str]) -> int:
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


def _write_parquet(
    file: BinaryIO, rows: Rows, columns: Sequence[str], names: Mapping[str, str], types: str | None
) -> int:
    from flatout.runs.parquet import write_rows

    known = frozenset(columns)
    answer = _answer_values(names)
    fixed = {names[field]: kind for field, kind in _FIXED_TYPES.items() if field in names}
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


def _write_delimited(
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
