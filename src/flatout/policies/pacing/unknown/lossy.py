"""A target that refuses many requests whatever their rate: a broken gateway, or one that serves others first.

A limit accepts as many of what is sent slower; such a target accepts fewer. So the rate is what still brings more: it
is doubled while that brings more accepted requests per second, and tried again now and then.
"""

from __future__ import annotations

PERIOD = 40
"""Requests at a rate before it is judged."""

GAIN = 1.3
"""A doubled rate must bring that many times as many accepted requests."""

REST = 10
"""Periods from a doubled rate that brought too little to the next try."""

BEARABLE, HOPELESS = 0.1, 0.75
"""The shares of refusals between which a target is lossy. Below it has recovered; above there is a limit."""

FALLS, LESS = 4.0, 2.5
"""The limit was divided by the first, and the accepted requests then fell by the second: it was no limit."""


class Lossy:
    """The rate to send at.

    Args:
        rate: requests per second to begin with.
        sent: requests sent so far.
        accepted: those that were accepted.
        now: the present.

    Attributes:
        rate: requests per second.
        over: whether the target is lossy no more; the rate is then what was accepted.
    """

    __slots__ = ("_before", "_brought", "_rest", "_since", "_up", "over", "rate")

    def __init__(self, rate: float, sent: int, accepted: int, now: float) -> None:
        self.rate = rate
        self.over = False
        self._since = (sent, accepted, now)
        self._brought = 0.0  # accepted requests per second at the rate before
        self._up = False
        self._rest = 0

    def pace(self, sent: int, accepted: int, now: float, grace: float, ceiling: float) -> None:
        """A request goes. Refusals are known `grace` seconds after it; the rate stays below the ceiling."""
        since, before, began = self._since
        if sent - since < PERIOD or now - began < 3.0 * grace:
            return
        brought = (accepted - before) / (now - began)
        share = 1.0 - (accepted - before) / (sent - since)
        if not BEARABLE <= share <= HOPELESS:
            self.over, self.rate = True, brought
            return
        if self._up and brought < GAIN * self._brought:
            self.rate /= 2.0
            self._up, self._rest = False, REST
        elif self._rest:
            self._rest -= 1
        else:
            self.rate = min(ceiling, 2.0 * self.rate)
            self._brought, self._up = brought, True
        self._since = (sent, accepted, now)
