"""Many far timers for the price of a few: those that are due in the same quarter of a second share one.

Every call has two timeouts, which nearly never come. asyncio keeps each timer in a heap, and compares timers in Python:
with a thousand calls in flight, two timers cost as much as to decode the answer. Here, a timer is a place in a set.
The few that come are woken a little early, and wait for the rest of their time by a timer of their own.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol
from weakref import WeakKeyDictionary

SLOT = 0.25
"""Callbacks within this many seconds share a timer: one runs at most this much too early, and never too late."""

NEVER = 1e12
"""A loop time that no process sees: later ones are taken for it, because the largest floats have no slot."""


class Due(Protocol):
    """Something that is called when its time comes."""

    def due(self) -> None:
        """Its time comes within `SLOT` seconds."""
        ...


class Wheel:
    """Far timers of one event loop."""

    __slots__ = ("_loop", "_slots")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, Slot] = {}

    def __repr__(self) -> str:
        return f"Wheel({sum(map(len, self._slots.values()))} timers in {len(self._slots)} slots)"

    def add(self, when: float, item: Due) -> Slot:
        """Call an item shortly before a loop time, or at it. `Slot.remove` takes it out again."""
        number = math.floor(min(when, NEVER) / SLOT)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = Slot(self, number)
            slot.timer = self._loop.call_at(number * SLOT, self._fire, number)
        slot.items[item] = None
        return slot

    def drop(self, number: int) -> None:
        """Forget a slot that is empty."""
        slot = self._slots.pop(number, None)
        if slot is not None and slot.timer is not None:
            slot.timer.cancel()

    def _fire(self, number: int) -> None:
        slot = self._slots.pop(number)
        items, slot.items = slot.items, {}
        for item in items:
            item.due()


class Slot:
    """The timers of one quarter of a second."""

    __slots__ = ("_number", "_wheel", "items", "timer")

    def __init__(self, wheel: Wheel, number: int) -> None:
        self._wheel = wheel
        self._number = number
        self.items: dict[Due, None] = {}
        self.timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self.items)

    def remove(self, item: Due) -> None:
        """Take an item out; nothing happens if it was called already."""
        if self.items.pop(item, self) is None and not self.items:
            self._wheel.drop(self._number)


_wheels: WeakKeyDictionary[asyncio.AbstractEventLoop, Wheel] = WeakKeyDictionary()


def wheel_of(loop: asyncio.AbstractEventLoop) -> Wheel:
    """The wheel of an event loop."""
    wheel = _wheels.get(loop)
    if wheel is None:
        wheel = _wheels[loop] = Wheel(loop)
    return wheel
