"""One search for several programs: each reads what happened to everybody's requests, in the same order.

A search is pure, so all programs reach the same result at the same time, and none of them leads. A program that dies
takes nothing with it. One that comes late goes on from the state that was kept last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from flatout.policies.pacing.aimd import Aimd
from flatout.policies.pacing.sharing import Log, LogEntry

from .search import RateSearch
from .state import from_bytes, into, to_bytes

BEGIN, TAKE, OPEN, ACCEPTED, REFUSED, OVER = 1.0, 2.0, 3.0, 4.0, 5.0, 6.0
"""Events of the search for a rate: it begins; a request goes; one that went to see counts as accepted; one was
accepted; was refused; is over."""

ADAPT, ANSWERED, PUSHED_BACK, TAKEN_BACK = 7.0, 8.0, 9.0, 10.0
"""Events of the search for a number in flight: it begins; a request was answered; was pushed back; a cut is undone."""

KEEP_EVERY = 512
"""Events from one kept state to the next."""

STALE = 600.0
"""Seconds after the last event after which a search begins anew: no program was there."""


class JointSearch(RateSearch):
    """A search that several programs run as one. Each writes what it sees to the log, and all follow the log."""

    __slots__ = ("_together",)

    def __init__(self, together: Together, now: float, rate: float | None, ceiling: float) -> None:
        super().__init__(now, rate, ceiling=ceiling)
        self._together = together

    def ready_at(self, now: float) -> float:
        was_shut = self.shut
        at = super().ready_at(now)
        if was_shut and not self.shut:
            self._together.tell(OPEN, now)
        return at

    def take(self, now: float) -> int:
        self._together.tell(TAKE, now)
        return self.mark

    def over(self) -> None:
        self._together.tell(OVER, self._together.last)

    def accepted(self, mark: int, ended: int, now: float) -> None:
        self._together.tell(ACCEPTED, now, mark, ended)

    def refused(self, mark: int, ended: int, sent: float, retry_after: float | None, now: float) -> bool:
        self._together.tell(REFUSED, now, mark, ended, sent, math.nan if retry_after is None else retry_after)
        return self.shut

    def happened(self, event: LogEntry) -> None:
        """Follow an event of the log."""
        kind, now, mark, ended, sent, told = event
        if kind == TAKE:
            super().ready_at(now)
            super().take(now)
        elif kind == ACCEPTED:
            super().accepted(int(mark), int(ended), now)
        elif kind == REFUSED:
            super().refused(int(mark), int(ended), sent, None if math.isnan(told) else told, now)
        elif kind == OVER:
            super().over()
        else:
            super().ready_at(now)


class JointAimd(Aimd):
    """A number in flight that several programs adapt as one."""

    __slots__ = ("_together",)

    def __init__(self, together: Together, now: float, most: float) -> None:
        super().__init__(now, most)
        self._together = together

    @property
    def most(self) -> float:
        """The upper bound of the number."""
        return self._most

    def answered(self, in_flight: int, seconds: float, now: float) -> None:
        self._together.tell(ANSWERED, now, in_flight, seconds)

    def pushed_back(self, sent: float, now: float, in_flight: float = math.inf) -> bool:
        self._together.tell(PUSHED_BACK, now, in_flight, sent)
        return self.cut_at == now

    def take_back(self, now: float) -> None:
        self._together.tell(TAKEN_BACK, now)

    def happened(self, event: LogEntry) -> None:
        """Follow an event of the log."""
        kind, now, in_flight, seconds, _, _ = event
        if kind == ANSWERED:
            super().answered(int(in_flight), seconds, now)
        elif kind == PUSHED_BACK:
            super().pushed_back(seconds, now, in_flight)
        else:
            super().take_back(now)


class Together:
    """One program's copy of the searches that all share.

    Args:
        log: what happened to everybody's requests.

    Attributes:
        last: when the last event happened.
        rate: the search for a rate; None when there is none.
        aimd: adapts the number in flight; None when nothing does.
        adapts_together: see `sharing.Searches`.
    """

    __slots__ = ("_begun", "_log", "_place", "aimd", "last", "rate")

    adapts_together = True

    def __init__(self, log: Log) -> None:
        self._log = log
        self._place = 0
        self.last = -math.inf
        self._begun = 0  # how many searches began: tells whether a kept state is of the present one
        self.rate: JointSearch | None = None
        self.aimd: JointAimd | None = None

    def join(self, now: float, rate: float | None) -> None:
        """Take part in the search for a rate, or begin it."""
        if self._is_stale(now) or self.rate is None:
            self.begin(now, rate)

    def adapt(self, now: float, most: float) -> None:
        """Take part in the search for a number in flight, or begin it."""
        if self._is_stale(now) or self.aimd is None:
            self.tell(ADAPT, now, most)

    def begin(self, now: float, rate: float | None, ceiling: float = math.inf) -> None:
        """Begin a search for a rate anew, for all programs."""
        self.tell(BEGIN, now, math.nan if rate is None else rate, ceiling)

    def tell(self, kind: float, now: float, *figures: float) -> None:
        """Write an event to the log, and follow it."""
        a, b, c, d = (*figures, 0.0, 0.0, 0.0, 0.0)[:4]
        self._log.append((kind, now, a, b, c, d))
        self.catch_up(now)
        if self._place % KEEP_EVERY == 0:
            self._log.keep(to_bytes([self._begun, self.last, self.rate, self.aimd]))

    def catch_up(self, now: float) -> None:
        """Follow the events since the last look. If they are lost, the searches begin anew, for all programs."""
        end = self._log.end
        if end == self._place:
            return
        try:
            for event in self._news():
                self._happened(event)
            self._place = end
        except (ValueError, OverflowError):  # events are lost, or the file is damaged
            self._place = end
            self._begin_again(now)

    def _is_stale(self, now: float) -> bool:
        self.catch_up(now)
        return not abs(now - self.last) <= STALE

    def _news(self) -> Iterable[LogEntry]:
        """The events since the last look. If the log no longer has them all, go on from the state kept last.

        Raises:
            ValueError: the log and the kept state leave a gap.
        """
        news = self._log.since(self._place)
        if news is None:
            place, state = self._log.kept()
            news = self._log.since(place)
            if news is None:
                raise ValueError("what was kept is too old")
            self._recall(state)
        return news

    def _recall(self, state: bytes) -> None:
        """Go on from a kept state."""
        begun, self.last, search, aimd = from_bytes(state)
        again, self._begun = begun == self._begun, begun
        if search is not None:
            self.rate = self.rate if again and self.rate is not None else JointSearch(self, 0.0, 1.0, math.inf)
            into(self.rate, search)
        if aimd is not None:
            self.aimd = self.aimd if again and self.aimd is not None else JointAimd(self, 0.0, 1.0)
            into(self.aimd, aimd)

    def _begin_again(self, now: float) -> None:
        search, aimd, self.rate, self.aimd = self.rate, self.aimd, None, None
        if search is not None:
            self.begin(now, search.rate)
        if aimd is not None:
            self.tell(ADAPT, now, aimd.most)

    def _happened(self, event: LogEntry) -> None:
        kind, self.last, figure, ceiling, _, _ = event
        if kind == BEGIN:
            self._begun += 1
            self.rate = JointSearch(self, self.last, None if math.isnan(figure) else figure, ceiling)
        elif kind == ADAPT:
            self._begun += 1
            self.aimd = JointAimd(self, self.last, figure)
        elif kind < ADAPT:
            if self.rate is not None:
                self.rate.happened(event)
        elif self.aimd is not None:
            self.aimd.happened(event)
