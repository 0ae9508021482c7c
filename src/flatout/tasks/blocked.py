"""Waiting for another thread in a way that an interrupt ends, wherever the waiting thread stands."""

from __future__ import annotations

import asyncio
import threading

NOTICE = 0.1
"""Seconds after which an interrupt is noticed, in a program whose own event loop is running."""


def wait_in_loop(ended: threading.Event) -> None:
    """Wait for an event, or for an interrupt.

    `asyncio.run` reacts to the first interrupt by cancelling the current task. If that task is blocked here, together
    with its loop, it has to look for its cancellation itself.

    Raises:
        KeyboardInterrupt: an interrupt under Python's default handler.
        asyncio.CancelledError: an interrupt under asyncio's handler.
    """
    task = _current_task()
    before = task.cancelling() if task is not None else 0
    while not ended.wait(NOTICE if task is not None else None):
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None
