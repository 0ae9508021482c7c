"""The input of a batch: its rows, and what is wrong with them, in the words of OpenAI's batches.

An input may have 200 MB, and many batches may be under way. So its rows stay in its file, which is read again whenever
they are needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
from msgspec import Struct

MOST_BYTES = 200 * 1024 * 1024
MOST_ROWS = 50_000
"""The largest input of a batch (OpenAI's)."""

MOST_FAULTS = 100
"""Faults of an input that are reported."""


LONGEST_NAME = 1_000
"""Characters of a model's name that are looked at. None is as long, and a file may have 50,000 of them."""

_AT_ONCE = 1024 * 1024  # bytes of rows that are read at a time
_MARK = b"\xef\xbb\xbf"  # with which Windows begins files in UTF-8


class Fault(Struct, frozen=True):
    """What is wrong with an input.

    Attributes:
        code: one of OpenAI's.
        message: in words.
        line: which line, from 1; None for all of it.
        param: which part of the line; None for all of it.
    """

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Row(NamedTuple):
    """A row of a batch: its name, and its request."""

    id: str
    body: bytes


class Rows:
    """The rows of a batch, in its file. Iterating reads them anew, and waits for the disk: do so in a thread.

    Args:
        file: the input.
        count: how many rows it has.
        models: the models that they name.
    """

    def __init__(self, file: Path, count: int, models: frozenset[str]) -> None:
        self._file = file
        self._count = count
        self.models = models

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        with self._file.open("rb") as lines:
            for _, line in _lines(lines):
                if (row := _row(line)) is not None:
                    yield row

    async def read(self) -> AsyncGenerator[Row, None]:
        """The rows, some of which are read at a time, in a thread."""
        rows = iter(self)
        while some := await asyncio.to_thread(_some, rows):
            for row in some:
                yield row


class _Row(Struct, gc=False):
    custom_id: str | None = None
    body: msgspec.Raw = msgspec.Raw()
    method: str | None = None
    url: str | None = None


class _Body(Struct, gc=False):
    model: Any = ""


_decode = msgspec.json.Decoder(_Row).decode
_body = msgspec.json.Decoder(_Body).decode


def read(file: Path, endpoint: str) -> tuple[Rows, list[Fault]]:
    """The rows of an input, and what is wrong with it. It may be large: call this in a thread.

    Args:
        file: the input, one JSON object a line.
        endpoint: the address that the batch is for.

    Raises:
        OSError: the file cannot be read.
    """
    models, seen, faults = set[str](), set[bytes](), list[Fault]()
    with file.open("rb") as lines:
        for number, line in _lines(lines):
            fault = _check(line, number, endpoint, models, seen)
            if fault is not None:
                faults.append(fault)
            if len(faults) >= MOST_FAULTS or len(seen) > MOST_ROWS:
                break
    if len(seen) > MOST_ROWS:
        faults.append(Fault("too_many_tasks", f"the file has too many rows: a batch has at most {MOST_ROWS:,}"))
    elif not seen and not faults:
        faults.append(Fault("empty_file", "the file has no rows"))
    return Rows(file, len(seen), frozenset(models)), faults


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, and their numbers."""
    for number, line in enumerate(file, 1):
        given = line.removeprefix(_MARK) if number == 1 else line
        if given.strip():
            yield number, given


def _row(line: bytes) -> Row | None:
    """The row of a line; None for a line without one. `read` has reported what is wrong with that line."""
    try:
        row = _decode(line)
    except (ValueError, RecursionError):
        return None
    return Row(row.custom_id, bytes(row.body)) if row.custom_id else None


def _some(rows: Iterator[Row]) -> list[Row]:
    """The next rows, of about `_AT_ONCE` bytes."""
    some: list[Row] = []
    size = 0
    for row in rows:
        some.append(row)
        size += len(row.body)
        if size >= _AT_ONCE:
            break
    return some


def _check(line: bytes, number: int, endpoint: str, models: set[str], seen: set[bytes]) -> Fault | None:
    """Check a line, and note its model and its name. Returns what is wrong with it, if anything is."""
    try:
        row = _decode(line)
        body = bytes(row.body)
        model = str(_body(body).model) if body else ""
    except (ValueError, RecursionError) as error:
        return Fault("invalid_json_line", f"the line is not the JSON object of a row: {error}", number)
    if not row.custom_id or not body:
        name = "body" if row.custom_id else "custom_id"
        return Fault("missing_required_parameter", f"the row has no {name}", number, name)
    digest = blake2b(row.custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()  # a name may be long
    if digest in seen:
        message = f"the custom_id {row.custom_id[:80]!r} is used twice"
        return Fault("duplicate_custom_id", message, number, "custom_id")
    if row.method not in (None, "POST"):
        return Fault(
            "invalid_method", f"the method is {row.method[:20]!r}, and only POST makes a call", number, "method"
        )
    if row.url and row.url != endpoint:
        message = f"the url is {row.url[:80]!r}, and the batch is for {endpoint}"
        return Fault("url_mismatch", message, number, "url")
    seen.add(digest)
    models.add(model[:LONGEST_NAME])
    return None
