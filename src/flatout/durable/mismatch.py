"""What differs between a row and its record in the run file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flatout.errors import RunMismatch
from flatout.store import Item
from flatout.text.changed import changed


def mismatch(name: str, at: str, item: Item | None, made: bytes, columns: Mapping[str, Any] | None) -> RunMismatch:
    """An error that names the first difference between a row and its record in the run file.

    Args:
        name: the run file.
        at: the row, in words.
        item: the record in the file.
        made: the call's `content` now; empty for an item of a durable function.
        columns: the input's own row now; None for an item without a row.
    """
    pairs = (
        [("column ", item.input, columns), ("parameter ", item.prompt, json.loads(made))] if item is not None else []
    )
    for where, old, new in pairs:
        if old is None or new is None:
            continue
        was = json.loads(old)
        if was.keys() == new.keys() == {"item"}:  # of a function, and not of a file's columns
            return RunMismatch(f"{name} belongs to another job: {at}, {_changed_value(was['item'], new['item'])}")
        if what := difference(was, new):
            return RunMismatch(f"{name} belongs to another job: {at}, {where}{what}")
    return RunMismatch(f"{name} belongs to another job: {at} has changed")


def _changed_value(was: Any, now: Any) -> str:
    """What differs between two values; of lists, the first element that does."""
    if not isinstance(was, list) or not isinstance(now, list):
        return difference(was, now)
    place = next((place for place, (one, other) in enumerate(zip(was, now, strict=False)) if one != other), None)
    if place is None:
        return f"had {len(was):,} values, has {len(now):,} now"
    return difference({f"value {place + 1:,}": was[place]}, {f"value {place + 1:,}": now[place]})


def difference(old: Any, new: Any) -> str:
    """The first name whose value differs, with both values; "" if all are equal."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        old, new = {"value": old}, {"value": new}
    for name in [*new, *(name for name in old if name not in new)]:
        if old.get(name) != new.get(name):
            was, now = (json.dumps(row.get(name), ensure_ascii=False, default=repr) for row in (old, new))
            return f"{name}: {changed(was, now)}"
    return ""
