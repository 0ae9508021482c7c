"""Learns how much of a rate a provider takes at once, for a program that blocks its event loop again and again.

What was due during a block is lost, unless it goes at once when the loop is free again. Nobody told how much the
provider takes then. So after each loss a little more goes at once than before, until a call is refused.

A provider that counts by a window takes no burst in addition to its limit. So two more rules hold meanwhile:

- No second gets more than twice what may go at once. At first that is the limit of a second, and it rises as slowly.
- No ten seconds get more than the limit allows in ten. So no minute does, either.
"""

from __future__ import annotations

import math

from .recent import SECOND, Recent

FIRST = 0.5
"""Seconds of the rate that go at once at first, but two calls at least."""

MOST = 5.0
"""Most seconds of the rate that go at once."""

STEP = 0.125
"""The share by which this grows after a loss, but by one call at least."""

BACK = 0.8
"""The share of it that remains after a refusal of more than a second's worth. It does not grow again. A refusal of less
ends it, because the provider may count by the second; so does a second refusal."""

LOST = 2.0
"""Seconds of the rate that must be lost before anything is tried. A single loss counts as one second at most."""

BEARABLE = 0.03
"""The share of the rate whose loss does not count: a computer stalls now and then."""

SPAN = 10.0 * SECOND
"""Seconds over which the second rule counts."""

LITTLE = 0.01
"""A share of a cost that is as good as none. A second takes a call if this share of it fits: a second of 6.6 calls gets
seven. Ten seconds take it if all but this share fits: six times the rest of a call would be too much for a minute."""


class LearntBurst:
    """Seconds of a rate that may go at once.

    Args:
        second: what went within the last second.

    Attributes:
        seconds: how many; 0 while nothing is tried.
    """

    __slots__ = ("_full", "_grows", "_lost", "_lost_at", "_second", "_shrunk_at", "_span", "seconds")

    def __init__(self, second: Recent) -> None:
        self.seconds = 0.0
        self._second, self._span = second, Recent(SPAN)
        self._lost, self._lost_at = 0.0, 0.0  # seconds of the rate, and when the last of them were lost
        self._full = False  # whether no more could go at once when the last call went
        self._grows = True  # until a call is refused
        self._shrunk_at = -math.inf  # when the last one was

    def fits_at(self, cost: float, rate: float) -> float:
        """When a cost keeps to both rules; a time up to now means at once."""
        second = self._second.fits_at(LITTLE * cost, self._each_second(rate))
        return max(second, self._span.fits_at((1.0 - LITTLE) * cost, rate * SPAN))

    def took(self, cost: float, rate: float, tat: float, now: float) -> None:
        """A cost went. It and everything before it is earned at ``tat``. The last second has it already."""
        self._span.add(cost, now)
        if self.seconds:
            room = self.seconds - (tat - now)
            self._full = cost / rate > room or self._second.fits_at(cost, self._each_second(rate)) > now

    def give(self, cost: float) -> None:
        """The last cost was not used, or (negative) was more than that."""
        self._span.give(cost)

    def lost(self, lost: float, seconds: float, now: float) -> None:
        """Seconds of the rate were lost before a call that takes some ``seconds`` of it."""
        if self.seconds and not self._full:  # a larger burst would not have helped
            return
        self._lost = max(0.0, self._lost - BEARABLE * (now - self._lost_at)) + min(1.0, lost)
        self._lost_at = now
        if self._lost < LOST or not self._grows:
            return
        least = max(FIRST, 2.0 * seconds)
        if not self.seconds:
            self.seconds = least if least <= MOST else 0.0
        else:
            self.seconds = min(MOST, self.seconds + max(seconds, STEP * self.seconds))

    def refused(self, sent: float, now: float) -> bool:
        """A call was refused for a moment. Returns whether that may answer what was tried."""
        if self.seconds and sent > self._shrunk_at:
            self.seconds = BACK * self.seconds if self._grows and self.seconds > SECOND else 0.0
            self._grows, self._shrunk_at = False, now
        return sent <= self._shrunk_at

    def end(self) -> None:
        """Try nothing any more."""
        self.seconds, self._grows = 0.0, False

    def _each_second(self, rate: float) -> float:
        return 2.0 * self.seconds * rate * SECOND
