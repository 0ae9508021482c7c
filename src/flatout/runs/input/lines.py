"""Rows of text: JSON, one a line or all in one list, and plain lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO

import msgspec

from flatout.errors import ConfigError

from .decode import as_utf8, not_utf8
from .json_list import elements
from .rows import InputSource, Row

LONGEST_LINE = 64 * 1024 * 1024
"""Most bytes of a line, and most characters of a CSV cell. A file without line ends must not fill memory."""

_HALF_A_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")

NumberedLines = Iterator[tuple[int, bytes]]


def json_list(open_stream: Callable[[], BinaryIO], source: InputSource, encoding: str) -> NumberedLines:
    """The elements of a JSON list, with their numbers."""
    with open_stream() as raw, as_utf8(raw, encoding, source.name) as stream:
        yield from enumerate(elements(stream, source, LONGEST_LINE), 1)


def numbered(open_stream: Callable[[], BinaryIO], source: InputSource, encoding: str) -> NumberedLines:
    """Lines as UTF-8, with their numbers."""
    with open_stream() as raw, as_utf8(raw, encoding, source.name) as stream:
        read_line = partial(stream.readline, LONGEST_LINE + 1)
        for number, line in enumerate(iter(read_line, b""), 1):
            if len(line) > LONGEST_LINE:
                raise ConfigError(f"{source.at(number)}: longer than {LONGEST_LINE:,} bytes")
            yield number, line


def json_rows(lines: NumberedLines, source: InputSource) -> Iterator[Row]:
    """The rows of JSON texts, one each."""
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


def decoded(lines: NumberedLines, source: InputSource) -> Iterator[tuple[int, str]]:
    """Lines as text, with their numbers."""
    for number, line in lines:
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(not_utf8(error, source.at(number))) from None
        if "\0" in text:
            raise ConfigError(_nul(source, number))
        yield number, text


def text_rows(lines: NumberedLines, source: InputSource) -> Iterator[Row]:
    """Each line that is not blank, as a prompt."""
    index = 0
    for number, text in decoded(lines, source):
        prompt = text.rstrip("\r\n")
        if prompt and not prompt.isspace():
            yield Row(index, number, {"prompt": prompt}, source)
            index += 1
