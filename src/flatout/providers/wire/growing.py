"""Assemble JSON objects from pieces: strings and lists grow, objects grow field by field, other values are replaced.

Beside an answer's text, servers send much else in pieces (reasoning, log probabilities, citations, signatures), each
under its own names. So pieces are joined by their shape, and unknown fields are kept as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXTS = frozenset({
    *("content", "refusal", "text", "thinking", "reasoning", "reasoning_content", "summary"),
    *("data", "signature", "transcript"),
})  # fmt: skip
"""Names of strings that come in pieces, at any level."""

_WHOLE = frozenset({"role", "id", "name", "type", "object", "format", "status"})
"""Names of strings that come complete, and may be repeated in every piece."""

_SPOKEN = ("text", "thinking")  # no set: what is on the wire may have no hash
"""Types of parts that continue from one piece to the next without an index."""

_DEPTH = 8
"""Levels of objects that grow. No real answer has as many."""


class _Text(list[str]):
    """A string in pieces."""


class Growing:
    """One object that comes in pieces.

    Args:
        spoken: whether all strings of the object itself come in pieces, as in a ``delta``. Otherwise only those in
            `_TEXTS` do.
    """

    __slots__ = ("_spoken", "_values")

    def __init__(self, *, spoken: bool) -> None:
        self._spoken = spoken
        self._values: dict[str, Any] = {}

    def add(self, piece: Mapping[str, Any]) -> None:
        """Add the next piece."""
        _grow(self._values, piece, spoken=self._spoken)

    def whole(self) -> dict[str, Any]:
        """The object so far."""
        return {name: _settled(value) for name, value in self._values.items()}


def _grow(into: dict[str, Any], piece: Mapping[str, Any], *, spoken: bool = False, depth: int = 0) -> None:
    for name, value in piece.items():
        held = into.get(name)
        if isinstance(value, str) and (name not in _WHOLE if spoken else name in _TEXTS):
            if isinstance(held, _Text):
                held.append(value)
            else:
                into[name] = _with_text(held, value)
        elif isinstance(value, list):
            parts = held if isinstance(held, list) else []
            if isinstance(held, _Text):  # a string so far, and parts from now on
                parts = [{"type": "text", "text": held}] if any(held) else []
            into[name] = parts
            for item in value:
                _add_part(parts, item, depth)
        elif isinstance(value, dict) and depth < _DEPTH:
            into[name] = held if isinstance(held, dict) else {}
            _grow(into[name], value, depth=depth + 1)
        elif value is not None:
            into[name] = value


def _with_text(held: Any, piece: str) -> Any:
    if not isinstance(held, list):
        return _Text([piece])
    if piece:
        _add_part(held, {"type": "text", "text": piece}, 0)
    return held


def _add_part(parts: list[Any], item: Any, depth: int) -> None:
    if not isinstance(item, dict) or depth >= _DEPTH:
        parts.append(item)
        return
    if not parts or not _continues(parts[-1], item):
        parts.append({})
    _grow(parts[-1], item, depth=depth + 1)


def _continues(last: Any, item: dict[str, Any]) -> bool:
    """Whether a part continues the one before it. A signed part is complete."""
    if not isinstance(last, dict) or last.get("type") != item.get("type"):
        return False
    if "index" in item:
        return bool(item["index"] == last.get("index"))
    return item.get("type") in _SPOKEN and "signature" not in last


def _settled(value: Any, levels: int = 2 * _DEPTH + 2) -> Any:
    """A value with its strings joined. Below ``levels``, lists included, nothing grew."""
    if isinstance(value, _Text):
        return "".join(value)
    if levels and isinstance(value, list):
        return [_settled(item, levels - 1) for item in value]
    if levels and isinstance(value, dict):
        return {name: _settled(item, levels - 1) for name, item in value.items()}
    return value
