"""Events: what happens to calls and targets, as values. Progress, logs, traces and metrics all come from them.

A subscriber is a plain function. It is called in the event loop, so it must be quick. If it raises, the first error is
logged, and no call is affected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from .errors import Overloaded
from .journey import Journey
from .values import Call, Reply

__all__ = [
    "SEARCHED",
    "WAITS",
    "AttemptFailed",
    "CallFinished",
    "Event",
    "Events",
    "InFlightCapped",
    "KeeperAway",
    "KeeperBack",
    "LimitCrowded",
    "LimitsDiffer",
    "NoRoom",
    "Steered",
    "Subscriber",
    "TargetDown",
    "TargetPaused",
    "TargetResumed",
]

_log = logging.getLogger(__name__)

WAITS = {
    "requests": "requests per minute",
    "tokens": "tokens per minute",
    "concurrency": "concurrency",
    "pause": "a pause that the provider asked for",
    "paused": "a pause by hand",
    "probe": "a first answer, before more is sent",
    "sockets": "a connection (the limit on open files)",
    "outage": "a server that is down",
    "budget": "room in the budget",
    "room": "room in the provider's flex service",
    "backoff": "backoff before a retry",
    "prompt_cache": "another call that fills the provider's prompt cache",
    "batch": "a batch",
    "connect": "connecting",
    "first_byte": "the provider",
    "body": "reading the answer",
}
"""The causes of waiting: the keys of a Result's ``waits``, each with its description for people."""

SEARCHED = {
    "requests": "finding the limit on requests",
    "concurrency": "finding how many calls at once the server takes",
}
"""Their descriptions if the limit is unknown; see `flatout.limiters.Limiters.searched`."""


class Event(Struct, frozen=True, kw_only=True):
    """Base of all events. ``at`` is the time on the event loop's clock, in seconds."""

    at: float


class CallFinished(Event, frozen=True, kw_only=True):
    """One call ended: with a reply, with an error, or by cancellation (`asyncio.CancelledError`)."""

    call: Call
    reply: Reply | None
    error: BaseException | None
    journey: Journey


class AttemptFailed(Event, frozen=True, kw_only=True):
    """One attempt failed.

    ``retry_in`` is the seconds until the next attempt. It is 0 if that attempt only waits for its turn, as after a 429,
    and None if there is no next attempt. ``seconds`` is how long this attempt was on the wire; None if it was not sent.
    """

    attempt: int
    error: Exception
    retry_in: float | None
    call: Call
    journey: Journey
    seconds: float | None = None

    @property
    def found_no_room(self) -> bool:
        """Whether the provider's flex service had no room for the attempt, which then cost nothing."""
        trouble = self.journey.trouble
        cheap = self.journey.flex is not None or self.call.service_tier is not None
        return cheap and isinstance(self.error, Overloaded) and trouble is not None and trouble.excused


class TargetPaused(Event, frozen=True, kw_only=True):
    """A target takes no calls until ``until``, a time on the event loop's clock. None means that it is stopped: its
    calls fail at once. Every two minutes one call is sent to a stopped target, to find out whether it is back.
    """

    target: str
    until: float | None
    reason: str


class TargetDown(Event, frozen=True, kw_only=True):
    """A target has answered nothing for a second. Its calls wait, and one is sent from time to time to try it."""

    target: str
    reason: str


class NoRoom(Event, frozen=True, kw_only=True):
    """A provider's flex service has no room. Its calls wait, which costs nothing, and one looks from time to time."""

    target: str
    reason: str


class TargetResumed(Event, frozen=True, kw_only=True):
    """A target that was down, stopped or without room answers again."""

    target: str


class LimitCrowded(Event, frozen=True, kw_only=True):
    """The provider keeps refusing calls that the given limits allow: others use them too, or they are too high.

    Emitted once.
    """

    target: str
    reason: str


class KeeperAway(Event, frozen=True, kw_only=True):
    """The server at ``place``, through which workers on several machines share a target's limits, does not answer.

    This worker goes on with its share of them.
    """

    target: str
    place: str
    reason: str


class KeeperBack(Event, frozen=True, kw_only=True):
    """That server answers again."""

    target: str
    place: str


class LimitsDiffer(Event, frozen=True, kw_only=True):
    """Another worker was given a smaller limit, so ``rate`` holds for all workers.

    It is in units of ``limit`` per second; for ``concurrency``, in requests in flight.

    Emitted once for each limit.
    """

    target: str
    limit: str
    rate: float


class InFlightCapped(Event, frozen=True, kw_only=True):
    """No more than ``most`` requests can be in flight, whatever the limits. Emitted once, when a call first waits."""

    most: int
    reason: str


class Steered(Event, frozen=True, kw_only=True):
    """Somebody changed limits, paused or resumed calls while they went.

    ``what`` says it in words; ``by`` is who did it, if that was not the program itself; ``target`` the target that it
    concerns, None for all; ``does`` what it does to all calls, None for something else.
    """

    what: str
    by: str | None = None
    target: str | None = None
    does: Literal["pause", "resume"] | None = None


TARGETS = "flatout.targets"
"""The logger of what becomes of targets. A program that shows that by itself, such as the command, can silence it."""

Subscriber = Callable[[Event], None]
"""A function that receives each event; see `Events.subscribe`. It runs in the event loop, so it must be quick."""


class Events:
    """A list of subscribers. Without subscribers to the events of calls, a call costs one truth test."""

    __slots__ = ("_beside", "_broken", "_subscribers")

    def __init__(self) -> None:
        self._subscribers: tuple[Subscriber, ...] = ()  # replaced, not changed: one may leave during `emit`
        self._beside: tuple[Subscriber, ...] = ()  # those that hear nothing of calls
        self._broken: set[int] = set()  # by identity: a subscriber need not be hashable

    def subscribe(self, subscriber: Subscriber, *, calls: bool = True) -> Callable[[], None]:
        """Add a subscriber. The returned function removes it.

        Args:
            subscriber: receives the events.
            calls: whether it also receives those of calls and attempts, which cost every call a little.
        """
        if calls:
            self._subscribers = (*self._subscribers, subscriber)
        else:
            self._beside = (*self._beside, subscriber)
        return lambda: self._leave(subscriber)

    def __bool__(self) -> bool:
        """Whether anybody hears of calls."""
        return bool(self._subscribers)

    def emit(self, event: Event) -> None:
        """Call every subscriber with an event. A subscriber's first error is logged; no error reaches the call."""
        beside = () if isinstance(event, CallFinished | AttemptFailed) else self._beside
        for subscriber in (*self._subscribers, *beside):
            try:
                subscriber(event)
            except Exception as error:
                self._complain(subscriber, error)

    def _leave(self, subscriber: Subscriber) -> None:
        self._subscribers = tuple(other for other in self._subscribers if other is not subscriber)
        self._beside = tuple(other for other in self._beside if other is not subscriber)
        self._broken.discard(id(subscriber))

    def _complain(self, subscriber: Subscriber, error: Exception) -> None:
        if id(subscriber) not in self._broken:
            self._broken.add(id(subscriber))
            name = getattr(subscriber, "__qualname__", type(subscriber).__qualname__)
            _log.warning("%s failed to hear an event; further failures are not logged", name, exc_info=error)
