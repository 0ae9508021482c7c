"""A timeout that looks at what has already arrived before it gives up.

Something may block the event loop: a long computation, a debugger, a closed laptop lid. Afterwards all timers are due
at once, while answers lie unread in their sockets. `asyncio.timeout` cancels first and reads later, so calls that were
answered, and paid for, would time out. Here, a timer that is due first lets the loop run some turns, so that every
socket is read and every task with an answer has run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from .wheel import Slot, wheel_of

TURNS = 64
"""Turns of the event loop between the timer and the cancellation. Each turn reads every socket once, up to 256 kB. So
64 turns read all that the system buffers of an unread answer (up to 6 MB on Linux)."""


FAR = 30.0
"""Seconds. A timeout that is farther away shares a timer with others until shortly before it comes."""


class Hope(Protocol):
    """What a timeout waits for."""

    @property
    def may_have_arrived(self) -> bool:
        """Whether it may be here already, unread."""
        ...


class Patience:
    """A timeout like `asyncio.timeout_at`, which cancels the code inside and raises TimeoutError, but only after
    everything that arrived in time was processed. Use it with ``with``, in a task.

    Args:
        when: the loop time of the timeout; None for no timeout.
        hope: what it waits for. If that cannot have arrived, the timeout takes effect at once. None if it always may.
    """

    __slots__ = (
        *("_armed", "_cancelling", "_expired", "_hope", "_loop", "_slot", "_task", "_timer", "_turns", "_when"),
    )

    def __init__(self, when: float | None, hope: Hope | None = None) -> None:
        self._when = when
        self._hope = hope
        self._armed: float | None = None  # when the timer comes; not later than _when
        self._timer: asyncio.Handle | None = None
        self._slot: Slot | None = None
        self._turns = TURNS
        self._expired = False

    def __enter__(self) -> Patience:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a timeout works only inside a task")
        self._task = task
        self._cancelling = task.cancelling()
        if self._when is not None:
            self._arm(self._when)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._disarm()
        # If somebody else cancelled the task as well, their cancellation wins.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError

    def reschedule(self, when: float | None) -> None:
        """Move the timeout. To move it to a later time costs nothing: its timer looks again when it comes."""
        self._when = when
        self._turns = TURNS
        if when is not None and (self._armed is None or when < self._armed):
            self._disarm()
            self._arm(when)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """A block whose time does not count: what is waited for cannot come in it."""
        began, when = self._loop.time(), self._when
        self.reschedule(None)
        try:
            yield
        finally:
            if when is not None:
                self.reschedule(when + self._loop.time() - began)

    def expired(self) -> bool:
        """Whether it cancelled the code inside."""
        return self._expired

    def due(self) -> None:
        """The timer has come, or will shortly."""
        self._armed = self._slot = self._timer = None
        when = self._when
        if when is None or self._expired:
            return
        if when > self._loop.time():
            self._arm(when)
        elif self._turns and (self._hope is None or self._hope.may_have_arrived):
            self._turns -= 1
            self._armed = when
            self._timer = self._loop.call_soon(self.due)
        else:
            self._expired = True
            self._task.cancel()

    def _arm(self, when: float) -> None:
        self._armed = when
        if when - self._loop.time() > FAR:
            self._slot = wheel_of(self._loop).add(when, self)
        else:
            self._timer = self._loop.call_at(when, self.due)

    def _disarm(self) -> None:
        self._armed = None
        if self._slot is not None:
            self._slot.remove(self)
            self._slot = None
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None
