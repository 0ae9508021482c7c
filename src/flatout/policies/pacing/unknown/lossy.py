"""The phase at a target that refuses many requests whatever their rate: a broken gateway, or one that serves others
first.

At a limit, a slower program has as many requests accepted; at such a target it has fewer. So the rate doubles while
that brings more accepted requests per second, and a higher rate is tried again now and then.
"""

from __future__ import annotations

from .known import STAND, TIMES, Known, Phase

GAIN = 1.3
"""The factor by which a doubled rate must raise the accepted requests per second."""

BEARABLE = 0.1
"""The share of refusals below which the target has recovered."""

HOPELESS = 0.75
"""The share of refusals above which there is a limit after all."""


class Lossy(Phase):
    """Send faster while that brings more accepted requests."""

    twins = None

    def __init__(self, known: Known, rate: float, now: float) -> None:
        super().__init__(known)
        self.rate = rate
        self._brought = 0.0  # accepted requests per second at the rate before
        self._up = False  # whether the rate was doubled last
        self._rest = 0  # judgements until the rate is doubled again
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._since, self._before, self._began = self.known.ledger.sent, self.known.ledger.accepted, now

    def take(self, now: float) -> Phase | None:
        """Judge the rate once enough was sent at it."""
        sent, seconds = self.known.ledger.sent - self._since, now - self._began
        if sent < STAND or seconds < 3.0 * self.known.grace:
            return self
        accepted = self.known.ledger.accepted - self._before
        brought = accepted / seconds
        refused = 1.0 - accepted / sent
        if self._up and (brought < GAIN * self._brought or refused > HOPELESS):
            self.rate /= 2.0
            self._up, self._rest = False, TIMES
        elif not BEARABLE <= refused <= HOPELESS:
            self.known.limit = brought
            return None
        elif self._rest:
            self._rest -= 1
        else:
            self.rate = min(self.known.ceiling, 2.0 * self.rate)
            self._brought, self._up = brought, True
        self._begin(now)
        return self
