"""What became of the requests to one target.

A request's mark is its number in the order of sending, from 1. A request that was sent and not refused counts as
accepted, because refusals come sooner than answers.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

KEPT = 4_000
"""Refusals that are remembered one by one. Of older ones only the number is kept."""


class Ledger:
    """Counts requests.

    Args:
        now: the present.

    Attributes:
        sent: requests that went.
        ended: requests that are over, without those that were refused.
    """

    def __init__(self, now: float) -> None:
        self.sent = self.ended = 0
        self._refused: list[int] = []  # the marks of refused requests, in order
        self._old = 0  # how many were refused before these
        self._notes = deque([(now, 0)], maxlen=240)  # how many were sent by when; at most four notes a second

    @property
    def accepted(self) -> int:
        """Requests that were not refused so far."""
        return self.accepted_before(self.sent + 1)

    @property
    def in_flight(self) -> int:
        """Requests that are in flight, as far as is known."""
        return self.accepted - self.ended

    @property
    def any_refused(self) -> bool:
        """Whether any request was refused."""
        return bool(self._refused)

    @property
    def began(self) -> float:
        """The first instant that the notes still cover: at least a minute ago, or the beginning."""
        return self._notes[0][0]

    def note(self, now: float) -> None:
        """Remember how many were sent by now."""
        if now - self._notes[-1][0] >= 0.25:
            self._notes.append((now, self.sent))

    def refused(self, mark: int) -> int:
        """A request was refused. Returns how many of those before it were accepted."""
        insort(self._refused, mark)
        if len(self._refused) > KEPT:
            self._old += KEPT // 2
            del self._refused[: KEPT // 2]
        return self.accepted_before(mark)

    def accepted_before(self, mark: int) -> int:
        """How many of the requests before one were accepted."""
        return mark - 1 - self._old - bisect_left(self._refused, mark)

    def accepted_until(self, at: float) -> int:
        """How many of the requests before an instant were accepted; of all requests if it is later than the notes."""
        return self.accepted_before(next((mark for noted, mark in self._notes if noted >= at), self.sent + 1))
