"""A call as JSON, on its way to the worker that makes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec.structs import astuple

from flatout.errors import ConfigError
from flatout.text.halves import JsonWriter
from flatout.values import Call
from flatout.values.attachments import Attachment


def encoded(call: Call) -> bytes:
    """A call of a run as JSON: its values in the order of its fields. An image is the part of a message that is sent.

    All calls of a run have the same ``output``, so it is left out. Whatever else rows and options hold is plain data.
    """
    values = list(astuple(call))
    values[_OUTPUT] = None
    return _write(values)


def call_of(kept: bytes, output: Any = None) -> Call:
    """The call that `encoded` wrote."""
    try:
        values = msgspec.json.decode(kept)
    except msgspec.DecodeError:  # half of a surrogate pair
        values = json.loads(kept)
    values[_OUTPUT] = output
    return Call(**dict(zip(_FIELDS, values, strict=True)))


def as_data(output: Any) -> list[Any] | dict[str, Any] | None:
    """What a run's answers must be, as plain data: a list of choices, or a JSON schema.

    Raises:
        ConfigError: it is something else.
    """
    if get_origin(output) is Literal:
        return list(get_args(output))
    if output is None or isinstance(output, Mapping):
        return None if output is None else dict(output)
    raise ConfigError("several workers need a JSON schema or choices for answers")


def from_data(output: list[Any] | dict[str, Any] | None) -> Any:
    """The ``output`` that `as_data` described."""
    return Literal[tuple(output)] if isinstance(output, list) else output


def _part(value: Any) -> Any:
    if isinstance(value, Attachment):
        return value.part
    raise TypeError(f"a call of a run holds a {type(value).__name__}")


_write = JsonWriter(_part)
_FIELDS = Call.__struct_fields__
_OUTPUT = _FIELDS.index("output")
