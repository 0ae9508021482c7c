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
    told: Callable[[], float] = getattr(asyncio.get_running_loop(), "wall_time", time.time)
    return told()
