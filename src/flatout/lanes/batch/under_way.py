"""The batch lanes of a client that are at work now, so that the progress of a program can tell of their batches."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    from flatout.engine import Engine

    from .lane import BatchLane

_LANES: WeakKeyDictionary[Engine, WeakSet[BatchLane]] = WeakKeyDictionary()


def begin(engine: Engine, lane: BatchLane) -> BatchLane:
    """A lane of a client begins its work. It counts until nobody uses it any more."""
    _LANES.setdefault(engine, WeakSet()).add(lane)
    return lane


def lanes_of(engine: Engine) -> list[BatchLane]:
    """The lanes of a client that are at work."""
    return list(_LANES.get(engine, ()))
