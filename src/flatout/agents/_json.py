"""Values as JSON and as texts, and back: what a model, a tool or a run file is given of a value.

The one place of this package where JSON is written.
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
    """Whether something is a type that an answer can have, not a value or a function."""
    return isinstance(value, type) or get_origin(value) is not None or isinstance(value, Mapping)


def check_kind(what: str, kind: Any) -> None:
    """Refuse a dict that is no JSON schema, before anything is sent.

    Raises:
        ConfigError: the dict is no JSON schema.
    """
    if isinstance(kind, Mapping):
        try:
            validator_of(kind, what)
        except InvalidRequest as error:
            raise ConfigError(str(error)) from None


def typed(kind: Any, value: Any) -> Any:
    """A value as its type: what comes from a run file is plain JSON."""
    return value if kind is None or value is None else restored(kind, plain(value))


def read(kind: Any, text: str) -> Any:
    """JSON text as a type, or as what a dict's JSON schema allows. What it raises is the validator's own."""
    value = restored(kind, text.encode())
    if isinstance(kind, Mapping):
        validator_of(kind, "schema")(value)
    return value


def text_of(value: Any) -> str:
    """A text as it is; anything else as JSON."""
    return value if isinstance(value, str) else plain(value).decode()


def marked(value: Any) -> str:
    """A value between marks, which it cannot close itself."""
    return "<material>\n" + text_of(value).replace("</material", "< /material") + "\n</material>"
