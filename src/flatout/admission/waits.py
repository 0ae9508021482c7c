"""How long calls wait in one queue: so far, by what held them, and probably the next one."""

from __future__ import annotations

SOME = 5
"""Calls that go one after the other and then show how long others will wait."""


class Waits:
    """The waits in one queue. Callers hand in the event loop's time.

    Attributes:
        holds: what the queue waits for, a key of `flatout.events.WAITS`; "" while none waits.
        since: since when.
        went: how many calls have waited and gone.
    """

    __slots__ = ("_apart", "_held", "holds", "since", "went")

    def __init__(self) -> None:
        self.holds = ""
        self.since = 0.0
        self.went = 0
        self._held: dict[str, float] = {}
        self._apart = 0.0  # seconds between two calls that went lately

    def hold(self, cause: str, now: float) -> None:
        """The queue is held by another cause now: book the time since the last change under the one before."""
        if self.holds:
            self._held[self.holds] = self._held.get(self.holds, 0.0) + now - self.since
        self.holds = cause
        self.since = now

    def book(self, now: float) -> None:
        """Book the time until now."""
        self.hold(self.holds, now)

    def held(self) -> dict[str, float]:
        """Seconds for which the queue was held, by cause, up to the last booking."""
        return dict(self._held)

    def beyond(self, before: dict[str, float]) -> dict[str, float]:
        """The seconds, by cause, that have come since `held` was ``before``."""
        return {cause: seconds - before.get(cause, 0.0) for cause, seconds in self._held.items()}

    def gone(self, came: float, went: int, now: float) -> None:
        """A call goes that came at ``came``, when ``went`` calls had gone. Books the time until now."""
        self.hold(self.holds, now)
        self.went += 1
        if self.went - went >= SOME:
            self._apart = (now - came) / (self.went - went)

    def ahead(self, waiting: int) -> float:
        """Seconds that a call will wait behind ``waiting`` others, as far as earlier waits tell; 0 if unknown."""
        return waiting * self._apart
