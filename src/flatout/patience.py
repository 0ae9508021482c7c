"""A bound on time that looks at what has already arrived before it gives up.

A program that blocks the event loop (a long computation, a debugger, a laptop's lid) wakes up to timers that have all
passed and to answers that lie unread in their sockets. `asyncio.timeout` cancels first and reads afterwards: calls that
were answered, and paid for, would time out. Here a timer that is due lets the loop go round first, so that every socket
is read and every task that got its answer has run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

TURNS = 64
"""Turns of the event loop between a timer's end and giving up. In each one every socket is read once, for as much as
256 kB: enough for what the system keeps of an answer that nobody reads (up to 6 MB on Linux)."""


def _always() -> bool:
    return True


class Patience:
    """Cancels the code inside, and turns that into TimeoutError, as `asyncio.timeout_at` does; but not before
    everything that had arrived in time was heard.

    Args:
        when: the loop's time at which it ends; None for never.
        hopeful: whether something may have arrived. If not, there is nothing to look at, and it ends at once.
    """

    __slots__ = ("_hopeful", "_loop", "_scope", "_timer", "_turns", "_when")

    def __init__(self, when: float | None, hopeful: Callable[[], bool] = _always) -> None:
        self._when = when
        self._hopeful = hopeful
        self._scope = asyncio.timeout(None)
        self._timer: asyncio.Handle | None = None
        self._turns = TURNS

    async def __aenter__(self) -> Patience:
        self._loop = asyncio.get_running_loop()
        await self._scope.__aenter__()
        self.reschedule(self._when)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)

    def reschedule(self, when: float | None) -> None:
        """Set another end."""
        if self._timer is not None:
            self._timer.cancel()
        self._turns = TURNS
        self._timer = self._loop.call_at(when, self._due) if when is not None else None

    def expired(self) -> bool:
        """Whether it ended the code inside."""
        return self._scope.expired()

    def _due(self) -> None:
        if self._turns and self._hopeful():
            self._turns -= 1
            self._timer = self._loop.call_soon(self._due)
        else:
            self._timer = None
            self._scope.reschedule(self._loop.time())
