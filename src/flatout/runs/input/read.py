"""Reads the input of a run: JSON, CSV, TSV, plain text and Parquet, from a file or stdin.

Inputs are large and come from other people's tools. So rows are read one at a time, and every error is one sentence
that names the file and the line, raised before anything has been paid for.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from flatout.errors import ConfigError

from .decode import as_utf8, check_encoding, first_letter, not_utf8
from .json_list import elements
from .kinds import HEAD, check_kind, is_parquet
from .rows import JSON_FORMATS, InputSource, Row
from .streams import open_file, plain_errors, stream_of, unpacked

LONGEST_LINE = 64 * 1024 * 1024
"""Most bytes of a line, and most characters of a CSV cell. A file without line ends must not fill memory."""

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

_DELIMITERS = {"csv": ",", "tsv": "\t"}
_HALF_A_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_LIST = re.compile(rb'\[\s*(?:[\[{"]|$)')

NumberedLines = Iterator[tuple[int, bytes]]
Begin = Callable[[], "Begun"]


class Begun(NamedTuple):
    """An input that has been opened: its columns, their types and its rows; see `Input`."""

    rows: Iterator[Row]
    columns: tuple[str, ...] | None = None
    types: str | None = None


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
    lines = partial(_lines, open_stream, source, encoding)
    if source.format == "jsonl":
        return lambda: Begun(_jsonl(lines(), source))
    if source.format == "json":
        return lambda: Begun(_jsonl(_elements(open_stream, source, encoding), source))
    if source.format == "text":
        return lambda: Begun(_text(lines(), source), ("prompt",))
    return lambda: _begin_delimited(lines(), source)


def _begin_parquet(path: Path, source: InputSource) -> Begun:
    from flatout.runs.parquet import read_rows, read_types

    columns, types = read_types(path, source.name)
    _check_unique(columns, f"{source.name}:")
    rows = (Row(index, index + 1, values, source) for index, values in enumerate(read_rows(path, source.name)))
    return Begun(rows, columns, types)


def _elements(open_stream: Callable[[], BinaryIO], source: InputSource, encoding: str) -> NumberedLines:
    """The elements of a JSON list, with their numbers."""
    with open_stream() as raw, as_utf8(raw, encoding, source.name) as stream:
        yield from enumerate(elements(stream, source, LONGEST_LINE), 1)


def _lines(open_stream: Callable[[], BinaryIO], source: InputSource, encoding: str) -> NumberedLines:
    """Lines as UTF-8, with their numbers."""
    with open_stream() as raw, as_utf8(raw, encoding, source.name) as stream:
        read_line = partial(stream.readline, LONGEST_LINE + 1)
        for number, line in enumerate(iter(read_line, b""), 1):
            if len(line) > LONGEST_LINE:
                raise ConfigError(f"{source.at(number)}: longer than {LONGEST_LINE:,} bytes")
            yield number, line


def _jsonl(lines: NumberedLines, source: InputSource) -> Iterator[Row]:
    decode = msgspec.json.decode
    index = 0
    for number, line in lines:
        try:
            value = decode(line)
        except Exception as error:  # a decoder raises many classes (also RecursionError), and all mean the same here
            if not line.strip():
                continue
            raise ConfigError(_why_not_json(line, error, source, number)) from None
        if type(value) is not dict:
            if type(value) is not str:
                raise ConfigError(f"{source.at(number)}: {_kind(value)}; a row is a JSON object or a JSON string")
            value = {"prompt": value}
        yield Row(index, number, value, source)
        index += 1


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a JSON list"
    return "null" if value is None else f"a JSON {'boolean' if isinstance(value, bool) else 'number'}"


def _why_not_json(line: bytes, error: Exception, source: InputSource, number: int) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as bad:
        return not_utf8(bad, source.at(number))
    if b"\0" in line:
        return _nul(source, number)
    why = str(error) if isinstance(error, msgspec.DecodeError) else "nested too deeply"
    if line.strip() == b"{":
        why = "it spans several lines; put each object on one line: jq -c"
    elif "truncated" in why and line.rstrip()[-1:] in b'}"' and _HALF_A_CHARACTER.search(line):
        why = "a \\u escape in it is half of a character"
    elif "truncated" in why:
        why = "it ends too early"
    return f"{source.at(number)}: not JSON: {why.removeprefix('JSON is malformed: ')}"


def _nul(source: InputSource, number: int) -> str:
    return f"{source.at(number)}: a NUL byte; if the file is UTF-16, add --encoding utf-16-le"


def _decoded(lines: NumberedLines, source: InputSource) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(not_utf8(error, source.at(number))) from None
        if "\0" in text:
            raise ConfigError(_nul(source, number))
        yield number, text


def _text(lines: NumberedLines, source: InputSource) -> Iterator[Row]:
    index = 0
    for number, text in _decoded(lines, source):
        prompt = text.rstrip("\r\n")
        if prompt and not prompt.isspace():
            yield Row(index, number, {"prompt": prompt}, source)
            index += 1


def _records(lines: NumberedLines, source: InputSource) -> Iterator[tuple[int, list[str]]]:
    """CSV records that are not blank, each with the line that it starts on."""
    # The limit belongs to the csv module and is global, so it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    texts = (text for _, text in _decoded(lines, source))
    # Strict, because otherwise a quote that is never closed swallows the rest of the file into one cell.
    reader = csv.reader(texts, delimiter=_DELIMITERS[source.format], strict=True)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise ConfigError(f"{source.at(start)}: {_why_not_csv(str(error))}") from None


def _why_not_csv(error: str) -> str:
    if "unexpected end" in error:
        return "a quote is opened here and never closed"
    if "field larger" in error:
        return f"a cell longer than {LONGEST_LINE:,} characters; is a quote never closed?"
    if "new-line character" in error:
        return "a carriage return within a cell without quotes"
    return f"not CSV: {error}"


def _begin_delimited(lines: NumberedLines, source: InputSource) -> Begun:
    records = _records(lines, source)
    number, header = next(records, (0, []))
    if not number:
        raise ConfigError(f"{source.name}: no rows")
    columns = tuple(header)
    _check_unique(columns, f"{source.at(number)}:")
    return Begun(_delimited(records, columns, source), columns)


def _delimited(
    records: Iterator[tuple[int, list[str]]], columns: tuple[str, ...], source: InputSource
) -> Iterator[Row]:
    width = len(columns)
    for index, (number, cells) in enumerate(records):
        if len(cells) != width:
            raise ConfigError(f"{source.at(number)}: {_count(len(cells), 'cell')}, but the header has {width}")
        yield Row(index, number, dict(zip(columns, cells, strict=True)), source)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _check_unique(columns: Iterable[str], where: str) -> None:
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
