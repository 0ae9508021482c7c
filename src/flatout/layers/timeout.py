"""Bounds one attempt: connecting, the wait for the first byte, and the body."""

from __future__ import annotations

import asyncio

from flatout.errors import AttemptTimeout
from flatout.journey import current_journey
from flatout.layer import CallNext
from flatout.tasks.patience import Patience
from flatout.values import Call, Reply


class Timeout:
    """Ends an attempt that takes too long, with `AttemptTimeout`.

    Args:
        seconds: the timeout of calls without their own.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        seconds = call.timeout or self._seconds
        journey = current_journey()
        loop, attempt = asyncio.get_running_loop(), journey.attempt
        attempt.sent_at, attempt.number = loop.time(), 0
        now = attempt.sent_at
        until = now + seconds
        attempt.ends_at = until if journey.deadline_at is None else min(until, journey.deadline_at)
        try:
            with Patience(until, attempt) as scope:
                attempt.timeout = scope
                return await call_next(call)
        except TimeoutError:
            if not scope.expired():
                raise
        finally:
            attempt.timeout = None
            attempt.seconds = loop.time() - now
        # Raised outside the block, the error does not hold the one that ended the attempt, whose frames hold the
        # request.
        error = AttemptTimeout(f"no answer within {seconds:g} s")
        if journey.notes is not None and attempt.number:  # what ended it was no error of its own
            journey.notes.failed(attempt.number, error)
        raise error
