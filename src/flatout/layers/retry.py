"""Tries again what may succeed. Outside the limiter: a sleeping retry holds no permit, every attempt is paced anew."""

from __future__ import annotations

import asyncio
from random import Random

from flatout.errors import CallError, NotSent, QuotaExhausted
from flatout.events import AttemptFailed, Events
from flatout.layer import CallNext, Journey, journey
from flatout.policies.backoff import delay, overload_delay
from flatout.policies.classify import Repeats, Verdict, verdict
from flatout.policies.pacing import LONGEST_PAUSE
from flatout.policies.retry_quota import RetryQuota
from flatout.values import Call, Reply


class Retry:
    """Up to ``attempts`` attempts, with full jitter between them; a Retry-After is a floor.

    Throttles (429) cost no attempts: the limiter below pauses for everybody, and the call queues again. They end
    with the deadline. On exhaustion the last error is raised as it is, its ``attempts`` filled in.

    Args:
        attempts: the most attempts of one call, throttled ones not counted.
        quota: caps retries as a share of all traffic.
        random: the source of jitter.
        events: hears of every failed attempt.
        wait_for_quota: queue again when a quota is used up, instead of failing.
    """

    def __init__(
        self, attempts: int, quota: RetryQuota, random: Random, events: Events, *, wait_for_quota: bool = False
    ) -> None:
        self._wait_for_quota = wait_for_quota
        self._attempts = attempts
        self._quota = quota
        self._random = random
        self._events = events

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        self._quota.deposit()
        trip = journey()
        repeats: Repeats | None = None
        spent = 0
        while True:
            try:
                return await call_next(call)
            except NotSent as error:
                error.attempts = trip.attempts
                raise
            except CallError as error:
                trip.failed(error)
                error.attempts = trip.attempts
                decision = verdict(error)
                if self._wait_for_quota and isinstance(error, QuotaExhausted):
                    decision = Verdict.THROTTLE
                repeats = repeats or Repeats()
                if decision is not Verdict.THROTTLE:
                    spent += 1
                wait = self._wait(error, decision, spent, trip, repeats)
                if self._events:
                    self._emit(call, error, trip, wait)
                if wait is None:
                    raise
            if wait:
                trip.waited("backoff", wait)
                await asyncio.sleep(wait)

    def _wait(self, error: CallError, decision: Verdict, spent: int, trip: Journey, repeats: Repeats) -> float | None:
        """Seconds to wait before the next attempt; None when there is to be none."""
        if trip.delivered:
            return None  # the caller has half an answer already: another one would begin anew in the middle of it
        if decision is Verdict.THROTTLE:
            told = error.retry_after or 0.0
            wait, floor = 0.0, told if told <= LONGEST_PAUSE else 0.0  # the limiter waits, for all calls at once
        elif decision in (Verdict.RETRY, Verdict.OVERLOADED):
            if spent >= self._attempts or repeats.final(error) or not self._quota.withdraw():
                return None
            backoff = overload_delay if decision is Verdict.OVERLOADED else delay
            wait = floor = backoff(spent, self._random.random(), floor=error.retry_after or 0.0)
        else:
            return None
        now = asyncio.get_running_loop().time()
        if trip.deadline_at is not None and now + floor >= trip.deadline_at:
            return None
        return wait

    def _emit(self, call: Call, error: CallError, trip: Journey, wait: float | None) -> None:
        now = asyncio.get_running_loop().time()
        failed = AttemptFailed(at=now, attempt=trip.attempts, error=error, retry_in=wait, call=call, journey=trip)
        if trip.failures is None:
            trip.failures = []
        trip.failures.append(failed)
        self._events.emit(failed)
