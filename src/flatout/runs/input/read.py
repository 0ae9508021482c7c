"""Reads the input of a run: JSON, CSV, TSV, plain text and Parquet, from a file or stdin.

Inputs are large and come from other people's tools. So rows are read one at a time, and every error is one sentence
that names the file and the line, raised before anything has been paid for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from flatout.errors import ConfigError

from .begun import Begin, Begun, check_unique
from .decode import check_encoding, first_letter
from .delimited import begin_delimited
from .kinds import HEAD, check_kind, is_parquet
from .lines import json_list, json_rows, numbered, text_rows
from .rows import JSON_FORMATS, InputSource, Row
from .streams import open_file, plain_errors, stream_of, unpacked

_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "text",
    ".text": "text",
    ".parquet": "parquet",
    ".pq": "parquet",
}

FORMATS = ("jsonl", "json", "csv", "tsv", "text", "parquet")
"""The formats that `open_input` reads; ``json`` is one list of rows."""

_LIST = re.compile(rb'\[\s*(?:[\[{"]|$)')


class Input:
    """The rows of an input, made by `open_input`. Each iteration reads them anew.

    Attributes:
        name: the file as the user wrote it; ``stdin`` for standard input.
        format: one of `FORMATS`.
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
        with plain_errors(self.name):
            rows = self._rows()
            first = next(rows, None)
            if first is None:
                raise ConfigError(f"{self.name}: no rows")
            yield first
            yield from rows


def open_input(
    path: str | Path,
    *,
    format: str | None = None,
    stdin: BinaryIO | None = None,
    encoding: str = "utf-8",
) -> Input:
    """Open an input; ``-`` is stdin.

    The suffix tells the format. With an unknown suffix, and on stdin, the input is JSON if its text begins like JSON
    rows, and plain text otherwise. JSON means one row a line, or one list of rows. Gzip is unpacked. CSV and TSV have a
    header. Blank lines are skipped.

    Args:
        path: the file.
        format: one of `FORMATS`; overrides suffix and content.
        stdin: the stream that ``-`` reads; this process's stdin by default.
        encoding: the encoding of every format but Parquet. A byte order mark identifies UTF-8 and UTF-16 without it.

    Raises:
        ConfigError: the file does not exist, is a directory or of another kind, the format or encoding is unknown, or
            the header is unusable.
    """
    check_encoding(encoding)
    if format is not None and format not in FORMATS:
        raise ConfigError(f"the input format is one of {', '.join(FORMATS)}, not {format!r}")
    name = "stdin" if str(path) == "-" else str(path)
    stream = stream_of(name, path, stdin)
    if stream is None:
        path = Path(path)
        with plain_errors(name), open_file(path) as file:
            head = file.read(HEAD)
        source = _source(name, format or _by_suffix(path), head)
        return Input(source, _reading(source, path, partial(open_file, path), encoding), repeatable=True)
    with plain_errors(name):
        head, stream = unpacked(stream, own=name != "stdin")
    source = _source(name, format or (None if name == "stdin" else _by_suffix(Path(path))), head)
    if source.format == "parquet":
        raise ConfigError(f"{name}: Parquet cannot be read from a pipe; give the file's name")
    return Input(source, _reading(source, None, lambda: stream, encoding), repeatable=False)


def _source(name: str, format: str | None, head: bytes) -> InputSource:
    """The source, with the format that was given or that the first bytes tell."""
    chosen = format or ("parquet" if is_parquet(head) else _sniffed(head))
    if chosen in JSON_FORMATS:  # no name tells lines from a list
        chosen = "json" if first_letter(head) == b"[" else "jsonl"
    check_kind(head, chosen, name)
    return InputSource(name, chosen)


def _by_suffix(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    return _SUFFIXES.get(Path(name).suffix)


def _sniffed(head: bytes) -> str:
    letter = first_letter(head)
    if letter == b"[":  # but a text may begin so too
        head = head.replace(b"\0", b"")  # as UTF-16 has them
        return "json" if _LIST.match(head[head.index(letter) :]) else "text"
    return "jsonl" if letter in (b"{", b'"') else "text"


def _reading(source: InputSource, path: Path | None, open_stream: Callable[[], BinaryIO], encoding: str) -> Begin:
    """How to read a source of this format."""
    if source.format == "parquet":
        assert path is not None
        return partial(_begin_parquet, path, source)
    lines = partial(numbered, open_stream, source, encoding)
    if source.format == "jsonl":
        return lambda: Begun(json_rows(lines(), source))
    if source.format == "json":
        return lambda: Begun(json_rows(json_list(open_stream, source, encoding), source))
    if source.format == "text":
        return lambda: Begun(text_rows(lines(), source), ("prompt",))
    return lambda: begin_delimited(lines(), source)


def _begin_parquet(path: Path, source: InputSource) -> Begun:
    from flatout.runs.parquet import read_rows, read_types

    columns, types = read_types(path, source.name)
    check_unique(columns, f"{source.name}:")
    rows = (Row(index, index + 1, values, source) for index, values in enumerate(read_rows(path, source.name)))
    return Begun(rows, columns, types)


def _again(begin: Begin) -> Callable[[], Iterator[Row]]:
    return lambda: begin().rows


def _only_once(name: str, rows: Iterator[Row]) -> Callable[[], Iterator[Row]]:
    unread = [rows]

    def take() -> Iterator[Row]:
        if not unread:
            raise ConfigError(f"{name}: can be read only once")
        return unread.pop()

    return take
