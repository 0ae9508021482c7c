"""What happens, as values: the one source of progress, logs, traces and metrics.

A subscriber is a plain function; it is called in the event loop, so it must be quick and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from .layer import Journey
from .values import Call, Reply

WAITS = {
    "requests": "requests per minute",
    "tokens": "tokens per minute",
    "concurrency": "concurrency",
    "pause": "a pause that the provider asked for",
    "backoff": "backoff before a retry",
    "connect": "connecting",
    "first_byte": "the provider",
    "body": "reading the answer",
}
"""The causes of waiting, by the key under which a Result's ``waits`` has them, and their names for people."""


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
    """One attempt failed. ``retry_in`` is the wait before the next one; None when there is none."""

    attempt: int
    error: Exception
    retry_in: float | None


class TargetPaused(Event, frozen=True, kw_only=True):
    """A target takes no calls until ``until`` (event loop clock); None when it is stopped for good."""

    target: str
    until: float | None
    reason: str


class TargetResumed(Event, frozen=True, kw_only=True):
    """A target takes calls again."""

    target: str


Subscriber = Callable[[Event], None]


class Events:
    """A list of subscribers. Costs one truth test when there are none."""

    __slots__ = ("_subscribers",)

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber; the returned function takes it off again."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def __bool__(self) -> bool:
        return bool(self._subscribers)

    def emit(self, event: Event) -> None:
        """Hand an event to every subscriber."""
        for subscriber in self._subscribers:
            subscriber(event)
