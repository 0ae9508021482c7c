"""Describe a change for people: the value before and the value now."""

from __future__ import annotations

WIDTH = 60
"""The most characters of a value that are shown."""


def changed(was: str | None, now: str | None) -> str:
    """``was 'a', is now 'b'``. Two long texts are shown from shortly before their first difference.

    Args:
        was: the value before, in its own notation; None if it was not set.
        now: the value now.
    """
    start = 0
    if was is not None and now is not None and max(len(was), len(now)) > WIDTH:
        start = max(0, _first_difference(was, now) - WIDTH // 3)
    return f"was {_shown(was, start)}, is now {_shown(now, start)}"


def _first_difference(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _shown(text: str | None, start: int) -> str:
    if text is None:
        return "not set"
    end = start + WIDTH
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
