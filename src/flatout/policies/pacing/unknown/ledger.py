"""What became of the requests to one target. They are known by marks: how many had been sent, themselves included.

What was sent and not refused counts as accepted, for refusals come sooner than answers.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

NOTED = 0.25
"""Seconds between two notes of how many requests had been sent."""

KEPT = 2_000
"""Refusals that are remembered one by one, at least; of those before them, only how many there were."""


class Ledger:
    """Counts requests.

    Args:
        now: the present.
        window: seconds for which notes are kept.

    Attributes:
        sent: requests that went.
        ended: those that are over, and were not refused.
    """

    __slots__ = ("_notes", "_old", "_refused", "_window", "ended", "sent")

    def __init__(self, now: float, window: float) -> None:
        self.sent = self.ended = 0
        self._refused: list[int] = []  # the marks of those that were refused, in order
        self._old = 0  # how many were refused before these
        self._notes: deque[tuple[float, int]] = deque([(now, 0)])
        self._window = window

    @property
    def in_flight(self) -> int:
        """Requests that are under way, as far as is known."""
        return self.accepted - self.ended

    @property
    def accepted(self) -> int:
        """Requests that were not refused so far."""
        return self.sent - self._old - len(self._refused)

    @property
    def any_refused(self) -> bool:
        """Whether any request was refused."""
        return bool(self._refused)

    @property
    def began(self) -> float:
        """The first instant that is still remembered."""
        return self._notes[0][0]

    def note(self, now: float) -> None:
        """Remember how many were sent by now."""
        notes = self._notes
        if now - notes[-1][0] >= NOTED:
            notes.append((now, self.sent))
            while notes[1][0] < now - self._window:
                notes.popleft()

    def refused(self, mark: int) -> int:
        """A request was refused. Returns how many of those before it were accepted."""
        insort(self._refused, mark)
        if len(self._refused) > 2 * KEPT:
            del self._refused[:KEPT]
            self._old += KEPT
        return self.accepted_before(mark)

    def accepted_before(self, mark: int) -> int:
        """How many of the requests before one were accepted."""
        return mark - 1 - self._old - bisect_left(self._refused, mark)

    def accepted_until(self, at: float) -> int | None:
        """How many of the requests before an instant were accepted; None when it is later than all notes."""
        mark = next((mark for noted, mark in self._notes if noted >= at), None)
        return None if mark is None else self.accepted_before(mark)
