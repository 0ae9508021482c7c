"""Check whether a run file belongs to the same job. If not, say what differs, in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from flatout.errors import RunMismatch
from flatout.text.changed import changed

LATER = frozenset({"server"})
"""Keys that may change: files of earlier versions lack them, and a file that holds nothing binds nobody to an address
that was wrong. The new value is stored from then on."""

FUNCTION = "function"
"""The key for the name of the function that runs for each row; a run of calls has none."""


def check_same_job(
    name: str, old: Mapping[str, Any], new: Mapping[str, Any], holds_nothing: Callable[[], bool]
) -> None:
    """Compare the file's job with the current one. A missing key counts as None, unless it is in `LATER`.

    Args:
        name: the file.
        old: its job.
        new: the current job.
        holds_nothing: whether the file has no answer, and no call that was paid for or may have been.

    Raises:
        RunMismatch: they differ; the message names the first difference, in the order of the current job.
    """
    new = msgspec.json.decode(msgspec.json.encode(new))  # tuples, enums … as the file returns them
    for key in dict.fromkeys([*new, *old]):
        was, now = old.get(key), new.get(key)
        if was != now and not (key in LATER and (key not in old or holds_nothing())):
            raise RunMismatch(f"{name} belongs to another job: {_changed(key, was, now)}")


def _changed(name: str, was: Any, now: Any) -> str:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        inner = next(key for key in [*now, *was] if was.get(key) != now.get(key))
        return _changed(f"{name}.{inner}", was.get(inner), now.get(inner))
    if name == FUNCTION and None in (was, now):
        return f"it was made for {was or 'calls'}, and is now used for {now or 'calls'}"
    old, new = (None if value is None else repr(value) for value in (was, now))
    return f"{name} {changed(old, new)}"
