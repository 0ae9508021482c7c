"""A search for an unknown limit as workers on several machines run it: see `leased`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .search import RateSearch
from .steady import Hold

if TYPE_CHECKING:
    from .leased import LeasedSearches

TAKE, OPEN, ACCEPTED, REFUSED, OVER, JOIN, BEGIN = range(7)
"""Events: a request goes; one that went to see counts as accepted; one was accepted; was refused; is over. A worker
joins the search, or begins one below limits that are known."""

TURN = 0.5
"""Seconds after which the next worker may see whether a target that was shut is open, if the one before did not."""

Mark = tuple[int, int, int]
"""A request's mark; how many had ended when it went; and the mark of the last cut that its worker had heard of."""


class LeasedSearch(RateSearch):
    """A search that workers on several machines run as one."""

    __slots__ = ("_cut", "_searches")

    def __init__(self, searches: LeasedSearches, now: float, rate: float | None, ceiling: float = math.inf) -> None:
        super().__init__(now, rate, ceiling=ceiling)
        self._cut = -1  # the last rate that was heard of by the worker whose request is followed
        self._searches = searches

    @property
    def in_flight(self) -> int:
        """This worker's requests in flight. Leases bound the requests of all workers."""
        return self._searches.own_in_flight()

    @property
    def ended(self) -> int:
        """Looked up later, like the mark."""
        return 0

    def ready_at(self, now: float) -> float:
        return self._searches.ready_at(self, now)

    def take(self, now: float) -> int:
        return self._searches.sent(now, self._known.cut)

    def over(self) -> None:
        self._searches.tell(OVER, None)

    def accepted(self, mark: int, ended: int, now: float) -> None:
        self._searches.tell(ACCEPTED, now, mark)

    def refused(self, mark: int, ended: int, sent: float, retry_after: float | None, now: float) -> bool:
        told = math.nan if retry_after is None else retry_after
        self._searches.tell(REFUSED, now, mark, self._searches.common(sent), told)
        return self.shut

    def held_until(self, now: float) -> float:
        """When the next request may go, whoever sends it."""
        searches = self._searches
        if self._shut is None:
            return self._phase.ready_at(searches.common(now)) - searches.offset
        at = self._shut.ready_at(self._known.grace) - searches.offset
        if self._shut.out and at <= now:  # the request that went to see was not refused in time
            searches.tell(OPEN, now)
            return now + TURN
        return at

    # What the log says

    def happened(self, kind: int, now: float, request: Mark, sent: float, told: float) -> Mark:
        """Follow an event. Returns the mark of a request that goes."""
        mark, ended, self._cut = request
        if kind == TAKE:
            ended = self._known.ledger.ended
            super().ready_at(now)
            return super().take(now), ended, self._cut
        if kind == ACCEPTED:
            super().accepted(mark, ended, now)
        elif kind == REFUSED:
            super().refused(mark, ended, sent, None if math.isnan(told) else told, now)
        elif kind == OVER:
            super().over()
        elif self.shut:
            super().ready_at(now)
        return request

    def _is_news(self, mark: int) -> bool:
        """Its worker may have sent it before it heard of the present rate."""
        return super()._is_news(mark) and self._cut == self._known.cut

    @property
    def steady(self) -> bool:
        """Whether the rate stays as it is until a refusal."""
        return isinstance(self._phase, Hold) and self._shut is None

    @property
    def looks(self) -> int:
        """How many requests went to see and were refused."""
        return self._shut.looks if self._shut is not None else 0

    @property
    def latest(self) -> Mark:
        """The mark to assume for a request without one of its own."""
        return self._known.ledger.sent, self._known.ledger.ended, -1
