"""JSON as run files keep it: equal values have equal text, so a step or a call can be found again by its content."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from typing import Any, get_origin

import msgspec

from flatout.errors import ConfigError, InvalidRequest
from flatout.providers.schemas.structured import schema_of
from flatout.text.halves import JsonWriter
from flatout.values.attachments import Attachment


def plain(value: Any) -> bytes:
    """Any value as JSON. Values beyond JSON become their name or their repr."""
    try:
        return quick(value)
    except TypeError:  # for example keys that are not texts
        return json.dumps(jsonable(value, _described), sort_keys=True).encode()


def as_json(value: Any, complaint: str) -> bytes:
    """A value as JSON. Values beyond JSON are written as pydantic writes them.

    Raises:
        ConfigError: the value has no form in JSON; the message begins with the complaint.
    """
    try:
        try:
            return _strict(value)
        except TypeError:  # for example keys that are not texts
            return json.dumps(jsonable(value), sort_keys=True).encode()
    except Exception as error:  # a user's own classes may raise anything
        raise ConfigError(f"{complaint} ({error})") from error


def strict(value: Any) -> str:
    """A value as JSON for a reader. NaN and infinity have no form in JSON, and do not become null.

    Raises:
        Exception: the value has no form in JSON; a user's own classes may raise anything.
    """
    return json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def jsonable(value: Any, otherwise: Callable[[Any], Any] | None = None) -> Any:
    """A value in JSON's own types, as pydantic writes it: dataclasses, dates, sets, keys that are not texts.

    Args:
        value: the value. Numbers and arrays of numpy and similar libraries become Python's.
        otherwise: converts a value that pydantic does not know. By default msgspec's and attrs' classes are known.

    Raises:
        ValueError, TypeError: the value has no form in JSON.
    """
    from pydantic_core import to_jsonable_python  # part of pydantic, which is slow to import

    def native(unknown: Any) -> Any:
        give = getattr(unknown, "tolist", None)
        return give() if callable(give) else (otherwise or msgspec.to_builtins)(unknown)

    return to_jsonable_python(value, fallback=native)


def _described(value: Any) -> Any:
    """The JSON form of a value beyond JSON.

    A type is its schema, a pydantic value its fields, a function its name, an image or a file its digest, a vector its
    numbers.
    """
    if isinstance(value, Attachment):
        return value.described()
    if isinstance(value, array):
        return value.tolist()
    if isinstance(value, type) or get_origin(value) is not None:
        return _schema(value)
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump is not None else _named(value)


def _schema(kind: Any) -> Any:
    """A type as its JSON schema, so that a change of its fields shows; its name if it has none."""
    try:
        return schema_of(kind, None).schema
    except InvalidRequest:
        return _named(kind)


def _named(value: Any) -> str:
    return getattr(value, "__qualname__", None) or repr(value)


quick = JsonWriter(_described, "deterministic")
"""`plain`, for values whose keys are surely texts. Otherwise it raises a TypeError."""

_strict = JsonWriter(jsonable, "deterministic")
