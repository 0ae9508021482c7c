"""A timeout that looks at what has already arrived before it gives up.

Something may block the event loop: a long computation, a debugger, a closed laptop lid. Afterwards all timers are due
at once, while answers lie unread in their sockets. `asyncio.timeout` cancels first and reads later, so calls that were
answered, and paid for, would time out. Here, a timer that is due first lets the loop run some turns, so that every
socket is read and every task with an answer has run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TURNS = 64
"""Turns of the event loop between the timer and the cancellation. Each turn reads every socket once, up to 256 kB. So
64 turns read all that the system buffers of an unread answer (up to 6 MB on Linux)."""


def _always() -> bool:
    return True


class Patience:
    """A timeout like `asyncio.timeout_at`, which cancels the code inside and raises TimeoutError, but only after
    everything that arrived in time was processed.

    Args:
        when: the loop time of the timeout; None for no timeout.
        hopeful: whether an answer may have arrived. If not, the timeout takes effect at once.
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
            raise RuntimeError("a timeout works only inside a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self.reschedule(self._when)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # If somebody else cancelled the task as well, their cancellation wins.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError

    def reschedule(self, when: float | None) -> None:
        """Move the timeout."""
        if self._timer is not None:
            self._timer.cancel()
        self._turns = TURNS
        self._timer = self._loop.call_at(when, self._due) if when is not None else None

    def expired(self) -> bool:
        """Whether it cancelled the code inside."""
        return self._expired

    def _due(self) -> None:
        if self._turns and self._hopeful():
            self._turns -= 1
            self._timer = self._loop.call_soon(self._due)
        elif not self._expired:
            self._timer = None
            self._expired = True
            self._task.cancel()
