"""The input of a batch: its rows, and what is wrong with them, in the words of OpenAI's batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

MOST_BYTES = 200 * 1024 * 1024
MOST_ROWS = 50_000
"""The largest input of a batch (OpenAI's)."""

MOST_FAULTS = 100
"""Faults of an input that are reported."""


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


class Rows(Struct):
    """The rows of a batch.

    Attributes:
        ids: their names, in order.
        bodies: their requests.
        models: the models that they name.
    """

    ids: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    models: set[str] = field(default_factory=set)


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
    rows, faults, seen = Rows(), list[Fault](), set[str]()
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            given = line.removeprefix(_MARK) if number == 1 else line
            if not given.strip():
                continue
            fault = _add(given, number, endpoint, rows, seen)
            if fault is not None:
                faults.append(fault)
            if len(faults) >= MOST_FAULTS or len(rows.ids) > MOST_ROWS:
                break
    if len(rows.ids) > MOST_ROWS:
        faults.append(Fault("too_many_tasks", f"the file has too many rows: a batch has at most {MOST_ROWS:,}"))
    elif not rows.ids and not faults:
        faults.append(Fault("empty_file", "the file has no rows"))
    return rows, faults


def _add(line: bytes, number: int, endpoint: str, rows: Rows, seen: set[str]) -> Fault | None:
    """Add a line to the rows. Returns what is wrong with it, if anything is."""
    try:
        row = _decode(line)
        body = bytes(row.body)
        model = str(_body(body).model) if body else ""
    except (ValueError, RecursionError) as error:
        return Fault("invalid_json_line", f"the line is not the JSON object of a row: {error}", number)
    if not row.custom_id or not body:
        name = "body" if row.custom_id else "custom_id"
        return Fault("missing_required_parameter", f"the row has no {name}", number, name)
    if row.custom_id in seen:
        message = f"the custom_id {row.custom_id[:80]!r} is used twice"
        return Fault("duplicate_custom_id", message, number, "custom_id")
    if row.method not in (None, "POST"):
        return Fault(
            "invalid_method", f"the method is {row.method[:20]!r}, and only POST makes a call", number, "method"
        )
    if row.url and row.url != endpoint:
        message = f"the url is {row.url[:80]!r}, and the batch is for {endpoint}"
        return Fault("url_mismatch", message, number, "url")
    seen.add(row.custom_id)
    rows.ids.append(row.custom_id)
    rows.bodies.append(body)
    rows.models.add(model)
    return None
