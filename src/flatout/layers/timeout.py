"""Bounds one attempt: connecting, the wait for the first byte, and the body."""

from __future__ import annotations

import asyncio

from flatout.errors import AttemptTimeout
from flatout.layer import CallNext
from flatout.values import Call, Reply


class Timeout:
    """Ends an attempt that takes too long, with `AttemptTimeout`.

    Args:
        seconds: for calls that name no timeout of their own.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        seconds = call.timeout or self._seconds
        try:
            async with asyncio.timeout(seconds) as scope:
                return await call_next(call)
        except TimeoutError:
            if not scope.expired():
                raise
            raise AttemptTimeout(f"no answer within {seconds:g} s") from None
