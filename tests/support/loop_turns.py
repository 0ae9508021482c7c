"""Time as an event loop has it: what holds the loop up on a busy machine holds up its clock, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def turns(seconds: float) -> AsyncIterator[Callable[[], int]]:
    """Count how often so many seconds have passed for this loop. Gives what tells the count."""
    count = 0

    async def tick() -> None:
        nonlocal count
        while True:
            await asyncio.sleep(seconds)
            count += 1

    ticking = asyncio.create_task(tick())
    try:
        yield lambda: count
    finally:
        ticking.cancel()
