"""A worker's end of a limit on requests in flight that workers on several machines share: see `leases`."""

from __future__ import annotations

import math
from collections.abc import Callable

from .exchange import CONCURRENCY, SlotsAsk
from .leases import SILENT

POLL = 0.1
"""Seconds after which a worker asks again for slots that it was not granted."""

STAYS = 2.5 * SILENT
"""Seconds after the keeper's last word in which a worker finds out that the keeper is away: it asks after 0.3 s, waits
for 1.25 s, and its event loop may be late. A worker that finds out later stood still, and others have its slots."""


class LeasedMembers:
    """How many requests this worker may have in flight. See `sharing.Members`.

    Args:
        ask: asks the keeper for more.

    Attributes:
        own: this worker's requests in flight.
        hungry: whether it could use more than it may.
        given: see `sharing.Members`.
        raised_at: when the number that holds for all was raised last, as far as this worker knows it.
    """

    __slots__ = (
        "_allowed",
        "_ask",
        "_away",
        "_follows",
        "_heard_at",
        "_most",
        "_others",
        "_peak",
        "_promised",
        "given",
        "hungry",
        "own",
        "raised_at",
    )

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self.own = 0
        self.hungry = False
        self.given = math.inf
        self.raised_at = -math.inf
        self._promised = 0.0  # what the keeper counts as this worker's, which it may use
        self._allowed = 0.0  # what the keeper wants it to use: if less, it gives up slots as its calls end
        self._others = 0.0
        self._peak = 0  # most in flight since the last exchange
        self._most: float | None = None  # None where nothing bounds the requests of all
        self._follows = False  # whether that is what only others were given, and changes with it
        self._heard_at = -math.inf
        self._away = False  # whether the keeper is

    @property
    def in_flight(self) -> float:
        """The requests in flight, and those that the other workers may have in flight."""
        return self.own + self._others

    @property
    def asks(self) -> bool:
        """Whether there is such a limit."""
        return self._most is not None

    @property
    def room(self) -> int | None:
        """How many more may be in flight, at least 1; None if nothing bounds them."""
        return None if self._most is None else max(1, int(min(self._promised, self._allowed)) - self.own)

    def fits(self, most: float, count: float, now: float, /) -> bool:
        """Whether this worker may have one more in flight."""
        if self._most is not None and most > self._most:
            self.raised_at = now
        self._most, self._follows = most, most == self.given
        if self._away or now - self._heard_at < SILENT:  # else the keeper may have given its slots to others
            self.hungry = self.own + 1 > min(self._promised, self._allowed)
        else:
            self.hungry = True
        if self.hungry and self.needs(now):
            self._ask()
        return not self.hungry

    @property
    def asks_at(self) -> float:
        """When to ask again for slots that were not granted."""
        return self._heard_at + POLL

    def needs(self, now: float) -> bool:
        """Whether to ask now."""
        gives_up = max(float(self.own), self._allowed) < self._promised  # not before a call has ended
        return gives_up or (self.hungry and now >= self.asks_at)

    def bury(self, now: float, /) -> int:
        """The keeper frees the requests of workers that died."""
        return 0

    def sent(self, now: float, /) -> None:
        """This worker sent a request."""
        self.own += 1
        self._peak = max(self._peak, self.own)

    def ended(self) -> None:
        """One of its requests is over."""
        self.own -= 1
        if self._allowed < self._promised and self.asks:
            self._ask()

    def wants(self, waiting: int, name: str = CONCURRENCY) -> tuple[SlotsAsk, ...]:
        """What to ask for, while this many calls wait. From then on, the worker uses what it says that it keeps.

        Args:
            waiting: the calls.
            name: see `SlotsAsk`.
        """
        if self._most is None:
            return ()
        want = float(max(self._peak, self.own) + waiting)
        self._promised = max(float(self.own), min(self._promised, self._allowed, want))
        self._peak = self.own
        most = self.given if self._follows else self._most
        return (SlotsAsk(most, self._promised, want, name, self._follows),)

    def granted(self, slots: float, others: float, now: float) -> None:
        """The keeper says how many this worker may have in flight, and how many the others may."""
        self._away, self._heard_at, self._others = False, now, others
        self._allowed = slots
        self._promised = max(self._promised, slots)
        self.hungry = False

    def go_alone(self, now: float) -> None:
        """The keeper is away. What was promised stays, unless it was so long ago that others may have it."""
        self._away = True
        if now - self._heard_at >= STAYS:
            self._promised = 0.0
