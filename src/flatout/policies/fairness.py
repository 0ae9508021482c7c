"""Who goes next, where several callers wait for the same thing, and how many may have gone.

The highest priority goes first; but after `PASSES` turns of higher ones a lower one has a turn, so nobody waits for
ever. Within a priority the callers take turns, and each caller's own calls go first in, first out: somebody with ten
thousand calls does not hold up somebody with one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT", bound=Hashable)

PASSES = 16
"""Turns of higher priorities after which a lower one has a turn."""

ENOUGH = 0.1
"""Seconds that a call may wait behind the queue. A busy event loop may need nearly as long to let the next one in."""


class Ahead:
    """How many calls may have left a queue for another one behind it, which is first in, first out.

    Whoever has left waits there before all who come to the queue later, whoever they are. So it should be few; but the
    queue behind must not run dry. At 5 calls a second one is enough; at 500 it is not, for the next one needs a moment.
    How long calls wait there says which it is.

    Args:
        most: the most calls.

    Attributes:
        allowed: how many there may be now.
    """

    __slots__ = ("_most", "allowed")

    def __init__(self, most: int) -> None:
        self._most = most
        self.allowed = min(1, most)

    def waited(self, seconds: float) -> None:
        """Learn how long a call has waited behind the queue."""
        if seconds > ENOUGH:
            self.allowed = max(min(1, self._most), self.allowed - 1)
        elif seconds < ENOUGH / 2:
            self.allowed = min(self._most, self.allowed + 1)


class _Level(Generic[ItemT]):
    """The callers of one priority, in the order of their turns."""

    __slots__ = ("callers", "passed", "taken")

    def __init__(self) -> None:
        self.callers: OrderedDict[str, dict[ItemT, None]] = OrderedDict()
        self.passed = 0  # turns of higher priorities since the last turn here
        self.taken = 0  # by the first caller, in its present turn


class FairQueue(Generic[ItemT]):
    """Items of several callers."""

    def __init__(self) -> None:
        self._levels: dict[float, _Level[ItemT]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"FairQueue({self._size} of {len(self.callers())} callers)"

    def callers(self) -> set[str]:
        """The callers that have items."""
        return {caller for level in self._levels.values() for caller in level.callers}

    def add(self, item: ItemT, caller: str, priority: float = 0.0) -> None:
        """Queue an item behind the others of its caller."""
        level = self._levels.setdefault(priority, _Level())
        level.callers.setdefault(caller, {})[item] = None
        self._size += 1

    def remove(self, item: ItemT, caller: str, priority: float = 0.0) -> bool:
        """Take an item out. Returns whether it was there."""
        level = self._levels.get(priority)
        items = level.callers.get(caller) if level is not None else None
        if level is None or items is None or item not in items:
            return False
        del items[item]
        self._left(level, caller, priority)
        return True

    def clear(self, caller: str) -> list[ItemT]:
        """Take all items of a caller out."""
        found = [(priority, item) for priority, level in self._levels.items() for item in level.callers.get(caller, ())]
        return [item for priority, item in found if self.remove(item, caller, priority)]

    def take(self, ready: Callable[[str], bool], weight: Callable[[str], int]) -> ItemT | None:
        """Take the item that goes next; None if no caller that waits is ready.

        Args:
            ready: whether a caller may have a turn now.
            weight: how many items a caller may take in one turn.
        """
        for priority in self._order():
            level = self._levels[priority]
            caller = next(filter(ready, level.callers), None)
            if caller is not None:
                self._pass_by(priority)
                return self._taken(level, caller, priority, weight(caller))
        return None

    def _order(self) -> list[float]:
        """The priorities in the order of their turns."""
        return sorted(self._levels, key=lambda each: (self._levels[each].passed < PASSES, -each))

    def _pass_by(self, priority: float) -> None:
        for other, level in self._levels.items():
            if other < priority:
                level.passed += 1
        self._levels[priority].passed = 0

    def _taken(self, level: _Level[ItemT], caller: str, priority: float, weight: int) -> ItemT:
        items = level.callers[caller]
        item = next(iter(items))
        del items[item]
        first = next(iter(level.callers)) == caller
        level.taken = level.taken + 1 if first else 1
        if not first:
            level.callers.move_to_end(caller, last=False)
        if level.taken >= weight:
            level.callers.move_to_end(caller)
            level.taken = 0
        self._left(level, caller, priority)
        return item

    def _left(self, level: _Level[ItemT], caller: str, priority: float) -> None:
        self._size -= 1
        if not level.callers[caller]:
            if next(iter(level.callers)) == caller:
                level.taken = 0
            del level.callers[caller]
        if not level.callers:
            del self._levels[priority]
