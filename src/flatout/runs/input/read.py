"""Reads the input of a run: text of several kinds, Parquet, databases and workbooks, from files, pipes and afar.

Inputs are large and come from other people's tools. So rows are read one at a time, and every error is one sentence
that names the file and the line, raised before anything has been paid for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from msgspec import Struct

from flatout.errors import ConfigError

from .begun import Begin, Begun, Input, check_unique
from .decode import CHUNK, check_encoding
from .delimited import begin_delimited, checked_delimiter
from .formats import DATABASES, FORMATS, by_suffix, check_place, source_of
from .kinds import HEAD
from .lines import json_list, json_rows, numbered, text_rows
from .many import Joined, check_one_kind, files_of, is_several
from .names import is_elsewhere, parted, parted_url, shown
from .places import Here, Place
from .rows import InputSource, Row
from .streams import is_packed, open_file, plain_errors, stream_of, unpacked


class How(Struct, frozen=True):
    """How to read an input, as `open_input` takes it."""

    format: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    delimits_output: bool = False

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        if self.format is not None and self.format not in FORMATS:
            raise ConfigError(f"the input format is one of {', '.join(FORMATS)}, not {self.format!r}")
        if self.format is not None:
            self.check_delimiter(self.format)

    def check_delimiter(self, format: str, where: str = "") -> None:
        """Refuse a delimiter that is for nothing."""
        if self.delimiter is not None and format not in ("csv", "tsv") and not self.delimits_output:
            raise ConfigError(f"{where}--delimiter is for CSV, and the format is {format}")

    def format_of(self, path: str | Path | None) -> str | None:
        """The format as far as it is known before the first bytes are."""
        named = None if path is None else by_suffix(path)
        if self.delimiter is not None and named in (None, "text"):
            named = "csv"
        return self.format or named


def open_input(
    path: str | Path,
    *,
    format: str | None = None,
    stdin: BinaryIO | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    delimits_output: bool = False,
) -> Input:
    r"""Open an input; ``-`` is stdin.

    The suffix tells the format. With an unknown suffix, and on stdin, the first bytes tell: JSON if the text begins
    like JSON rows, and plain text otherwise. JSON means one row a line, or one list of rows. What is packed is
    unpacked. CSV and TSV have a header. Blank lines are skipped.

    Args:
        path: the file; a folder, or a pattern such as ``part-*.jsonl``; ``shop.db::orders`` and
            ``shop.db::select …`` name a part of a database, ``book.xlsx::Mails`` a sheet; each of them, except a
            database, also elsewhere: ``s3://bucket/part-*.jsonl``, ``https://…``.
        format: one of `flatout.runs.input.formats.FORMATS`; overrides suffix and content.
        stdin: the stream that ``-`` reads; this process's stdin by default.
        encoding: the encoding of text. A byte order mark identifies UTF-8 and UTF-16 without it.
        delimiter: what stands between the cells of CSV, one character or ``\t``; by default a comma, in TSV a tab.
        delimits_output: the delimiter is for the output too, so the input need not have any.

    Raises:
        ConfigError: the file does not exist, is a directory or of another kind, the format or encoding is unknown, or
            the header is unusable.
    """
    how = How(format, encoding, None if delimiter is None else checked_delimiter(delimiter), delimits_output)
    if str(path) == "-":
        return _streamed("stdin", None, stdin, how)
    if is_elsewhere(str(path)):
        return _afar(str(path), how)
    name, file, part = parted(str(path))
    if part is None and is_several(file):
        return Joined(name, [_here(str(each), each, None, how) for each in files_of(name, file)])
    return _here(name, file, part, how)


def _afar(url: str, how: How) -> Input:
    from .elsewhere import places  # loaded for those who want it

    file, part = parted_url(url)
    found = places(file)
    if isinstance(found, list):
        check_one_kind(shown(file), [PurePosixPath(each.name) for each in found])
        return Joined(shown(file), [_one(each, part, how) for each in found])
    return _one(found, part, how)


def _here(name: str, path: Path, part: str | None, how: How) -> Input:
    """One file of this machine, or what looks like one: a named pipe."""
    if (stream := stream_of(name, path, None)) is not None:
        return _streamed(name, path, stream, how)
    return _one(Here(name, path), part, how)


def _one(place: Place, part: str | None, how: How) -> Input:
    with plain_errors(place.name), open_file(place, CHUNK) as file:
        head = file.read(HEAD)
    source = source_of(place.name, how.format_of(place.path or place.name), head, how.delimiter)
    check_place(source, part, whole=True, packed=is_packed(place), here=place.path is not None)
    return Input(source, _reading(source, place, part, partial(open_file, place), how), repeatable=True)


def _streamed(name: str, path: Path | None, stream: BinaryIO | None, how: How) -> Input:
    """What can be read only once."""
    if stream is None:
        stream = stream_of(name, "-", None)
    assert stream is not None
    with plain_errors(name):
        head, whole = unpacked(stream, name, own=name != "stdin")
    source = source_of(name, how.format_of(path), head, how.delimiter)
    check_place(source, None, whole=False, packed=False)
    return Input(source, _reading(source, None, None, lambda: whole, how), repeatable=False)


def _reading(
    source: InputSource, place: Place | None, part: str | None, open_stream: Callable[[], BinaryIO], how: How
) -> Begin:
    """How to read a source of this format."""
    how.check_delimiter(source.format, f"{source.name}: ")
    if place is not None and (begin := _file_reading(source, place, part)) is not None:
        return begin
    lines = partial(numbered, open_stream, source, how.encoding)
    if source.format == "jsonl":
        return lambda: Begun(json_rows(lines(), source))
    if source.format == "json":
        return lambda: Begun(json_rows(json_list(open_stream, source, how.encoding), source))
    if source.format == "text":
        return lambda: Begun(text_rows(lines(), source), ("prompt",))
    return lambda: begin_delimited(lines(), source, how.delimiter)


def _file_reading(source: InputSource, place: Place, part: str | None) -> Begin | None:
    """How to read a format that needs a file; None for the others."""
    if source.format == "parquet":
        return partial(_begin_parquet, place, source)
    if source.format == "excel":
        from .workbook import begin_workbook

        return partial(begin_workbook, place, part, source)
    if source.format in DATABASES:
        from . import database

        assert place.path is not None  # as `check_place` has made sure
        begin = database.begin_sqlite if source.format == "sqlite" else database.begin_duckdb
        return partial(begin, place.path, part, source)
    return None


def _begin_parquet(place: Place, source: InputSource) -> Begun:
    from flatout.runs.parquet import read_rows, read_types

    columns, types = read_types(_parts(place), source.name)
    check_unique(columns, f"{source.name}:")
    found = enumerate(read_rows(_parts(place), source.name))
    return Begun((Row(index, index + 1, values, source) for index, values in found), columns, types)


def _parts(place: Place) -> Path | BinaryIO:
    """A file that is read here and there."""
    return place.path or cast(BinaryIO, place.open(CHUNK))
