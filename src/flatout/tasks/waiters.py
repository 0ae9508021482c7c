"""Tasks that wait for their turn, first in, first out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")


class Waiters(Generic[ValueT]):
    """The tasks that wait. Each gets a value with its turn.

    A task may be cancelled in the turn of the event loop in which its own turn comes. Then the turn must not be lost.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[ValueT]] = deque()

    async def turn(self, missed: Callable[[ValueT], object]) -> ValueT:
        """Wait for the turn. If the task is cancelled when it has come, ``missed`` is called with its value."""
        waiting: asyncio.Future[ValueT] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                missed(waiting.result())
            raise

    def wake_one(self, value: ValueT) -> bool:
        """Give the turn to the task that has waited longest. Returns whether one waits."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(value)
                return True
        return False

    def wake_all(self, value: ValueT) -> None:
        """Give all of them their turn. Tasks that begin to wait again because of that are not among them."""
        woken, self._waiting = self._waiting, deque()
        for waiting in woken:
            if not waiting.done():
                waiting.set_result(value)
