"""What the search for a target's limit knows, and the interface of its phases."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from .ledger import Ledger
from .shut import Shut
from .slots import Signs
from .twins import Suspicion, Twins

ALARM = 3.0
"""Refusals in a run that concern all requests."""

MOST = 0.15
"""Each accepted request takes this many refusals back from the run. So this is also the largest share of strays that
the search can bear."""

AHEAD = 0.02
"""Seconds by which a request may be early, because timers wake up late."""

SLOWEST = 1.0 / 60.0
"""Requests per second. No rate is ever lower."""

WINDOW = 60.0
"""Seconds over which providers count. The deepest bucket holds the refill of two windows."""

STAND = 32
"""Requests from the first refusals to the first look above the limit."""

TIMES = 8
"""The factor by which that grows with each look that found the limit unchanged."""

LONGEST = 4_000
"""Most requests from one look to the next."""


class Refusal(NamedTuple):
    """A request that was refused.

    Attributes:
        mark: its number in the order of sending.
        sent: when it was sent.
        accepted: how many requests before it were accepted.
        in_flight: how many were in flight when it was sent.
        retry_after: seconds that the provider asked to wait.
        now: when the refusal came.
    """

    mark: int
    sent: float
    accepted: int
    in_flight: int
    retry_after: float | None
    now: float


class Known:
    """What all phases share: the limit, in requests per second, and the refusals."""

    def __init__(self, now: float, limit: float, ceiling: float) -> None:
        self.ledger = Ledger(now)
        self.ceiling = ceiling
        self.limit = min(ceiling, limit)
        self.rough = False  # whether only the limit's order of magnitude is known
        self.window = 0  # requests that a window allows; 0 for a limit without windows
        self.used_up = (-math.inf, 0)  # when the limit was last surely used up, and how many were accepted by then
        self.stand = STAND  # requests of the next hold
        self.tat = now  # when the next request may go
        self.rtt = 0.1  # seconds until a refusal comes
        self.met = False  # whether any request had an outcome
        self.cut = 0  # the last request before the rate changed; refusals up to it are no news
        # The run of refusals: those that accepted requests did not make up for.
        self.run, self._last = 0.0, 0  # how many, and the mark of the last
        self.first = (now, 0)  # when it began, and how many were accepted by then
        self.recent: deque[tuple[float, int]] = deque(maxlen=9)  # the same figures of the last refusals
        self._strays = self._borne = 0.0  # refusals that proved to be strays, and among how many requests
        self.top = (0.0, 0.0)  # the limit before it fell several times, and the requests per second accepted then
        self.signs = Signs()
        self.suspicion = Suspicion()

    @property
    def grace(self) -> float:
        """Seconds after which a request counts as accepted if no refusal has come."""
        return max(0.1, 2.5 * self.rtt)

    @property
    def share(self) -> float:
        """The share of requests that are refused as strays."""
        return min(MOST, self._strays / max(50.0, self._borne))

    def for_accepted(self, rate: float) -> float:
        """The rate to send so that this rate is accepted: a stray uses up nothing of the limit."""
        return min(self.ceiling, max(SLOWEST, rate / (1.0 - self.share)))

    def bear(self, strays: float, requests: float) -> None:
        """The refusals among the last requests were strays."""
        self._strays += strays
        self._borne += requests

    def bear_none(self) -> None:
        """The refusals that counted as strays were the limit's after all."""
        self._strays = self._borne = 0.0

    def count(self, refusal: Refusal) -> None:
        """A request was refused: the run continues or begins."""
        self.run = self.left(refusal.mark - 1) + 1.0
        self._last = refusal.mark
        if self.run == 1.0:
            self.first = (refusal.sent, refusal.accepted)

    def left(self, mark: int) -> float:
        """Refusals of the run that the requests up to this one did not make up for."""
        return max(0.0, self.run - MOST * (mark - self._last))

    def begin(self) -> None:
        """The rate changes: begin a new run."""
        self.run, self._last = 0.0, self.ledger.sent

    def refill(self, at: float, accepted: int) -> tuple[float, int]:
        """Requests accepted per second since the limit was last used up, and how many that were."""
        since, before = self.used_up
        return (accepted - before) / max(1e-3, at - since), accepted - before

    def wait_longer(self) -> None:
        """The limit was found unchanged: wait longer until the next look above it."""
        self.stand = min(LONGEST, self.stand * TIMES)


class Phase:
    """One phase of the search: its rate in requests per second, and what ends it."""

    rate: float

    def __init__(self, known: Known) -> None:
        self.known = known

    def ready_at(self, now: float) -> float:
        """When the next request may go."""
        return self.known.tat - AHEAD

    def apart(self) -> float:
        """The usual intervals until the next request: 1, except that twins go two at a time."""
        twins = self.twins
        if twins is None or not twins.paired:
            return 1.0
        return 0.0 if twins.first(self.known.ledger.sent) else 2.0

    @property
    def twins(self) -> Twins | None:
        """Judges refusals by requests that go two at a time, while there is a reason."""
        return self.known.suspicion.twins

    def take(self, now: float) -> Phase | None:
        """A request goes; it is counted already. Returns the next phase; None for a hold, if the limit is known."""
        return self

    def refused(self, refusal: Refusal) -> Phase | Shut:
        """A request was refused. Returns the next phase, or that the target is shut."""
        return self

    def reopened(self, shut: Shut) -> Phase | None:
        """A request was accepted after the target was shut. Returns the next phase; None for a hold."""
        return self

    def shut(self, refusal: Refusal) -> Shut:
        """Refusals concern all requests: the target is shut."""
        wait = min(2.0, max(0.1, 1.0 / self.rate))
        return Shut(refusal.sent, refusal.accepted, wait, refusal.retry_after, refusal.now)
