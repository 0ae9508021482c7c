"""What is known of a target's limit while it is searched for, and the shape of a phase of the search."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from .ledger import Ledger
from .shut import Shut
from .slots import Signs
from .twins import Suspicion, Twins

ALARM, MOST = 3.0, 0.15
"""Refusals in a run that are everybody's affair, of which every accepted request takes back this share. So it is also
the largest share of strays that can be borne."""
AHEAD = 0.02  # seconds by which a request may be early, since timers wake up late
SLOWEST = 1.0 / 60.0  # requests per second below which no rate is ever held
WINDOW = 60.0  # seconds over which providers count; the deepest bucket holds the refill of two
STAND, TIMES, LONGEST = 32, 8, 4_000
"""Requests from the first refusals to a look above; how many times as many after each look that found the limit where
it was; and the most."""


class Refusal(NamedTuple):
    """A request that was refused: when it went, and how many had been accepted and were in flight by then."""

    mark: int
    sent: float
    accepted: int
    in_flight: int
    retry_after: float | None
    now: float


class Known:
    """What the phases know together: the limit, in requests per second, and what was refused."""

    def __init__(self, now: float, limit: float, ceiling: float) -> None:
        self.ledger = Ledger(now)
        self.ceiling = ceiling
        self.limit = min(ceiling, limit)
        self.rough = False  # whether only its order of magnitude is known
        self.window = 0  # requests that a window allows; 0 for a limit without windows
        self.used_up = (-math.inf, 0)  # when the limit was last known to be used up, and what had been accepted by then
        self.stand = STAND  # requests of the next hold
        self.tat = now  # when the next request may go
        self.rtt = 0.1  # seconds until a refusal comes
        self.met = False  # whether any request had an outcome
        self.cut = 0  # the last request that was sent before the rate changed: its refusal is no news
        # The run of refusals: those that accepted requests have not made up for.
        self.run, self._last = 0.0, 0  # how many, and the mark of the last
        self.first = (now, 0)  # when it began, and what had been accepted by then
        self.recent: deque[tuple[float, int]] = deque(maxlen=9)  # the same of the last refusals
        self._strays = self._borne = 0.0  # refusals that were shown to be strays, and of how many requests
        self.top = (0.0, 0.0)  # the limit before it fell several times, and the requests accepted per second then
        self.signs = Signs()
        self.suspicion = Suspicion()

    @property
    def grace(self) -> float:
        """Seconds after which a request that was not refused is held to be accepted."""
        return max(0.1, 2.5 * self.rtt)

    @property
    def share(self) -> float:
        """The share of strays."""
        return min(MOST, self._strays / max(50.0, self._borne))

    def for_accepted(self, rate: float) -> float:
        """The rate at which to send so that as many are accepted: a stray uses nothing up."""
        return min(self.ceiling, max(SLOWEST, rate / (1.0 - self.share)))

    def bear(self, strays: float, requests: float) -> None:
        """What was refused of the last requests was no limit's."""
        self._strays += strays
        self._borne += requests

    def bear_none(self) -> None:
        """What was taken for strays was the limit's."""
        self._strays = self._borne = 0.0

    def count(self, refusal: Refusal) -> None:
        """A request was refused: the run goes on, or begins."""
        self.run = self.left(refusal.mark - 1) + 1.0
        self._last = refusal.mark
        if self.run == 1.0:
            self.first = (refusal.sent, refusal.accepted)

    def left(self, mark: int) -> float:
        """Refusals that the requests up to one have not made up for."""
        return max(0.0, self.run - MOST * (mark - self._last))

    def begin(self) -> None:
        """The rate changes."""
        self.run, self._last = 0.0, self.ledger.sent

    def refill(self, at: float, accepted: int) -> tuple[float, int]:
        """What was accepted per second since the limit was last used up, and how much that was."""
        since, before = self.used_up
        return (accepted - before) / max(1e-3, at - since), accepted - before

    def wait_longer(self) -> None:
        """Look above later, for the limit was found where it was."""
        self.stand = min(LONGEST, self.stand * TIMES)


class Phase:
    """A rate of requests per second, and what changes it."""

    rate: float

    def __init__(self, known: Known) -> None:
        self.known = known

    def ready_at(self, now: float) -> float:
        """When the next request may go."""
        return self.known.tat - AHEAD

    def apart(self) -> float:
        """After how many times the usual interval the next request goes: twins go two at a time."""
        twins = self.twins
        if twins is None or not twins.paired:
            return 1.0
        return 0.0 if twins.first(self.known.ledger.sent) else 2.0

    @property
    def twins(self) -> Twins | None:
        """Requests that go two at a time."""
        return self.known.suspicion.twins

    def take(self, now: float) -> Phase | None:
        """A request goes, and is counted already. Returns the next phase; None for a hold, since the limit is known."""
        return self

    def refused(self, refusal: Refusal) -> Phase | Shut:
        """A request was refused. Returns what follows."""
        return self

    def reopened(self, shut: Shut) -> Phase | None:
        """A request was accepted after the target was shut. Returns the next phase; None for a hold."""
        return self

    def shut(self, refusal: Refusal) -> Shut:
        """Refusals are everybody's affair."""
        wait = min(2.0, max(0.1, 1.0 / self.rate))
        return Shut(refusal.sent, refusal.accepted, wait, refusal.retry_after, refusal.now)
