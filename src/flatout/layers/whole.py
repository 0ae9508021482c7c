"""Refuses answers that were cut off at the token limit, for users to whom half a text is of no use."""

from __future__ import annotations

from flatout.errors import Truncated
from flatout.journey import current_journey
from flatout.layer import CallNext
from flatout.values import Call, Reply


class Whole:
    """Raises `Truncated` for an answer that ended at the token limit, whatever could be read of it.

    It stands in the call path only where it is asked for (``fail_truncated``).
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
