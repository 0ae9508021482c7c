"""The connections that are being opened to a target.

An attempt that waits for its connection is not sent yet. More attempts would only wait behind it, and then all would
arrive at once, perhaps after a refusal that says to wait.
"""

from __future__ import annotations

import math

OPENING = 64
"""Most connections to one host that are opened at the same time. Meanwhile no further attempt goes."""


class Way:
    """Counts the connections that are being opened."""

    __slots__ = ("_most", "_opening")

    def __init__(self) -> None:
        self._opening = 0
        self._most = math.inf  # most attempts in flight while `OPENING` are being opened

    def opens(self, more: int, in_flight: int) -> bool:
        """A connection is being opened (1), or is open or has failed (-1). Returns whether the way became free."""
        was_blocked = self._most < math.inf
        self._opening += more
        if self._opening < OPENING:
            self._most = math.inf
        elif not was_blocked:
            self._most = in_flight
        return was_blocked and self._most == math.inf

    def blocked(self, in_flight: int) -> bool:
        """Whether one more attempt would only wait. An attempt that replaces another may take its connection."""
        return in_flight >= self._most
