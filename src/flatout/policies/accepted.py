"""What a target accepted in the last minute: what `flatout.policies.search` concludes its limit from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise, takewhile

MINUTE = 60.0

LOGGED = 0.1
"""Seconds between two notes."""

LONGEST_REPLAY = 10.0
"""A sliding window frees itself as unevenly as it was filled: so many seconds of that are sat out at most."""


class Accepted:
    """How many requests had been accepted by when, over the last minute.

    Args:
        now: the present.
    """

    __slots__ = ("_notes",)

    def __init__(self, now: float) -> None:
        self._notes: deque[tuple[float, int]] = deque([(now, 0)])

    def note(self, now: float, count: int) -> None:
        """So many were accepted by now, ever."""
        notes = self._notes
        if now - notes[-1][0] < LOGGED:
            return
        notes.append((now, count))
        while now - notes[0][0] > MINUTE + 1.0 and len(notes) > 2:
            notes.popleft()

    def rate(self, count: int, at: float, seconds: float = MINUTE) -> float:
        """Requests accepted per second in the seconds before an instant, 60 at most, if there were so many by then."""
        before = self._notes[0][1]
        for then, accepted in self._notes:
            if then > at - seconds:
                break
            before = accepted
        return (count - before) / seconds

    def since(self, count: float) -> float:
        """The instant by which so many were accepted."""
        return next((then for then, accepted in self._notes if accepted >= count), self._notes[-1][0])

    def notes(self, until: float) -> Iterator[tuple[float, int]]:
        """The instants that were noted, up to one, and how many had been accepted by each."""
        return takewhile(lambda note: note[0] <= until, self._notes)

    def replay(self, at: float, rate: float) -> float:
        """Seconds to wait after an instant so that the next minute's requests never overtake the last one's.

        A sliding window frees itself as unevenly as it was filled. By any instant, no more may be sent anew at this
        rate than were accepted up to a minute before.
        """
        first = self._notes[0][1]
        waits = (
            then + MINUTE - at - (before - first) / rate
            for (_, before), (then, _) in pairwise(self._notes)
            if then + MINUTE > at
        )
        return min(LONGEST_REPLAY, max(0.0, max(waits, default=0.0)))
