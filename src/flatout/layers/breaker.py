"""Keeps calls from a target that cannot answer them: stopped (wrong key, quota used up) or never reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flatout.errors import CallError, CircuitOpen, ConnectError, NotSent, QuotaExhausted
from flatout.events import Events, TargetPaused
from flatout.layer import CallNext
from flatout.policies.classify import Verdict, verdict
from flatout.values import Call, Reply

UNREACHABLE = 5
RETRY_EVERY = 30.0


class Breaker:
    """Fails calls fast, with `CircuitOpen` and the one clear reason, once their target is known to be of no use.

    A failure that is final for the whole target (see `flatout.policies.classify`) stops it for good. A target that
    has never answered is given up after a few refused connections in a row, and tried again every 30 s by one call.

    Args:
        target: its name, for people.
        events: hears when the target is stopped.
        flush: fails the calls that wait for this target further in.
        wait_for_quota: leave a used-up quota to the limiter, which waits for it.
    """

    def __init__(
        self, target: str, events: Events, flush: Callable[[NotSent], None], *, wait_for_quota: bool = False
    ) -> None:
        self._wait_for_quota = wait_for_quota
        self._target = target
        self._events = events
        self._flush = flush
        self._stopped: CallError | None = None
        self._unreachable = 0
        self._reached = False
        self._try_at = 0.0

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "unreachable" if self._unreachable >= UNREACHABLE else "closed"
        return f"Breaker({self._target}, {state})"

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        if self._stopped is not None:
            self._check()
        try:
            reply = await call_next(call)
        except ConnectError as error:
            self._missed(error)
            raise
        except CallError as error:
            self._reached = self._reached or error.status is not None
            waited_for = self._wait_for_quota and isinstance(error, QuotaExhausted)
            if self._stopped is None and not waited_for and verdict(error) is Verdict.STOP_TARGET:
                self._stop(error, float("inf"))
            raise
        self._reached = True
        self._unreachable = 0
        if self._try_at != float("inf"):  # else it was under way when the target was stopped for good
            self._stopped = None
        return reply

    def _check(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._try_at:
            raise self._refusal()
        self._try_at = now + RETRY_EVERY

    def _refusal(self) -> CircuitOpen:
        refusal = CircuitOpen(f"not sent: {self._target} is stopped: {self._stopped}")
        refusal.__cause__ = self._stopped
        return refusal

    def _missed(self, error: ConnectError) -> None:
        self._unreachable += 1
        if self._unreachable >= UNREACHABLE and not self._reached:
            self._stop(error, asyncio.get_running_loop().time() + RETRY_EVERY)

    def _stop(self, error: CallError, until: float) -> None:
        self._stopped = error
        self._try_at = until
        self._flush(self._refusal())
        now = asyncio.get_running_loop().time()
        shown = None if until == float("inf") else until
        self._events.emit(TargetPaused(at=now, target=self._target, until=shown, reason=str(error)))
