"""What happens, as values: the one source of progress, logs, traces and metrics.

A subscriber is a plain function; it is called in the event loop, so it must be quick. What it raises is logged, once,
and costs no call its answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec import Struct

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
    "LimitCrowded",
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
    "probe": "a first answer, before more is sent",
    "sockets": "a connection (the limit on open files)",
    "outage": "a server that is down",
    "backoff": "backoff before a retry",
    "connect": "connecting",
    "first_byte": "the provider",
    "body": "reading the answer",
}
"""The causes of waiting, by the key under which a Result's ``waits`` has them, and their names for people."""

SEARCHED = {
    "requests": "finding the limit on requests",
    "concurrency": "finding how many calls at once the server takes",
}
"""Their names where nobody gave or told the limit; see `flatout.Client.searched`."""


class Event(Struct, frozen=True, kw_only=True):
    """Base of all events. ``at`` is the event loop's clock, in seconds."""

    at: float


class CallFinished(Event, frozen=True, kw_only=True):
    """One call ended: with a reply, an error, or (`asyncio.CancelledError`) cancelled."""

    call: Call
    reply: Reply | None
    error: BaseException | None
    journey: Journey


class AttemptFailed(Event, frozen=True, kw_only=True):
    """One attempt failed.

    ``retry_in`` is the wait before the next one: 0 where that only waits for its turn, as after a 429; None when there
    is no next one.
    """

    attempt: int
    error: Exception
    retry_in: float | None
    call: Call
    journey: Journey


class TargetPaused(Event, frozen=True, kw_only=True):
    """A target takes no calls until ``until`` (event loop clock). None means that it is stopped: calls fail at once.
    Every two minutes one call goes all the same, to look whether the target is back.
    """

    target: str
    until: float | None
    reason: str


class TargetDown(Event, frozen=True, kw_only=True):
    """A target answers nothing, and has not for a second: its calls wait, and one looks now and then."""

    target: str
    reason: str


class TargetResumed(Event, frozen=True, kw_only=True):
    """A target that was down or stopped answers again."""

    target: str


class LimitCrowded(Event, frozen=True, kw_only=True):
    """What the given limits allow is refused again and again: others use them too, or they are too high. Said once."""

    target: str
    reason: str


class InFlightCapped(Event, frozen=True, kw_only=True):
    """There can be no more than ``most`` requests in flight, whatever the limits. Said once, when a call must wait."""

    most: int
    reason: str


Subscriber = Callable[[Event], None]
"""What `Events.subscribe` takes: a function of one event. It is called in the event loop, so it must be quick."""


class Events:
    """A list of subscribers. Costs one truth test when there are none."""

    __slots__ = ("_broken", "_subscribers")

    def __init__(self) -> None:
        self._subscribers: tuple[Subscriber, ...] = ()  # replaced, not changed: one may leave while an event is told
        self._broken: set[int] = set()  # by identity: a subscriber need not be hashable

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber; the returned function takes it off again."""
        self._subscribers = (*self._subscribers, subscriber)
        return lambda: self._leave(subscriber)

    def __bool__(self) -> bool:
        return bool(self._subscribers)

    def emit(self, event: Event) -> None:
        """Hand an event to every subscriber. An error of one is logged the first time, and kept from the call."""
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception as error:
                self._complain(subscriber, error)

    def _leave(self, subscriber: Subscriber) -> None:
        self._subscribers = tuple(other for other in self._subscribers if other is not subscriber)
        self._broken.discard(id(subscriber))

    def _complain(self, subscriber: Subscriber, error: Exception) -> None:
        if id(subscriber) not in self._broken:
            self._broken.add(id(subscriber))
            name = getattr(subscriber, "__qualname__", type(subscriber).__qualname__)
            _log.warning("%s failed to hear an event; further failures are not logged", name, exc_info=error)
