"""Holds each attempt back until its target's queue lets it go, and reports how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, Self

from msgspec import Struct

from flatout.admission import RETRIES, Admission
from flatout.errors import CallError
from flatout.events import Event, Events, LimitCrowded, TargetDown, TargetPaused, TargetResumed
from flatout.journey import current_journey
from flatout.layer import CallNext
from flatout.policies.failures.health import News, TargetHealth
from flatout.policies.failures.outcome import Outcomes
from flatout.policies.failures.service import Service
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Estimator
from flatout.tasks.loop import wall_clock
from flatout.values import Call, Limits, Reply


class Aside(Protocol):
    """A layer in front of the limit where calls wait, too.

    Attributes:
        cause: what they wait for; a key of `flatout.events.WAITS`.
    """

    cause: str

    @property
    def waiting(self) -> int:
        """How many wait there now."""
        ...


class TargetStatus(Struct, frozen=True, kw_only=True):
    """What one target is doing now.

    Attributes:
        target: its name.
        in_flight: attempts on the wire.
        waiting: attempts that wait for admission.
        holds: what they wait for (a key of `flatout.events.WAITS`); "" when none waits.
        pace: requests per second that go while flatout searches for the limit; None when there is no search.
        rising: whether that search has not met the limit yet.
        hosted: whether it is a provider's. A server of one's own gets slower the more it is asked.
        allows: the limits in force, given or found, by their names in `flatout.Limits`: per minute or day, and
            ``concurrency``. A limit that is not known is left out.
        shared: whether other programs use these limits together with this run.
        tried: whether the most in flight at once is found by trying, below what the user gave, or without that.
        told: the names of the limits in force that the provider named, below what the user gave, or without that.
        held: seconds for which the queue was held, by cause, up to ``holds_since``.
        holds_since: since when it is held by ``holds``, on the event loop's clock.
        aside: how many calls wait in front of the queue, by cause.
    """

    target: str
    in_flight: int
    waiting: int
    holds: str
    pace: float | None = None
    rising: bool = False
    hosted: bool = True
    allows: Mapping[str, float] = {}
    shared: bool = False
    tried: bool = False
    told: Collection[str] = ()
    held: Mapping[str, float] = {}
    holds_since: float = 0.0
    aside: Mapping[str, int] = {}

    def held_until(self, now: float) -> dict[str, float]:
        """Seconds for which the queue was held, by cause, up to an instant on the event loop's clock."""
        held = dict(self.held)
        if self.holds:
            held[self.holds] = held.get(self.holds, 0.0) + now - self.holds_since
        return held


class TargetNow(Struct, frozen=True, kw_only=True):
    """What one target is doing now, for programs that ask; of several processes, added up.

    Attributes:
        in_flight, waiting, holds, pace, shared: see `TargetStatus`.
        limits: the limits in force.
    """

    in_flight: int
    waiting: int
    holds: str
    pace: float | None
    limits: Mapping[str, float]
    shared: bool = False

    @classmethod
    def of(cls, state: TargetStatus) -> Self:
        """The same of a target's whole state."""
        return cls(
            in_flight=state.in_flight,
            waiting=state.waiting,
            holds=state.holds,
            pace=state.pace,
            limits=state.allows,
            shared=state.shared,
        )


class Limit:
    """One target's limits. It reports every answer and failure to the pacer and to the target's health.

    Every exit gives the permit back: answer, error or cancellation.

    Args:
        target: its name, for people.
        pacer: makes the pacer when the first call comes, given the event loop's time.
        estimator: guesses tokens before a call is sent, and learns from each usage.
        events: where pauses and changes of the target's health are emitted.
        health: the target's health.
        wait_for_quota: pause when a quota is used up, instead of stopping the target.
        retries: the share of what is sent that may be retries, while other calls wait.
        hosted: see `TargetStatus`.

    Attributes:
        queue: the calls that wait.
        beside: the names of other targets with the same model on the same server, which are not of one group with it.
        asides: the layers in front of it where its calls wait, too.
    """

    def __init__(
        self,
        target: str,
        pacer: Callable[[float], Pacer],
        estimator: Estimator,
        events: Events,
        health: TargetHealth | None = None,
        *,
        wait_for_quota: bool = False,
        hosted: bool = True,
        retries: float = RETRIES,
    ) -> None:
        self._wait_for_quota = wait_for_quota
        self._hosted = hosted
        self.target = target
        self.beside: list[str] = []
        self.asides: list[Aside] = []
        self.health = health or TargetHealth()
        self.queue = Admission(target, pacer, estimator, self.health, retries)
        self._estimator = estimator
        self._events = events
        self._outcomes: Outcomes | None = None
        self._wall: Callable[[], float] = time.time

    def __repr__(self) -> str:
        return f"Limit({self.queue!r}, {self.health!r})"

    @property
    def pacer(self) -> Pacer | None:
        """The target's pacer; None until the first call comes."""
        return self.queue.pacer

    def status(self) -> TargetStatus:
        """What the target is doing now."""
        queue, pacer = self.queue, self.queue.pacer
        holds = queue.holds if queue.waiting else ""
        search = pacer.search if pacer is not None else None
        held, since = queue.held()
        return TargetStatus(
            target=self.target,
            in_flight=queue.in_flight,
            waiting=len(queue.waiting),
            holds=holds,
            pace=search.rate if search is not None and search.slots is None else None,
            rising=search is not None and search.climbs,
            hosted=self._hosted,
            allows=pacer.allows() if pacer is not None else {},
            shared=pacer is not None and pacer.limits.with_others,
            tried=pacer is not None and pacer.tries_concurrency,
            told=tuple(pacer.found()) if pacer is not None else (),
            held=held,
            holds_since=since,
            aside={each.cause: each.waiting for each in self.asides if each.waiting},
        )

    def change(self, limits: Limits) -> None:
        """The user gives other limits; they hold at once. Call it in the event loop."""
        pacer, loop = self.queue.pacer, asyncio.get_running_loop()
        if pacer is not None and pacer.limits != limits:
            with pacer.exclusive:
                pacer.change(limits, loop.time())
            self.queue.drain(pacer, loop)

    def pause(self, paused: bool) -> None:
        """Let no attempt begin, or let them begin again. Call it in the event loop."""
        self.queue.paused = paused
        self.queue.look_again()

    async def __call__(self, call: Call, call_next: CallNext, /, service: Service) -> Reply:
        loop, journey, queue = asyncio.get_running_loop(), current_journey(), self.queue
        pacer = queue.begin(loop)
        outcomes = self._outcomes or self._begin(pacer, loop)
        if (permit := journey.permit) is not None:
            journey.permit = None
            need = permit.need
        else:
            need = await queue.admitted(call, service, pacer, loop)
        journey.attempt.opens = queue.opens
        sent = loop.time()
        try:
            reply = await call_next(call)
        except CallError as error:
            with pacer.exclusive:
                alone = outcomes.failed(current_journey(), service, need, error, sent, loop.time(), self._wall())
            if alone:
                await self._wait_alone(alone, pacer, loop)
            raise
        except BaseException:
            with pacer.exclusive:
                pacer.failed(need, loop.time())
            self.health.passed(need.number, loop.time())
            raise
        else:
            if pacer.counts_tokens:
                self._estimator.learn(need, reply.usage)
            now = loop.time()
            self.health.answered(service, need.number, now)
            with pacer.exclusive:
                pacer.answered(need, reply.usage, reply.headers, sent, now, self._wall())
            return reply
        finally:
            if self.health.news:
                self._tell(loop.time())
            if queue.waiting:
                queue.drain(pacer, loop)

    def _begin(self, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> Outcomes:
        self._wall = wall_clock(loop)
        self._outcomes = Outcomes(pacer, self.health, wait_for_quota=self._wait_for_quota)
        return self._outcomes

    async def _wait_alone(self, seconds: float, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> None:
        """Wait out a refusal that concerns this call alone. Its permit is given back already."""
        self.queue.drain(pacer, loop)
        journey = current_journey()
        if journey.passage is not None:  # another target may take it meanwhile
            resting = journey.passage.resting
            journey.passage.resting = {**resting, journey.attempt.target: loop.time() + seconds}
        elif journey.deadline_at is None or loop.time() + seconds < journey.deadline_at:
            journey.account.waited("backoff", seconds)
            await asyncio.sleep(seconds)

    def _tell(self, now: float) -> None:
        """Emit what changed at the target, and fail the calls that wait for a stopped service."""
        news, self.health.news = self.health.news, []
        for each in news:
            if each.service is not None and each.what == "stopped":
                self.queue.flush(each.service)
            self._events.emit(self._event(each, now))

    def _event(self, news: News, now: float) -> Event:
        target = self.target if news.service is None else news.service.target or self.target
        if news.what in ("paused", "stopped"):
            return TargetPaused(at=now, target=target, until=news.until, reason=news.reason)
        if news.what == "crowded":
            return LimitCrowded(at=now, target=target, reason=_together(self.beside) if self.beside else news.reason)
        if news.what == "down":
            return TargetDown(at=now, target=target, reason=news.reason)
        return TargetResumed(at=now, target=target)


def _together(others: Sequence[str]) -> str:
    """Why a target refuses what its limits allow, if this program itself uses them through other targets."""
    return (
        f"refuses what the given limits allow; {' and '.join(others)} asks the same server. If their keys share its "
        "limits, give their endpoints the same group in flatout.toml"
    )
