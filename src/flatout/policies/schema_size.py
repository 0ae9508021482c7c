"""A bound on the size of a schema's or a tool's description in a prompt, to keep a budget.

Types and functions have no size themselves: the request carries a JSON schema for them, which is made later.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_type_hints

ROOM = 512
"""Bytes that a wire format adds around one schema."""

SPARE = 2
"""The factor that a strict form may add: it names every field again and closes every object, but never doubles."""


def schema_size(output: Any) -> int:
    """The most bytes that a call's ``output`` takes in a prompt; 0 for None."""
    if output is None:
        return 0
    if isinstance(output, Mapping):  # the user's own schema, sent as it is
        return _bytes(output) + ROOM
    return _known(_type, output) + ROOM


def tool_size(tool: Any) -> int:
    """The most bytes that one of a call's tools takes in a prompt."""
    return (_bytes(tool) if isinstance(tool, Mapping) else _known(_function, tool)) + ROOM


def _known(measure: Callable[[Any], int], value: Any) -> int:
    try:
        return _remembered(measure, value)
    except TypeError:  # not hashable
        return measure(value)


@lru_cache(maxsize=256)
def _remembered(measure: Callable[[Any], int], value: Any) -> int:
    return measure(value)


def _function(function: Any) -> int:
    """A function's docstring, and the schemas of its parameters, each under its name."""
    try:
        hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        hints = {}
    about = f"{getattr(function, '__name__', '')}{inspect.getdoc(function) or ''}"
    return SPARE * _bytes(about) + sum(_type(hint) + SPARE * _bytes(name) + ROOM // 4 for name, hint in hints.items())


def _type(kind: Any) -> int:
    from pydantic import TypeAdapter  # slow to import, and only calls with a schema need it

    try:
        return SPARE * _bytes(TypeAdapter(kind).json_schema())
    except Exception:  # pydantic raises errors of several kinds; such a call is refused before it is sent
        return _bytes(kind)


def _bytes(value: Any) -> int:
    return len(str(value).encode("utf-8", "surrogatepass"))
