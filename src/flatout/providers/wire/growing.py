"""JSON objects that come in pieces: texts and lists grow, objects grow entry by entry, anything else is replaced.

Servers put much beside an answer's text into its pieces (reasoning, log probabilities, citations, signatures), each
under names of its own. So a piece is put together by its shape, and what nobody knew of is kept as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXTS = frozenset({
    *("content", "refusal", "text", "thinking", "reasoning", "reasoning_content", "summary"),
    *("data", "signature", "transcript"),
})  # fmt: skip
"""Names of texts that come in pieces, wherever they stand."""

_WHOLE = frozenset({"role", "id", "name", "type", "object", "format", "status"})
"""Names of texts that come whole, and may be repeated in every piece."""

_SPOKEN = frozenset({"text", "thinking"})
"""Types of parts that go on from one piece to the next without an index that says so."""

_DEPTH = 8
"""Levels of objects that grow. No answer has as many."""


class _Text(list[str]):
    """A text in pieces."""


class Growing:
    """One object that comes in pieces.

    Args:
        spoken: whether its own texts are pieces by themselves, whatever their names, as in a ``delta``; otherwise
            only those that are known to be.
    """

    __slots__ = ("_spoken", "_values")

    def __init__(self, *, spoken: bool) -> None:
        self._spoken = spoken
        self._values: dict[str, Any] = {}

    def add(self, piece: Mapping[str, Any]) -> None:
        """Take the next piece in."""
        _grow(self._values, piece, spoken=self._spoken)

    def whole(self) -> dict[str, Any]:
        """What came so far."""
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
            if isinstance(held, _Text):  # a text so far, and parts from now on
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
    if not parts or not _goes_on(parts[-1], item):
        parts.append({})
    _grow(parts[-1], item, depth=depth + 1)


def _goes_on(last: Any, item: dict[str, Any]) -> bool:
    """Whether a part is more of the one before it. What is signed is complete."""
    if not isinstance(last, dict) or last.get("type") != item.get("type"):
        return False
    if "index" in item:
        return bool(item["index"] == last.get("index"))
    return item.get("type") in _SPOKEN and "signature" not in last


def _settled(value: Any, levels: int = 2 * _DEPTH + 2) -> Any:
    """A value with its texts in one piece. Further down than ``levels``, lists included, nothing grew."""
    if isinstance(value, _Text):
        return "".join(value)
    if levels and isinstance(value, list):
        return [_settled(item, levels - 1) for item in value]
    if levels and isinstance(value, dict):
        return {name: _settled(item, levels - 1) for name, item in value.items()}
    return value
