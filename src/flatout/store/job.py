"""Is this the same job? If not, what differs, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from flatout.errors import RunMismatch
from flatout.text.changed import changed

LATER = frozenset({"server"})
"""What files of earlier versions do not say. It is not held against them, and kept from then on."""


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
    old, new = (None if value is None else repr(value) for value in (was, now))
    return f"{name} {changed(old, new)}"
