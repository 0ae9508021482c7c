"""The event loop that flatout's own programs run on, and its clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The factory of the event loop: uvloop's if it is installed; None for Python's own loop."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def wall() -> float:
    """The wall clock of the running loop, in Unix seconds: a virtual loop has its own calendar."""
    return wall_clock(asyncio.get_running_loop())()


def wall_clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The wall clock of a loop: a function of the Unix time. It may be adjusted, but goes on while a laptop sleeps."""
    clock: Callable[[], float] = getattr(loop, "wall_time", time.time)
    return clock


def thread_begins(loop: asyncio.AbstractEventLoop | None) -> None:
    """A thread begins to work for somebody on a loop, if any. A virtual clock stands still until `thread_ends`."""
    if (begins := getattr(loop, "thread_begins", None)) is not None:
        begins()


def thread_ends(loop: asyncio.AbstractEventLoop | None) -> None:
    """A thread that worked for somebody on a loop, if any, is done. Call it in the loop."""
    if (ends := getattr(loop, "thread_ends", None)) is not None:
        ends()
