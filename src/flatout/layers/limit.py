"""Admission: holds each attempt until its target's pacer lets it go, first in, first out."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from itertools import islice

from msgspec import Struct

from flatout.errors import (
    CallError,
    ConnectError,
    DeadlineExceeded,
    InvalidRequest,
    NotSent,
    QuotaExhausted,
    RateLimited,
)
from flatout.events import Events, TargetPaused
from flatout.layer import CallNext, journey
from flatout.policies.classify import Verdict, verdict
from flatout.policies.estimate import Estimator, Need
from flatout.policies.pacing import LONGEST_PAUSE, Pacer
from flatout.policies.retry_after import retry_after
from flatout.values import Call, Reply

BYPASS = 16
"""How many small calls may pass one that waits for tokens, and how many places behind it they are looked for."""

QUOTA_WAIT = 300.0
"""Seconds between two looks at a quota that is used up and says no time."""

BYPASS_AGE = 2.0
"""Seconds of waiting after which nothing passes a call."""


OFTEN = 3
"""A call that was refused so often lets all others go first: it may be this call that is refused, and not the pace."""


class TargetStatus(Struct, frozen=True, kw_only=True):
    """What one target is doing now.

    Attributes:
        target: its name.
        in_flight: attempts on the wire.
        waiting: attempts that wait for admission.
        holds: what they wait for (a key of `flatout.events.WAITS`); "" when nothing waits.
        use: how much of that limit is used, 0 to 1; None when it is not known.
        hosted: whether it is a provider's, and not a server of one's own, which is slower the more it is asked.
    """

    target: str
    in_flight: int
    waiting: int
    holds: str
    use: float | None
    hosted: bool = True


class _Waiter:
    """One attempt in the queue."""

    __slots__ = ("admitted", "call", "guessed", "held", "need", "passed", "refused", "since", "started")

    def __init__(
        self, call: Call, need: Need, admitted: asyncio.Future[None], since: float, held: dict[str, float]
    ) -> None:
        self.call = call
        self.need = need
        self.guessed = False
        self.admitted = admitted
        self.since = since
        self.held = held
        self.passed = 0
        self.started = 0.0
        self.refused = False


class Limit:
    """One target's queue and permits. Sees every answer and every refusal, and tells the pacer.

    A permit is given back on any exit: answer, error or cancellation. One timer serves the whole queue.

    Args:
        target: its name, for people.
        pacer: makes the pacer when the first call comes; takes the event loop's time.
        estimator: guesses tokens before a call is sent, and learns from each usage.
        events: hears of pauses.
        wait_for_quota: pause when a quota is used up; otherwise that is the breaker's affair.
        hosted: see `TargetStatus`.
    """

    def __init__(
        self,
        target: str,
        pacer: Callable[[float], Pacer],
        estimator: Estimator,
        events: Events,
        *,
        wait_for_quota: bool = False,
        hosted: bool = True,
    ) -> None:
        self._wait_for_quota = wait_for_quota
        self._hosted = hosted
        self.target = target
        self.pacer: Pacer | None = None
        self._make_pacer = pacer
        self._estimator = estimator
        self._events = events
        self._queue: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0  # beside the handle, because uvloop's have no when() for a time that has passed
        self._cause = ""
        self._cause_since = 0.0
        self._held: dict[str, float] = {}
        self._wall: Callable[[], float] = time.time

    def __repr__(self) -> str:
        return f"Limit({self.target}, waiting={len(self._queue)}, {self.pacer!r})"

    def status(self) -> TargetStatus:
        """What the target is doing now."""
        holds = self._cause if self._queue else ""
        pacer = self.pacer
        return TargetStatus(
            target=self.target,
            in_flight=pacer.in_flight if pacer is not None else 0,
            waiting=len(self._queue),
            holds=holds,
            use=pacer.use(holds) if pacer is not None else None,
            hosted=self._hosted,
        )

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        loop = asyncio.get_running_loop()
        pacer = self.pacer
        if pacer is None:
            pacer = self.pacer = self._make_pacer(loop.time())
            self._wall = getattr(loop, "wall_time", time.time)  # a virtual loop has its own calendar
        need = Need()
        if pacer.counts_tokens and (refusal := self._guess(pacer, need, call)) is not None:
            raise refusal
        await self._admission(pacer, call, need, loop)
        sent = loop.time()
        try:
            reply = await call_next(call)
        except CallError as error:
            with pacer.exclusive:
                alone = self._failed(pacer, need, error, sent, loop.time())
            if alone:
                await self._wait_alone(alone, pacer, loop)
            raise
        except BaseException:
            with pacer.exclusive:
                pacer.failed(need, loop.time())
            raise
        else:
            if pacer.counts_tokens:
                self._estimator.learn(need, reply.usage)
            with pacer.exclusive:
                pacer.answered(need, reply.usage, reply.headers, sent, loop.time(), self._wall())
            return reply
        finally:
            if self._queue:
                self._drain(pacer, loop)

    def flush(self, error: NotSent) -> None:
        """Fail everything that waits: the target was stopped, so waiting longer helps nobody."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.admitted.done():
                refusal = type(error)(str(error))
                refusal.__cause__ = error.__cause__
                waiter.admitted.set_exception(refusal)
                waiter.admitted.exception()  # a waiter cancelled in this very turn never looks: that is no loss
        self._hold("", self._cause_since)

    def _guess(self, pacer: Pacer, need: Need, call: Call) -> InvalidRequest | None:
        """Guess a call's tokens. Returns what is wrong if no limit of the target can ever let it go."""
        self._estimator.guess(need, call)
        reason = pacer.never(need)
        return InvalidRequest(f"not sent: {reason}") if reason is not None else None

    async def _admission(self, pacer: Pacer, call: Call, need: Need, loop: asyncio.AbstractEventLoop) -> None:
        """Return with a permit, which the caller gives back through the pacer."""
        now = loop.time()
        if not self._queue:
            with pacer.exclusive:
                if pacer.ready_at(need, now)[0] <= now:
                    pacer.admit(need, now)
                    return
        trip = journey()
        if trip.deadline_at is not None and pacer.surely_paused_until >= trip.deadline_at:
            raise DeadlineExceeded(
                f"{self.target} is paused for {pacer.paused_until - now:.0f} s more, which is past the deadline",
                attempts=trip.attempts,
            ) from trip.last_error
        self._hold(self._cause, now)
        waiter = _Waiter(call, need, loop.create_future(), now, dict(self._held))
        refused = isinstance(trip.last_error, RateLimited)
        trip.refusals += refused
        if refused and trip.refusals < OFTEN:
            self._put_back(waiter, trip.started)
        else:
            self._queue.append(waiter)
        self._drain(pacer, loop)
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            if waiter.admitted.done() and not waiter.admitted.cancelled() and not waiter.admitted.exception():
                with pacer.exclusive:
                    pacer.failed(need, loop.time())  # admitted and cancelled in one turn of the loop
            elif waiter in self._queue:
                self._queue.remove(waiter)
            self._drain(pacer, loop)
            raise
        finally:
            for cause, seconds in self._held.items():
                trip.waited(cause, seconds - waiter.held.get(cause, 0.0))

    def _put_back(self, waiter: _Waiter, started: float) -> None:
        """Queue a call that was refused: before all others, for it has waited its turn already, the oldest first."""
        waiter.refused, waiter.started = True, started
        place = 0
        for other in self._queue:
            if not other.refused or other.started > started:
                break
            place += 1
        self._queue.insert(place, waiter)

    async def _wait_alone(self, seconds: float, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> None:
        """Wait out a refusal that is this call's alone; its permit is back already."""
        self._drain(pacer, loop)
        trip = journey()
        if trip.deadline_at is None or loop.time() + seconds < trip.deadline_at:
            trip.waited("backoff", seconds)
            await asyncio.sleep(seconds)

    def _drain(self, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> None:
        """Admit all that may go now, and set the timer for the next."""
        with pacer.exclusive:
            self._drain_exclusively(pacer, loop)

    def _drain_exclusively(self, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> None:
        queue = self._queue
        now = loop.time()
        while queue:
            head = queue[0]
            if pacer.counts_tokens and not head.guessed and self._impossible(pacer, head):
                queue.popleft()
                continue
            at, cause = pacer.ready_at(head.need, now)
            if at > now:
                passes_at = self._bypass(pacer, now) if cause == "tokens" else at
                if passes_at > now:
                    self._sleep(pacer, min(at, passes_at), cause, now, loop)
                    return
                continue
            self._let_go(queue.popleft(), pacer, now)
        self._hold("", now)

    def _impossible(self, pacer: Pacer, waiter: _Waiter) -> bool:
        """Guess a waiter's tokens as late as can be: by then the limit may be known, and more was learnt of the model.
        Fails it, and says so, if no limit can ever let it go.
        """
        waiter.guessed = True
        refusal = self._guess(pacer, waiter.need, waiter.call)
        if refusal is not None and not waiter.admitted.done():
            waiter.admitted.set_exception(refusal)
            waiter.admitted.exception()
        return refusal is not None

    def _bypass(self, pacer: Pacer, now: float) -> float:
        """Admit the first small call behind a head that waits for tokens, if the head can bear it.

        Returns when one may go: a time that is not after now means that one went, infinity that none will.
        """
        head, soonest = self._queue[0], math.inf
        if head.passed >= BYPASS or now - head.since > BYPASS_AGE:
            return soonest
        for place, waiter in enumerate(islice(self._queue, 1, BYPASS), 1):
            if not waiter.need.features:
                self._estimator.guess(waiter.need, waiter.call)
            if waiter.need.tokens >= head.need.tokens / 4:
                continue
            ready = pacer.ready_at(waiter.need, now)[0]
            if ready <= now:
                head.passed += 1
                del self._queue[place]
                self._let_go(waiter, pacer, now)
                return now
            soonest = min(soonest, ready)
        return soonest

    def _let_go(self, waiter: _Waiter, pacer: Pacer, now: float) -> None:
        if not waiter.admitted.done():
            pacer.admit(waiter.need, now)
            self._hold(self._cause, now)
            waiter.admitted.set_result(None)

    def _sleep(self, pacer: Pacer, at: float, cause: str, now: float, loop: asyncio.AbstractEventLoop) -> None:
        self._hold(cause, now)
        if self._timer is not None:
            if self._timer_at == at:
                return
            self._timer.cancel()
            self._timer = None
        if at != float("inf"):  # else only another call's end helps, and that drains
            self._timer = loop.call_at(at, self._wake, pacer, loop)
            self._timer_at = at

    def _wake(self, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._drain(pacer, loop)

    def _hold(self, cause: str, now: float) -> None:
        """Book the time since the last change under the cause that held the queue, and go on with this one."""
        if self._cause:
            self._held[self._cause] = self._held.get(self._cause, 0.0) + now - self._cause_since
        self._cause = cause
        self._cause_since = now

    def _failed(self, pacer: Pacer, need: Need, error: CallError, sent: float, now: float) -> float | None:
        """Tell the pacer. Returns the seconds that this call is to wait by itself, if any."""
        decision = verdict(error)
        if self._wait_for_quota and isinstance(error, QuotaExhausted):
            until = pacer.rest(need, error.retry_after or QUOTA_WAIT, now)
            self._events.emit(TargetPaused(at=now, target=self.target, until=until, reason=str(error)))
            return None
        told = self._told(error)
        alone = pacer.alone(need, told, sent, now) if decision is Verdict.THROTTLE else None
        if decision is not Verdict.THROTTLE or alone is not None:
            overloaded = decision is Verdict.OVERLOADED or isinstance(error, ConnectError)
            pacer.failed(need, now, overloaded=overloaded, headers=error.headers, sent=sent, wall=self._wall())
            return alone
        was = pacer.paused_until
        until = pacer.throttled(need, told, error.headers, sent, now, self._wall(), error.limits)
        if until > max(was, now) and self._events:
            self._events.emit(TargetPaused(at=now, target=self.target, until=until, reason=_reason(error, told)))
        return None

    def _told(self, error: CallError) -> float | None:
        """Seconds that a refusal asks to wait; None when it does not say, or says 0, which is no wait."""
        if error.retry_after is None and error.headers is not None:
            return retry_after(error.headers, self._wall()) or None  # an instant, in an answer without a date
        return error.retry_after or None


def _reason(error: CallError, told: float | None) -> str:
    """Why a target is paused."""
    if not isinstance(error, RateLimited):
        return "no capacity"
    if told is None or told <= LONGEST_PAUSE:
        return "rate limited"
    return f"rate limited; that it asks to wait {told:,.0f} s is not believed"
