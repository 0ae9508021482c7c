"""Half of a surrogate pair: a character that some JSON decoders let into a text, and that UTF-8 cannot write.

An answer or a row may hold one, and it was paid for, so it is written all the same: in JSON as the escape that it came
from, and in a plain text as a question mark.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import msgspec


class JsonWriter:
    """Writes values as JSON. Fast where every text is whole, and slower where one holds half of a pair.

    Args:
        hook: makes JSON's own types of what msgspec does not know.
        order: ``deterministic`` writes equal values alike.
    """

    __slots__ = ("_encode", "_hook", "_sorts")

    def __init__(self, hook: Callable[[Any], Any] | None = None, order: Literal["deterministic"] | None = None) -> None:
        self._encode = msgspec.json.Encoder(enc_hook=hook, order=order).encode
        self._hook = hook
        self._sorts = order is not None

    def __call__(self, value: Any) -> bytes:
        """A value as JSON.

        Raises:
            TypeError, ValueError: it has no form in JSON.
        """
        try:
            return self._encode(value)
        except UnicodeEncodeError:
            return json.dumps(msgspec.to_builtins(value, enc_hook=self._hook), sort_keys=self._sorts).encode()


to_json = JsonWriter()
"""A value of JSON's own types, and of msgspec's, as JSON."""


def utf8(text: str) -> bytes:
    """A text as UTF-8."""
    return text.encode(errors="replace")


def readable(text: str) -> str:
    """A text that UTF-8 can write."""
    return text if text.isascii() else utf8(text).decode()
