"""Writes the output of a run: the input's own columns first, then the outcome of each row.

An output file appears whole or not at all: it is written beside its final place, made durable, and then renamed. A
table of a database is filled in one transaction. A file elsewhere is written here, and then uploaded.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from flatout.errors import ConfigError, StoreError
from flatout.runs.input.packing import check_packing, packed
from flatout.text.visible import visible_lines

from . import elsewhere
from .answered import ALL_COLUMNS, ANSWER_COLUMNS, PREFIX, AnsweredRow, Rows, answer_names
from .claim import Claim, digest
from .encode import Layout, write_delimited, write_jsonl, write_parquet
from .formats import Form, form_of, is_stream
from .whole import whole

MOST_COLUMNS = 10_000
"""The most columns of a CSV or Parquet file."""

ANYTHING = Claim(overwrite=True)
"""The claim of a caller that has made the check itself."""


def check_output(
    path: str | Path,
    *,
    format: str | None = None,
    claim: Claim = ANYTHING,
) -> None:
    """Check before the first call that the output can be written.

    Args:
        path: the output; ``-`` is stdout.
        format: one of `flatout.runs.output.formats.OUTPUT_FORMATS`; overrides the suffix.
        claim: what it may overwrite.

    Raises:
        ConfigError: the suffix is unknown, the folder is missing or read-only, the path is a directory or another's
            file, or pyarrow is not installed.
    """
    try:
        if str(path) != "-" and Path(path).is_dir():
            raise ConfigError(f"{path}: is a directory; name a file in it")
        form = form_of(path, format)
        if form.format == "parquet":
            from flatout.runs.parquet import arrow

            arrow()
        if form.packing is not None:
            check_packing(form.packing, form.name)
        if str(path) != "-":
            _check_place(form, claim)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def write(
    path: str | Path,
    rows: Rows,
    columns: Sequence[str] | None = None,
    *,
    format: str | None = None,
    delimiter: str | None = None,
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
        format: one of `flatout.runs.output.formats.OUTPUT_FORMATS`; overrides the suffix.
        delimiter: what stands between the cells of CSV; a comma by default. TSV has tabs.
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
    form = form_of(path, format)
    if columns is None:
        columns = _taken_names(rows()) if form.format == "jsonl" else _all_columns(rows(), path)
    extra = {"target": routed, "cached": cached, "repaired": parsed, "raw_answer": raw}
    fields = (*ANSWER_COLUMNS, *(name for name, wanted in extra.items() if wanted))
    # A database takes names for one that differ only in case; all fields are in lower case.
    layout = Layout(columns, answer_names(frozenset(map(str.lower, columns) if form.table else columns), fields), types)
    try:
        if form.table:
            from .table import write_table

            return write_table(form, rows, layout, claim)
        with _opened(form, claim) as file:
            if form.format == "jsonl":
                return write_jsonl(file, rows(), layout.names)
            if form.format == "parquet":
                return write_parquet(file, rows, layout)
            between = "\t" if form.format == "tsv" else delimiter or ","
            return write_delimited(file, rows(), layout, between, neutralise=neutralise)
    except BrokenPipeError:
        raise
    except OSError as error:
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise StoreError(f"{form.name}: cannot be written: {why}") from error


def _check_place(form: Form, claim: Claim) -> None:
    if form.url is not None:
        elsewhere.check(form.url, claim)
        return
    path, target = form.file, Path(os.path.realpath(form.file))
    if not target.parent.is_dir():
        raise ConfigError(f"{form.name}: the folder {path.parent} does not exist")
    if form.table:
        from .table import check_table

        check_table(form, claim)
    elif not is_stream(path):
        claim.check(form.name)
    if target.exists() and not os.access(target, os.W_OK):
        raise ConfigError(f"{path}: is not writable")
    if not is_stream(path) and not os.access(target.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{form.name}: the folder {path.parent} is not writable")


def _taken_names(rows: Iterable[AnsweredRow]) -> tuple[str, ...]:
    """The columns that `answer_names` must avoid. JSONL rows differ, but the answer has one name in all of them."""
    taken: set[str] = set()
    for row in rows:
        taken.update(name for name in row.columns if name in ALL_COLUMNS or name.startswith(PREFIX))
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
def _opened(form: Form, claim: Claim) -> Iterator[BinaryIO]:
    if form.name == "-":
        yield _TerminalFile(sys.stdout.buffer) if sys.stdout.isatty() else sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if form.url is None and is_stream(form.file):
        with form.file.open("wb") as stream:
            yield stream
        return

    def ready(temporary: Path) -> None:
        claim.check(form.name)  # again, because hours may have passed
        claim.written(digest(temporary))

    # A link stays a link; the file it points to is replaced.
    local = partial(whole, Path(os.path.realpath(form.file)), ready)
    with (
        local() if form.url is None else elsewhere.whole(form.url, claim) as file,
        nullcontext(file) if form.packing is None else packed(file, form.packing) as written,
    ):
        yield written


class _TerminalFile(io.BytesIO):
    """Takes lines for a terminal. Control characters in an answer must not act on it, so they are made visible."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file

    def write(self, line: Any) -> int:
        return self._file.write(visible_lines(bytes(line).decode("utf-8", "replace")).encode("utf-8", "replace"))
