"""The way to a target: the connections that are being opened to it.

An attempt that waits for its connection is not sent yet. Where many wait, more would only wait behind them, and then
all arrive at once, after a refusal perhaps that says to wait.
"""

from __future__ import annotations

import math

OPENING = 64
"""The most connections to one host that are opened at the same time. While so many are, nothing more is in flight."""


class Way:
    """Counts the connections that are being opened."""

    __slots__ = ("_most", "_opening")

    def __init__(self) -> None:
        self._opening = 0
        self._most = math.inf  # attempts in flight while many are being opened

    def opens(self, more: int, in_flight: int) -> bool:
        """One is being opened (1), or it is there, or will not be (-1). Returns whether the way is free again."""
        was_blocked = self._most < math.inf
        self._opening += more
        if self._opening < OPENING:
            self._most = math.inf
        elif not was_blocked:
            self._most = in_flight
        return was_blocked and self._most == math.inf

    def blocked(self, in_flight: int) -> bool:
        """Whether one more attempt would only wait. One that takes the place of another may have its connection."""
        return in_flight >= self._most
