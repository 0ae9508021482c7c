"""Write texts that hold half of a surrogate pair: some JSON decoders let one in, and UTF-8 cannot encode it.

An answer or a row may hold one, and it was paid for. So it is still written: in JSON as its escape, and in plain text
as a question mark.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import msgspec


class JsonWriter:
    """Writes values as JSON: fast, or more slowly if a text holds half of a pair.

    Args:
        hook: converts values that msgspec does not know to JSON's own types.
        order: ``deterministic`` writes equal values as equal bytes.
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
"""Writes a value of JSON's or msgspec's own types as JSON."""


def utf8(text: str) -> bytes:
    """A text as UTF-8."""
    return text.encode(errors="replace")


def readable(text: str) -> str:
    """The text, with any half of a pair replaced by a question mark."""
    return text if text.isascii() else utf8(text).decode()
