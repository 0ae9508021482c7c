"""One request against a provider model, in the event loop's time. What the transport and the server have in common."""

from __future__ import annotations

import asyncio
import time

from .clock import VirtualLoop
from .provider import ProviderModel
from .slots import Outcome


async def exchange(model: ProviderModel, body: bytes, authorization: str) -> Outcome:
    """Let a request wait for its slot and be served. A hanging one waits until it is cancelled."""
    loop = asyncio.get_running_loop()
    wall = loop.wall_time() if isinstance(loop, VirtualLoop) else time.time()
    outcome = model.receive(loop.time(), wall, body, authorization)
    delivered = False
    try:
        if outcome.queued:
            await _turn(loop, outcome)
        if outcome.wire == "hang":
            await loop.create_future()
        await asyncio.sleep(outcome.delay)
        delivered = True
    finally:
        for started in model.finish(loop.time(), outcome, delivered=delivered):
            if started.on_start is not None:
                started.on_start()
    return outcome


async def _turn(loop: asyncio.AbstractEventLoop, outcome: Outcome) -> None:
    turn: asyncio.Future[None] = loop.create_future()

    def start() -> None:
        if not turn.done():
            turn.set_result(None)

    outcome.on_start = start
    await turn
