"""Is this the same job? If not, what differs, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from flatout.errors import RunMismatch

LATER = frozenset({"server"})
"""What files of earlier versions do not say. It is not held against them, and kept from then on."""

_WIDTH = 60  # characters of a value that a message shows


def check_same_job(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Compare a file's job with today's. A key that is missing counts as None, unless `LATER` has it.

    Raises:
        RunMismatch: they differ; the message names the first difference, in the order of today's job.
    """
    new = msgspec.json.decode(msgspec.json.encode(new))  # tuples, enums … as the file would give them back
    for key in dict.fromkeys([*new, *old]):
        was, now = old.get(key), new.get(key)
        if key in LATER and key not in old:
            continue
        if was != now:
            raise RunMismatch(f"{name} belongs to another job: {_changed(key, was, now)}")


def _changed(name: str, was: Any, now: Any) -> str:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        inner = next(key for key in [*now, *was] if was.get(key) != now.get(key))
        return _changed(f"{name}.{inner}", was.get(inner), now.get(inner))
    if was is None:
        return f"{name} was not set, is now {_window(repr(now), 0)}"
    if now is None:
        return f"{name} was {_window(repr(was), 0)}, is now not set"
    old, new = repr(was), repr(now)
    # Two long templates may differ at the very end: show both from just before the place.
    place = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, place - _WIDTH // 3) if max(len(old), len(new)) > _WIDTH else 0
    return f"{name} was {_window(old, start)}, is now {_window(new, start)}"


def _window(text: str, start: int) -> str:
    shown = text[start : start + _WIDTH]
    return f"{'…' if start else ''}{shown}{'…' if start + _WIDTH < len(text) else ''}"
