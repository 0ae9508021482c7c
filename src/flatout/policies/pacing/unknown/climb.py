"""The first phase, when nothing is known of the limit: send faster until requests are refused in a row."""

from __future__ import annotations

import math

from .known import AHEAD, ALARM, WINDOW, Known, Phase, Refusal
from .shut import Shut

FIRST = 20
"""Requests that go at once at the beginning."""

START = 64
"""Most requests before the first outcome, or the first second: a wrong key costs no more."""

GROWTH = 20.0
"""The factor by which the rate grows in a second."""

TOP = 100.0
"""Requests per second above which the rate grows linearly, and no longer exponentially."""


class Climb(Phase):
    """Grow while nothing is refused."""

    def __init__(self, known: Known, now: float) -> None:
        super().__init__(known)
        self.rate = min(known.ceiling, FIRST * math.log(GROWTH))
        self._grown = now
        self._began = math.inf

    def ready_at(self, now: float) -> float:
        known, unheard = self.known, self._began + 1.0
        if known.ledger.sent >= START and not known.met and now < unheard:
            return unheard
        return known.tat - AHEAD * (known.ledger.sent >= FIRST)

    def apart(self) -> float:
        return float(self.known.ledger.sent >= FIRST)

    def take(self, now: float) -> Phase:
        known = self.known
        self._began = min(self._began, now)
        heard = known.left(known.ledger.sent)
        if known.ledger.sent > FIRST and heard < 0.5 and now - known.tat < AHEAD:  # only if requests really go so fast
            gentle = min(1.0, TOP / self.rate)
            self.rate = min(known.ceiling, self.rate * GROWTH ** (gentle * (now - self._grown)))
        self._grown = now
        return self

    def refused(self, refusal: Refusal) -> Phase | Shut:
        return self.shut(refusal) if self.known.run >= ALARM else self

    def reopened(self, shut: Shut) -> None:
        """A request was accepted again: the order of magnitude of the limit is known."""
        (first, before), (last, after) = self.known.recent[0], self.known.recent[-1]
        refill = (after - before) / max(1e-3, last - first) if after - before >= 4 else 0.0
        least = shut.accepted / (shut.since - self._began + 2.0 * WINDOW)
        self.known.limit = max(least, min(refill, self.rate), 0.5 / max(0.1, shut.seconds))
        self.known.rough = True
