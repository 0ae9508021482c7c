"""One timer of an event loop, which is set again and again. It costs something only when its time changes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Alarm:
    """A timer for one thing to do."""

    __slots__ = ("_at", "_timer")

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0  # beside the handle, because uvloop's have no when() for a time that has passed

    def set(self, at: float, loop: asyncio.AbstractEventLoop, do: Callable[..., object], *given: object) -> None:
        """Do something at a time of the loop instead of at the time that was set before; at infinity, never.

        Args:
            at: the time.
            loop: the loop. It and what is done are the same each time.
            do: what is done.
            *given: its arguments.
        """
        if self._timer is not None:
            if self._at == at:
                return
            self._timer.cancel()
            self._timer = None
        if at < math.inf:
            self._timer = loop.call_at(at, self._ring, do, given)
            self._at = at

    def _ring(self, do: Callable[..., object], given: tuple[object, ...]) -> None:
        self._timer = None
        do(*given)
