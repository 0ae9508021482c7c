"""What went lately: a provider may count by the second, or by ten, a limit that it tells by the minute."""

from __future__ import annotations

import math
from collections import deque

SECOND = 1.0152
"""Seconds in which no more goes than the limit allows in one. So calls may arrive 15 ms early or late. Times a rate of
98.5 % of a limit, it is the limit's amount in one second."""


class Recent:
    """The units that went within the last seconds, by default within the last `SECOND`."""

    __slots__ = ("_seconds", "_sent", "_units")

    def __init__(self, seconds: float = SECOND) -> None:
        self._seconds = seconds
        self._sent: deque[tuple[float, float]] = deque()  # (until when it counts, units), oldest first
        self._units = 0.0

    def add(self, units: float, now: float) -> None:
        """Some units go."""
        sent = self._sent
        while sent and sent[0][0] <= now:
            self._units -= sent.popleft()[1]
        sent.append((now + self._seconds, units))
        self._units += units

    def give(self, units: float) -> None:
        """The last units were not used, or (negative) more than they were."""
        if self._sent:
            until, last = self._sent[-1]
            self._sent[-1] = (until, last - units)
            self._units -= units

    def fits_at(self, units: float, most: float) -> float:
        """When some units fit in addition, if ``most`` may go within the seconds; a time up to now means at once."""
        excess = self._units + units - most
        if excess <= 0.0:
            return -math.inf
        for until, each in self._sent:
            excess -= each
            if excess <= 0.0:
                return until
        return self._sent[-1][0] if self._sent else -math.inf  # it never fits: it goes alone
