"""Retries failures that may pass. Outside the limiter: a sleeping retry holds no permit; each attempt is paced anew."""

from __future__ import annotations

import asyncio
from random import Random

from flatout.errors import CallError, NotSent
from flatout.events import AttemptFailed, Events
from flatout.journey import Journey, current_journey
from flatout.layer import CallNext
from flatout.policies.failures.backoff import delay, excused_delay, overload_delay
from flatout.policies.failures.decision import Decision, Repeats, decide
from flatout.policies.failures.trouble import Trouble
from flatout.policies.pacing.pause import LONGEST_PAUSE
from flatout.values import Call, Reply


class Retry:
    """Up to ``attempts`` attempts, with full jitter between them; a Retry-After is a floor.

    Failures of the target cost no attempt, nor do throttles (429): the limiter below holds all calls back, and the call
    queues again until its deadline. On exhaustion the last error is raised with its ``attempts`` filled in. Its text
    says what was tried when, and why it was not tried again.

    Args:
        attempts: the most attempts of one call, not counting the free ones.
        random: the source of jitter.
        events: receives every failed attempt.
        repeats: after this many equal answers that cannot be used, a call is not tried again.
    """

    def __init__(self, attempts: int, random: Random, events: Events, *, repeats: int = 3) -> None:
        self._attempts = attempts
        self._random = random
        self._events = events
        self._repeats = repeats

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        journey = current_journey()
        repeats: Repeats | None = None
        while True:
            try:
                return await call_next(call)
            except NotSent as error:
                _not_sent_again(error, journey)
                raise
            except CallError as error:
                journey.failed(error)
                error.attempts = journey.attempts
                journey.trouble = journey.trouble or Trouble()
                repeats = repeats or Repeats(self._repeats)
                wait, why = self._next(error, journey, journey.trouble, repeats)
                if why:
                    _explain(error, journey.trouble, why)
                if self._events:
                    self._emit(call, error, journey, wait)
                if wait is None:
                    raise
            if wait:
                journey.account.waited("backoff", wait)
                await asyncio.sleep(wait)

    def _next(self, error: CallError, journey: Journey, trouble: Trouble, repeats: Repeats) -> tuple[float | None, str]:
        """Seconds until the next attempt; or None, with the reason if it needs explaining."""
        now = asyncio.get_running_loop().time()
        trouble.note(error, now - journey.started)
        decision = decide(error)
        elsewhere = journey.passage is not None and not journey.passage.stay  # the route knows which target is paused
        told = 0.0 if elsewhere else error.retry_after or 0.0
        if journey.delivered:  # a new answer would start over in the middle of the one that the caller has half of
            return None, "half of an answer has been delivered"
        if trouble.over:
            return None, "its server is given up" if decision is Decision.RETRY else ""
        if trouble.excused:
            wait = floor = excused_delay(trouble.times_excused, self._random.random(), told)
        elif decision is Decision.THROTTLE:
            wait, floor = 0.0, told if told <= LONGEST_PAUSE else 0.0  # the limiter waits, for all calls at once
        elif decision in (Decision.RETRY, Decision.OVERLOADED):
            trouble.spent += 1
            if repeats.final(error):
                return None, f"the same answer {self._repeats} times, and each was paid for"
            if trouble.spent >= self._attempts:
                return None, trouble.whose() if self._attempts > 1 else ""
            backoff = overload_delay if decision is Decision.OVERLOADED else delay
            wait = floor = backoff(trouble.spent, self._random.random(), floor=told)
        else:
            return None, ""
        if journey.deadline_at is not None and now + floor >= journey.deadline_at:
            return None, f"the next attempt would be in {floor:.1f} s, which is past the deadline"
        return wait, ""

    def _emit(self, call: Call, error: CallError, journey: Journey, wait: float | None) -> None:
        if journey.failures is None:
            journey.failures = []
        counted = journey.failures[-1].attempt if journey.failures else 0
        failed = AttemptFailed(
            at=asyncio.get_running_loop().time(),
            attempt=journey.attempts,
            error=error,
            retry_in=wait,
            call=call,
            journey=journey,
            seconds=journey.attempt.seconds if journey.attempts > counted else None,  # else it was not sent
        )
        journey.failures.append(failed)
        self._events.emit(failed)


def _explain(error: CallError, trouble: Trouble, why: str) -> None:
    """Add to the error's text why there was no other attempt, and what was tried when."""
    tried = trouble.tried()
    error.args = (f"{error} (not tried again: {why}{f'; tried: {tried}' if tried else ''})",)


def _not_sent_again(error: NotSent, journey: Journey) -> None:
    """Add to the error's text that the call was sent before, if it was."""
    error.attempts = journey.attempts
    if journey.attempts:  # without times, so that calls that end for one reason have the same text
        error.args = (str(error).replace("not sent:", "not sent again:", 1),)
