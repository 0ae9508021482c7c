"""A bound on time that looks at what has already arrived before it gives up.

A program that blocks the event loop (a long computation, a debugger, a laptop's lid) wakes up to timers that have all
passed and to answers that lie unread in their sockets. `asyncio.timeout` cancels first and reads afterwards: calls that
were answered, and paid for, would time out. Here a timer that is due lets the loop go round first, so that every socket
is read and every task that got its answer has run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

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

    __slots__ = ("_cancelling", "_expired", "_hopeful", "_loop", "_task", "_timer", "_turns", "_when")

    def __init__(self, when: float | None, hopeful: Callable[[], bool] = _always) -> None:
        self._when = when
        self._hopeful = hopeful
        self._timer: asyncio.Handle | None = None
        self._turns = TURNS
        self._expired = False

    async def __aenter__(self) -> Patience:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a bound on time is for code that runs in a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self.reschedule(self._when)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # If somebody else cancelled the task as well, theirs comes first.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError

    def reschedule(self, when: float | None) -> None:
        """Set another end."""
        if self._timer is not None:
            self._timer.cancel()
        self._turns = TURNS
        self._timer = self._loop.call_at(when, self._due) if when is not None else None

    def expired(self) -> bool:
        """Whether it ended the code inside."""
        return self._expired

    def _due(self) -> None:
        if self._turns and self._hopeful():
            self._turns -= 1
            self._timer = self._loop.call_soon(self._due)
        elif not self._expired:
            self._timer = None
            self._expired = True
            self._task.cancel()
