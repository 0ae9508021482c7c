"""Which search is at work, where a target's limit is not known.

`RateSearch` finds a rate by trying; `Aimd` finds how many requests a server of one's own takes at once. A program
searches alone, or together with the programs that share its limits.
"""

from __future__ import annotations

import math

from .aimd import Aimd
from .pause import Wait
from .sharing import Searches
from .strays import own_wait
from .tokens import Need
from .unknown import RateSearch

IN_FLIGHT = 1_000
"""Most requests in flight where nothing else bounds them."""

TRUST = 0.9
"""The search begins at this share of a rate that was found before."""

LEAST_WAIT = 0.1
"""Fewest seconds that a refused call waits by itself, whatever the provider names."""


def refused_unknown(search: RateSearch, need: Need, retry_after: float | None, sent: float, now: float) -> Wait:
    """A call was refused while the rate is searched for. It waits alone, unless others are refused too."""
    was = search.shut
    if not search.refused(need.mark, need.ended, sent, retry_after, now):
        return Wait(max(LEAST_WAIT, own_wait(retry_after)))
    return Wait() if was else Wait(until=search.ready_at(now))


class Discovery:
    """The search that is at work, if any.

    Args:
        by_rate: whether to search for a rate, and not for a number in flight.
        together: the searches that other programs share; None without such programs.

    Attributes:
        by_rate: see above.
        search: the search for a rate; None when there is none.
        aimd: adapts the number in flight; None when nothing does.
    """

    __slots__ = ("_alone", "_together", "aimd", "by_rate", "search")

    def __init__(self, *, by_rate: bool, together: Searches | None) -> None:
        self.by_rate = by_rate
        self.search: RateSearch | None = None
        self.aimd: Aimd | None = None
        self._together = together
        self._alone = False  # whether only a search bounds what is sent

    @property
    def adapts_together(self) -> bool:
        """Whether ``aimd`` counts the requests of all programs."""
        return self.aimd is not None and self._together is not None and self._together.adapts_together

    def begin(self, now: float, rate: float | None) -> None:
        """Nothing is known: begin a search, near the rate that was found before, or join that of other programs."""
        self._alone = True
        rate = None if rate is None else rate * TRUST
        if self._together is None:
            self._begin_alone(now, rate, math.inf)
        elif self.by_rate:
            self._together.join(now, rate)
        else:
            self._together.adapt(now, IN_FLIGHT)

    def begin_below(self, now: float, rate: float, ceiling: float) -> None:
        """The provider refuses what known limits allow: search for a rate below a ceiling of requests per second."""
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
        """A limit became known: end the search."""
        self.search = self.aimd = None
        self._alone = False

    def _begin_alone(self, now: float, rate: float | None, ceiling: float) -> None:
        if self.by_rate:
            self.search = RateSearch(now, rate, ceiling=ceiling)
        else:
            self.aimd = Aimd(now, IN_FLIGHT)
