"""A worker's end of a limit on requests in flight that workers on several machines share: see `leases`."""

from __future__ import annotations

import math
from collections.abc import Callable

from .exchange import CONCURRENCY, SlotsAsk
from .turns import LATE
from .wanted import Next

POLL = 0.1
"""Seconds after which a worker asks again for slots that it was not granted."""

STAYS = 2.2
"""Seconds after the keeper's word was due in which a worker finds out that the keeper is away: it waits for 1.25 s, and
its event loop may be late. A worker that finds out later stood still, and others have its slots."""


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
        "_beat",
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
        self._beat = 0.0
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
        """How many more may be in flight, at least 1: one waits for its turn. None if nothing bounds them."""
        return None if self._most is None else max(1, int(self._most - self._others) - self.own)

    def fits(self, most: float, count: float, now: float, /) -> bool:
        """Whether this worker may have one more in flight."""
        if self._most is not None and most > self._most:
            self.raised_at = now
        self._most, self._follows = most, most == self.given
        if self._away or now < self._heard_at + self._beat + LATE:  # else the keeper may have given its slots to others
            self.hungry = self.own + 1 > min(self._promised, self._allowed)
        else:
            self.hungry = True
        if self.needs(now):
            self._ask()
        return not self.hungry

    @property
    def asks_at(self) -> float:
        """When to ask again for slots that were not granted."""
        return self._heard_at + POLL

    @property
    def gives_up(self) -> bool:
        """Whether a call has ended whose slot others wait for."""
        return max(float(self.own), self._allowed) < self._promised

    def needs(self, now: float) -> bool:
        """Whether to ask now."""
        return self.hungry and now >= self.asks_at

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

    def wants(self, going: Next, name: str = CONCURRENCY) -> tuple[SlotsAsk, ...]:
        """What to ask for. From then on, the worker uses what it says that it keeps.

        Args:
            going: the calls that go next.
            name: see `SlotsAsk`.
        """
        if self._most is None:
            return ()
        keeps = float(max(self._peak, self.own) + going.held)
        self._promised = max(float(self.own), min(self._promised, self._allowed, keeps))
        self._peak = self.own
        most = self.given if self._follows else self._most
        return (SlotsAsk(most, self._promised, keeps + going.asked, name, self._follows),)

    def granted(self, slots: float, others: float, beat: float, now: float) -> None:
        """The keeper says how many this worker may have in flight, and how many the others may."""
        self._away, self._heard_at, self._others = False, now, others
        self._allowed, self._beat = slots, beat
        self._promised = max(self._promised, slots)
        self.hungry = False

    def go_alone(self, now: float) -> None:
        """The keeper is away. What was promised stays, unless it was so long ago that others may have it."""
        self._away = True
        if now >= self._heard_at + self._beat + STAYS:
            self._promised = 0.0
