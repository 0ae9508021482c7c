"""The queue of one target: it lets attempts go as the target's pacer allows, first in, first out."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from flatout.errors import AttemptTimeout, DeadlineExceeded, InvalidRequest
from flatout.journey import Journey, current_journey
from flatout.layer import Away, Permit, Turn
from flatout.policies.failures.health import TargetHealth
from flatout.policies.failures.service import Service
from flatout.policies.pacing.line import Line
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Estimator, Need
from flatout.policies.pacing.way import Way
from flatout.values import Call

from .alarm import Alarm
from .waiter import Till, Waiter, line_up
from .waits import Waits
from .yielding import Yielding

BYPASS = 16
"""Most small calls that pass one that waits for tokens, and the places behind it where they are looked for."""

BYPASS_AGE = 2.0
"""Seconds of waiting after which no call passes this one."""

RETRIES = 0.2
"""The share of what is sent that may be retries while other calls wait."""


class Admission:
    """One target's queue. One timer serves all of it.

    Retries that cost an attempt are only a share of what is sent while other calls wait. A call of a route may stand in
    the queues of several targets at once: see `flatout.layer.Queue`.

    Args:
        target: the target's name, for people.
        pacer: makes the pacer when the first call comes, given the event loop's time.
        estimator: guesses tokens before a call is sent.
        health: the target's health.
        retries: the share of what is sent that may be retries, while other calls wait.

    Attributes:
        waiting: the attempts that wait. In a condition it is true while at least one waits.
        pacer: None until the first call comes.
        paused: whether the user lets no attempt begin.
    """

    def __init__(
        self,
        target: str,
        pacer: Callable[[float], Pacer],
        estimator: Estimator,
        health: TargetHealth,
        retries: float = RETRIES,
    ) -> None:
        self.target = target
        self.health = health
        self.pacer: Pacer | None = None
        self.paused = False
        self._make_pacer = pacer
        self._estimator = estimator
        self.waiting: Line[Waiter] = Line(retries)
        self._alarm = Alarm()
        self._waits = Waits()
        self._yielding = Yielding()
        self._till = Till()
        self._way = Way()

    def __repr__(self) -> str:
        return f"Admission({self.target}, waiting={len(self.waiting)}, {self.pacer!r})"

    def begin(self, loop: asyncio.AbstractEventLoop) -> Pacer:
        """The pacer, made when the first call comes."""
        if self.pacer is None:
            self.pacer = self._make_pacer(loop.time())
        return self.pacer

    async def admitted(self, call: Call, service: Service, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> Need:
        """Wait until a call may go. Returns what it takes; the caller gives that back through the pacer.

        Raises:
            CircuitOpen: the service was stopped.
            DeadlineExceeded: the target is paused until after the call's deadline.
            InvalidRequest: the target's limits can never admit the call.
        """
        if service.bars(call):  # stopped while the call waited for money, or for the price table
            raise service.refusal()
        need = Need()
        if pacer.counts_tokens and (refusal := self._guess(pacer, need, call)) is not None:
            raise refusal
        await self._wait(pacer, call, service, need, loop)
        return need

    # A route takes a permit, or waits in the queues of several targets at once: see `flatout.layer.Queue`.

    def take(self, call: Call, loop: asyncio.AbstractEventLoop, /) -> Permit | None:
        """A permit if a call may go at once; None if it would have to wait, or can never go."""
        pacer = self.begin(loop)
        if self.waiting or self._yielding.due:
            return None
        need = Need()
        if pacer.counts_tokens and self._guess(pacer, need, call) is not None:
            return None
        now = loop.time()
        with pacer.exclusive:
            if self._ready_at(pacer, need, now)[0] > now:
                return None
            self._admit(pacer, need, now, loop)
        return Permit(self, need)

    def enter(self, call: Call, service: Service, journey: Journey, turn: Turn, /) -> Waiter:
        """Queue a call that waits for other targets as well; see `flatout.layer.Queue.enter`."""
        loop = asyncio.get_running_loop()
        pacer = self.begin(loop)
        waiter = self._queued(call, service, Need(), turn.admitted, journey, loop.time(), turn)
        if len(self.waiting) == 1 or self.holds == "tokens":  # else those before it wait, and so does it
            self.drain(pacer, loop)
        return waiter

    def leave(self, place: Waiter, /) -> None:
        """End a wait, unless it has ended."""
        if not place.left:
            self.waiting.remove(place)
            self._waits.hold(self.holds if self.waiting else "", asyncio.get_running_loop().time())

    def waits_of(self, place: Waiter, /) -> dict[str, float]:
        """The seconds that an attempt has waited here, by cause."""
        return self._waits.beyond(place.held)

    def give_back(self, permit: Permit, /) -> None:
        """Give back a permit whose attempt was not sent."""
        loop = asyncio.get_running_loop()
        pacer = self.begin(loop)
        self._not_sent(pacer, permit.need, loop.time())
        self.drain(pacer, loop)

    @property
    def in_flight(self) -> int:
        """Attempts on the wire."""
        return self.pacer.in_flight if self.pacer is not None else 0

    @property
    def holds(self) -> str:
        """What the queue waits for, a key of `flatout.events.WAITS`; "" while none waits."""
        return self._waits.holds

    def held(self) -> tuple[dict[str, float], float]:
        """Seconds for which the queue was held, by cause, and since when it is held by what holds it now."""
        return self._waits.held(), self._waits.since

    def wait(self) -> float:
        """Seconds that a call which enters the queue now has to wait, as far as earlier waits tell; 0 if unknown."""
        return self._waits.ahead(len(self.waiting))

    def away(self, now: float, /) -> Away | None:
        """How long the target takes no calls; None if it takes calls."""
        pacer = self.pacer
        if pacer is None or not (self.health.troubled or pacer.paused_until > now):
            return None
        silent = isinstance(self.health.reason, AttemptTimeout)
        paused, surely = pacer.paused_until - now, pacer.surely_paused_until - now
        return Away(self.health.down_for(now), silent, max(0.0, paused), max(0.0, surely))

    def _not_sent(self, pacer: Pacer, need: Need, now: float) -> None:
        """An attempt was let go, and did not go: give back what it took."""
        with pacer.exclusive:
            pacer.unsent(need, now)
        self.health.passed(need.number, now)

    def flush(self, service: Service) -> None:
        """Fail all calls that wait for a stopped service: waiting longer would not help them."""
        for waiter in self.waiting.leave(lambda waiter: waiter.service is service):
            waiter.refuse(service.refusal())

    def _guess(self, pacer: Pacer, need: Need, call: Call) -> InvalidRequest | None:
        """Guess a call's tokens. Returns the error if the target's limits can never admit it."""
        self._estimator.guess(need, call)
        reason = pacer.never(need)
        return InvalidRequest(f"not sent: {reason}") if reason is not None else None

    async def _wait(
        self, pacer: Pacer, call: Call, service: Service, need: Need, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Wait for a permit, and for the money that the attempt may cost."""
        now, journey = loop.time(), current_journey()
        if not (self.waiting or self._yielding.due):
            with pacer.exclusive:
                if self._ready_at(pacer, need, now)[0] <= now and self._till.pays(journey.money):
                    self._admit(pacer, need, now, loop)
                    return
        if journey.deadline_at is not None and pacer.surely_paused_until >= journey.deadline_at:
            raise DeadlineExceeded(
                f"{self.target} is paused for {pacer.paused_until - now:.0f} s more, which is past the deadline",
                attempts=journey.attempts,
            ) from journey.last_error
        journey.refusals += journey.sent_back
        admitted: asyncio.Future[Any] = loop.create_future()
        waiter = self._queued(call, service, need, admitted, journey, now)
        if self.holds == "tokens" or self._next()[0] is waiter:  # else it changes nothing: others wait before it
            self.drain(pacer, loop)
        try:
            while await admitted:  # not yet: it is in front, and lacks money
                admitted = waiter.admitted
                await self._fund(waiter, pacer, loop)
        except asyncio.CancelledError:
            if waiter.admitted.done() and not waiter.admitted.cancelled() and not waiter.admitted.exception():
                self._not_sent(pacer, need, loop.time())  # admitted and cancelled in one turn of the loop
            else:
                self.waiting.remove(waiter)
            self._till.forget(waiter)
            if self.health.down:
                journey.last_error = journey.last_error or self.health.reason
            self.drain(pacer, loop)
            raise
        finally:
            for cause, seconds in self.waits_of(waiter).items():
                journey.account.waited(cause, seconds)

    async def _fund(self, waiter: Waiter, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the money of the call in front. It keeps its place, and the others wait behind it.

        If it cannot go at once now, it gives the money back: a retry may stand in front by now, or the target be down,
        and others would wait for what it holds.
        """
        try:
            await self._till.fund(waiter)
        except BaseException:
            self.waiting.remove(waiter)
            raise
        finally:
            self.drain(pacer, loop)
        if not waiter.admitted.done() and waiter.money is not None:
            waiter.money.give_back()

    def _ready_at(self, pacer: Pacer, need: Need, now: float) -> tuple[float, str]:
        """When a call may go, and what holds it: the user, the target's limits or health, or opening connections."""
        if self.paused:
            return math.inf, "paused"
        if self._way.blocked(pacer.in_flight):
            return math.inf, "connect"
        ready = pacer.ready_at(need, now)
        if self.health.troubled:
            if self.health.doubtful and pacer.in_flight:
                return math.inf, "probe"
            if (at := self.health.ready_at()) > max(now, ready[0]):
                return at, "outage"
        return ready

    def _admit(self, pacer: Pacer, need: Need, now: float, loop: asyncio.AbstractEventLoop) -> None:
        """Let an attempt go."""
        pacer.admit(need, now)
        need.number = self.health.sent(now)
        if pacer.aimd is None:  # with `aimd`, each end lets only one go anyway
            self._yielding.gone(loop, self.drain, pacer, loop)

    def costs(self, anew: bool, /) -> Iterator[Mapping[str, float]]:
        """What each call that waits takes of the target's limits, by name, the next one first.

        A call should take what it was granted of limits that are shared, so its tokens are not guessed again later.

        Args:
            anew: whether to guess again nevertheless, because no call was granted anything.
        """
        pacer = self.pacer
        if pacer is None:
            return
        for waiter in self.waiting:
            if pacer.counts_tokens and (anew or not waiter.guessed):
                if self._guess(pacer, waiter.need, waiter.call) is not None:
                    continue  # it is refused when it comes to the front
                waiter.guessed = True
            yield pacer.costs(waiter.need)

    def look_again(self) -> None:
        """What the calls wait for may have changed: let those go that may go now. Call it in the event loop."""
        if self.pacer is not None and self.waiting:
            self.drain(self.pacer, asyncio.get_running_loop())

    def opens(self, more: int) -> None:
        """An attempt waits for a connection that is being opened (1), or waits no longer (-1)."""
        if (pacer := self.pacer) is not None and self._way.opens(more, pacer.in_flight):
            self.drain(pacer, asyncio.get_running_loop())

    def _queued(
        self,
        call: Call,
        service: Service,
        need: Need,
        admitted: asyncio.Future[Any],
        journey: Journey,
        now: float,
        turn: Turn | None = None,
    ) -> Waiter:
        """Queue a call."""
        self._waits.book(now)
        waiter = Waiter(call, service, need, admitted, now, self._waits.held(), turn, journey.money, self._waits.went)
        line_up(waiter, self.waiting, journey)
        return waiter

    def _next(self) -> deque[Waiter]:
        """The group of calls whose first one goes next."""
        return self.waiting.next(troubled=self._troubled)

    @property
    def _troubled(self) -> bool:
        """Whether calls only go to look at the target, or few at a time."""
        return self.health.troubled and self.health.state == "down"

    def drain(self, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> None:
        """Let all calls go that may go now, and set the timer for the next."""
        with pacer.exclusive:
            self._drain_exclusively(pacer, loop)

    def _drain_exclusively(self, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while queue := self._next():
            if self._yielding.due:
                return
            head = queue[0]
            if head.admitted.done():  # cancelled, or another target of its route was free first
                self.waiting.drop(queue)
                continue
            if pacer.counts_tokens and not head.guessed and self._impossible(pacer, head):
                self.waiting.drop(queue)
                continue
            at, cause = self._ready_at(pacer, head.need, now)
            if at > now:
                small = cause == "tokens" and queue is not self.waiting.again
                passes_at = self._bypass(queue, pacer, now, loop) if small else at
                if passes_at > now:
                    self._sleep(pacer, min(at, passes_at), cause, now, loop)
                    return
                continue
            if head.turn is not None and not head.turn.wants(head.service):
                self.waiting.drop(queue)
                continue
            if self._till.lacks(head, loop):
                self._sleep(pacer, math.inf, "budget", now, loop)
                return
            self._release(self.waiting.pop(queue, troubled=self._troubled), pacer, now, loop)
        self._waits.hold("", now)

    def _impossible(self, pacer: Pacer, waiter: Waiter) -> bool:
        """Fail a waiter whose tokens the limits can never admit. Returns whether it did.

        Its tokens are guessed here, as late as possible: by now the limit may be known, and the estimate is better.
        """
        waiter.guessed = True
        refusal = self._guess(pacer, waiter.need, waiter.call)
        if refusal is not None:
            waiter.refuse(refusal)
        return refusal is not None

    def _bypass(self, queue: deque[Waiter], pacer: Pacer, now: float, loop: asyncio.AbstractEventLoop) -> float:
        """Admit the first small call behind a head that waits for tokens, unless it would pass one that others passed.

        Returns when one may go: a time up to now means that one went, infinity that none may.
        """
        head, soonest = queue[0], math.inf
        for place, waiter in enumerate(islice(queue, BYPASS)):
            if not waiter.need.features:
                self._estimator.guess(waiter.need, waiter.call)
            if waiter.need.tokens < head.need.tokens / 4:
                ready = self._ready_at(pacer, waiter.need, now)[0]
                if ready <= now and self._till.pays(waiter.money):
                    for each in islice(queue, place):
                        each.passed += 1
                    self.waiting.drop(queue, place)
                    self._release(waiter, pacer, now, loop)
                    return now
                soonest = min(soonest, ready)
            if waiter.passed >= BYPASS or now - waiter.since > BYPASS_AGE:
                break
        return soonest

    def _release(self, waiter: Waiter, pacer: Pacer, now: float, loop: asyncio.AbstractEventLoop) -> None:
        if not waiter.admitted.done():
            waiter.need.waited_for = self.holds
            self._admit(pacer, waiter.need, now, loop)
            self._waits.gone(waiter.since, waiter.went, now)
            waiter.admitted.set_result(None if waiter.turn is None else Permit(self, waiter.need))

    def _sleep(self, pacer: Pacer, at: float, cause: str, now: float, loop: asyncio.AbstractEventLoop) -> None:
        self._waits.hold(cause, now)
        at = min(at, now + pacer.recheck)  # infinity: only another call's end helps, and it drains the queue
        self._alarm.set(at, loop, self.drain, pacer, loop)
