"""Finds by trying what nobody told of a target: its rate, or how many requests it takes at once.

A program does so alone, or together with those that share its limits. What is found is `RateSearch`'s and `Aimd`'s
affair; here is which of them is at work.
"""

from __future__ import annotations

import math

from .aimd import Aimd
from .unknown import RateSearch, Together

IN_FLIGHT = 1_000
"""Most requests in flight where nothing else bounds them."""


class Discovery:
    """The search that is at work, if any.

    Args:
        by_rate: whether a rate is searched for, and not a number in flight.
        together: the searches that other programs share; None when nobody does.

    Attributes:
        by_rate: see above.
        search: the search for a rate; None when there is none.
        aimd: adapts the number in flight; None when nothing does.
    """

    __slots__ = ("_alone", "_together", "aimd", "by_rate", "search")

    def __init__(self, *, by_rate: bool, together: Together | None) -> None:
        self.by_rate = by_rate
        self.search: RateSearch | None = None
        self.aimd: Aimd | None = None
        self._together = together
        self._alone = False  # whether nothing but a search bounds what is sent

    def begin(self, now: float, rate: float | None) -> None:
        """Nothing is known: begin, at a rate if an earlier run found one, or join those who search already."""
        self._alone = True
        if self._together is None:
            self._begin_alone(now, rate, math.inf)
        elif self.by_rate:
            self._together.join(now, rate)
        else:
            self._together.adapt(now, IN_FLIGHT)

    def begin_below(self, now: float, rate: float, ceiling: float) -> None:
        """The limits that are known are refused: search for a rate below a ceiling of requests per second."""
        if self._together is None:
            self._begin_alone(now, rate, ceiling)
        elif ceiling == math.inf:
            self._together.join(now, rate)
        else:
            self._together.begin(now, rate, ceiling)

    def catch_up(self, now: float) -> None:
        """Follow what other programs have found."""
        together = self._together
        if together is None:
            return
        together.catch_up(now)
        search = together.rate
        if search is not None and self.by_rate and (self._alone or search.bounded):
            self.search = search
        if self._alone and not self.by_rate:
            self.aimd = together.aimd

    def end(self) -> None:
        """A limit became known: nothing need be searched for."""
        self.search = self.aimd = None
        self._alone = False

    def _begin_alone(self, now: float, rate: float | None, ceiling: float) -> None:
        if self.by_rate:
            self.search = RateSearch(now, rate, ceiling=ceiling)
        else:
            self.aimd = Aimd(now, IN_FLIGHT)
