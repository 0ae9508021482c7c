"""The outermost layer: tells subscribers the outcome of each call, once per call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from flatout.events import CallFinished, Events
from flatout.journey import current_journey
from flatout.layer import CallNext
from flatout.values import Call, Reply


class Observe:
    """Emits one `CallFinished` per call, however it ends."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def __call__(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        return self._observed(call, call_next) if self._events else call_next(call)

    async def _observed(self, call: Call, call_next: CallNext) -> Reply:
        error: BaseException | None = None
        reply: Reply | None = None
        try:
            reply = await call_next(call)
        except BaseException as caught:
            error = caught
            raise
        finally:
            now = asyncio.get_running_loop().time()
            self._events.emit(CallFinished(at=now, call=call, reply=reply, error=error, journey=current_journey()))
        return reply
