"""Converts values to JSON and to text, and back, for models, tools and run files.

It is the only module of this package that writes JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_origin

from flatout.durable.as_json import as_json, plain, strict
from flatout.errors import ConfigError, InvalidRequest
from flatout.providers.schemas.structured import restored, validator_of
from flatout.text.halves import readable, utf8

__all__ = [
    "as_json",
    "check_kind",
    "is_kind",
    "marked",
    "plain",
    "read",
    "readable",
    "strict",
    "text_of",
    "typed",
    "utf8",
]


def is_kind(value: Any) -> bool:
    """Whether something is a possible type of an answer, and not a value or a function."""
    return isinstance(value, type) or get_origin(value) is not None or isinstance(value, Mapping)


def check_kind(what: str, kind: Any) -> None:
    """Refuse a dict that is not a JSON schema, before anything is sent.

    Raises:
        ConfigError: the dict is not a JSON schema.
    """
    if isinstance(kind, Mapping):
        try:
            validator_of(kind, what)
        except InvalidRequest as error:
            raise ConfigError(str(error)) from None


def typed(kind: Any, value: Any) -> Any:
    """A value from a run file, which is plain JSON, as an object of its type."""
    return value if kind is None or value is None else restored(kind, plain(value))


def read(kind: Any, text: str) -> Any:
    """Read JSON text as a type, or by a JSON schema. It raises the validator's own errors."""
    value = restored(kind, text.encode())
    if isinstance(kind, Mapping):
        validator_of(kind, "schema")(value)
    return value


def text_of(value: Any) -> str:
    """A text as it is; anything else as JSON."""
    return value if isinstance(value, str) else plain(value).decode()


def marked(value: Any) -> str:
    """A value between marks. The value itself cannot contain the closing mark."""
    return "<material>\n" + text_of(value).replace("</material", "< /material") + "\n</material>"
