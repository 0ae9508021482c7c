"""Gives up what a task waits for when that turns out to be needless."""

from __future__ import annotations

import asyncio
from types import TracebackType

from .patience import Hope


class Unless:
    """Ends the code inside when `leave` is called, and the task goes on behind it. Use it with ``with``, in a task.

    Args:
        hope: what the code waits for. While that may have arrived, the code is not ended.
    """

    __slots__ = ("_cancelling", "_hope", "_inside", "_left", "_task")

    def __init__(self, hope: Hope) -> None:
        self._hope = hope
        self._inside = self._left = False

    def __enter__(self) -> Unless:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can give up what it waits for")
        self._task, self._cancelling = task, task.cancelling()
        self._inside = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        self._inside = False
        # If somebody else cancelled the task as well, their cancellation wins.
        return self._left and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError

    def leave(self) -> None:
        """End the code inside, if it still runs and its hope cannot have arrived. Call it in the event loop."""
        if self._inside and not self._left and not self._hope.may_have_arrived:
            self._left = True
            self._task.cancel()
