"""A row in the form that the run file keeps: JSON from which each value can be restored.

Every reader passes its rows through this module before the first call. A row that cannot be kept beside its answer
would be paid for again on each resume.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from flatout.errors import ConfigError

from .input.rows import Row

LARGEST_ROW = 256 * 1024 * 1024
"""Most bytes of a row as JSON. A run file takes no value of more than 1,000,000,000 bytes."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def stored(row: Row) -> bytes:
    """A row's columns in the form that the run file keeps.

    Raises:
        ConfigError: a value cannot be kept; the message names the row's place and the column.
    """
    try:
        kept = encoded(row.columns)
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise ConfigError(f"{row.at}: {_unstorable(row)}") from None
    if len(kept) > LARGEST_ROW:
        raise ConfigError(f"{row.at}: the row is larger than {LARGEST_ROW // 1024**2} MB")
    return kept


def encoded(columns: dict[str, Any]) -> bytes:
    """Columns as JSON. NaN and Infinity, which JSON lacks, are written as Python's json writes them."""
    kept = _encode(columns)
    if b"null" in kept and _has_strange_number(columns):
        return json.dumps(msgspec.to_builtins(columns)).encode()
    return kept


def restored(kept: bytes) -> dict[str, Any]:
    """The columns as JSON has them: a date is text, bytes are Base64."""
    try:
        return _decode(kept)
    except msgspec.DecodeError:  # a number that JSON lacks, or half of a surrogate pair
        return dict(json.loads(kept))


def _has_strange_number(value: Any) -> bool:
    if isinstance(value, float):
        return value - value != 0
    if isinstance(value, dict):
        return any(map(_has_strange_number, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_strange_number, value))


def _unstorable(row: Row) -> str:
    for name, value in row.columns.items():
        try:
            encoded({name: value})
        except RecursionError:
            return f"the column {name} is nested too deeply"
        except (TypeError, ValueError, OverflowError) as error:
            return f"the column {name} cannot be kept in a run file: {error}"
    return "the row cannot be kept in a run file"
