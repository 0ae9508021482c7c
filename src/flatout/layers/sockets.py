"""Bounds the attempts in flight by the number of possible connections."""

from __future__ import annotations

import asyncio
import logging

from flatout.events import Events, InFlightCapped
from flatout.journey import current_journey
from flatout.layer import CallNext
from flatout.tasks.waiters import Waiters
from flatout.values import Call, Reply

_log = logging.getLogger("flatout")


class Sockets:
    """Starts an attempt when a connection is possible; the others wait, first in, first out.

    A call that waits here is not sent, so its attempt's timeout has not begun. The first wait is logged, once.

    Args:
        most: the most connections, for all targets together.
        events: receives the cap.
    """

    def __init__(self, most: int, events: Events) -> None:
        self._most = most
        self._free = most
        self._waiting: Waiters[None] = Waiters()
        self._events = events
        self._warned = False

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        if self._free:
            self._free -= 1
        else:
            await self._wait()
        try:
            return await call_next(call)
        finally:
            self._release()

    def _release(self, _: None = None) -> None:
        """Give a connection to the call that has waited longest, or keep it free."""
        if not self._waiting.wake_one(None):
            self._free += 1

    async def _wait(self) -> None:
        """Wait for another call's connection."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if not self._warned:
            self._warned = True
            reason = "this process may not open more files (ulimit -n)"
            _log.warning("at most %d requests at once: %s", self._most, reason)
            self._events.emit(InFlightCapped(at=began, most=self._most, reason=reason))
        try:
            await self._waiting.turn(self._release)
        finally:
            current_journey().account.waited("sockets", loop.time() - began)
