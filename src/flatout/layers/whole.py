"""Refuses answers that were cut off at the token limit, for users who cannot use half a text."""

from __future__ import annotations

from flatout.errors import Truncated
from flatout.journey import current_journey
from flatout.layer import CallNext
from flatout.values import Call, Reply


class Whole:
    """Raises `Truncated` for an answer that ended at the token limit, even if part of it could be used.

    It is in the call path only on request (``fail_truncated``).
    """

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        reply = await call_next(call)
        if reply.finish_reason == "length":
            raise Truncated(
                "the answer was cut off at the token limit",
                attempts=current_journey().attempts,
                request_id=reply.request_id,
                reply=reply,
            )
        return reply
