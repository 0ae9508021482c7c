"""How a known limit is spent ahead where nobody tells how much may go at once: it is tried, once.

A provider that counts by the minute takes some seconds of a limit at once; one that counts by the second does not. So
at first a little more goes than is earned, a few calls at a time. A refusal comes within a tenth of a second, so no
more than these few are refused. What went ahead is earned before the minute is over: no minute gets more than the
limit.
"""

from __future__ import annotations

import math

from .gcra import Gcra

BURST = 0.2
"""Seconds of a rate that may go at once when it is spent evenly."""

TRIED = 2.0
"""Seconds of a rate that are tried ahead."""

TRIAL = 55.0
"""Seconds that a trial lasts from the first call on. Then all that went ahead is earned, in time for that minute."""

LOT, APART = 5, 0.02
"""Calls that are tried at once, and the seconds between those that follow: five go until a refusal is heard of. Where
calls differ in what they cost, five times the usual cost is tried at once."""

SPARE = 0.3
"""Seconds of a rate, and at least one unit, that are left in a bucket that is spent ahead. What is spent opens
connections first and arrives late; until then the bucket is full, and what would refill is lost.
"""

SHARE = 1.02
"""Where headers tell more than so many times the given limit, a share was given. A share is spent evenly."""

FULL = 0.95
"""Where nothing tells when a limit resets: what is left above this share of it is a whole minute's."""


def at_once(burst: float) -> float:
    """Seconds of a rate that are let go at once where the user says how many may."""
    return min(burst, max(BURST, burst - SPARE))


class Trial(Gcra):
    """A GCRA that begins with more than is earned, until it is ended or has lasted for `TRIAL`.

    Args:
        rate: units per second.
        burst: seconds of the rate that may go at once when the trial is over.
        now: the present.

    Attributes:
        open: whether more may go than is earned.
    """

    __slots__ = ("_calls", "_evenly", "_next", "_until", "_usual", "open")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = TRIED
        self.tat = now
        self.taken = 0.0
        self.open = True
        self._evenly = burst
        self._next = -math.inf  # the theoretical arrival time of calls that go ahead
        self._until = math.inf
        self._calls, self._usual = 0, 0.0  # the calls so far, and what they cost on average

    def end(self) -> None:
        """Spend evenly from now on. What went ahead is earned first."""
        if self.open:
            self.open = False
            self.burst = self._evenly

    def ready_at(self, cost: float) -> float:
        """When a cost may be admitted: as soon as it is earned, or ahead of that in its turn."""
        seconds = cost / self.rate
        burst = self._evenly if self.open else self.burst
        earned = self.tat - burst + seconds if seconds < burst else self.tat
        if not self.open:
            return earned
        ahead = self.tat - TRIED + seconds if seconds < TRIED else self.tat
        room = LOT - (cost / self._usual if self._usual else 1.0)
        turn = self._next - APART * room if room > 0 else self._next
        return min(earned, max(ahead, turn))

    def take(self, cost: float, now: float) -> None:
        """Admit a cost."""
        if self.open:
            self._try(cost, now)
        self.tat = max(self.tat, now) + cost / self.rate

    def _try(self, cost: float, now: float) -> None:
        self._calls += 1
        self._usual += (cost - self._usual) / self._calls
        if self._calls == 1:
            self._until = now + TRIAL
        if now >= self._until:
            self.end()
        elif cost and now < self.tat - max(0.0, self._evenly - cost / self.rate):
            self._next = max(self._next, now) + APART * cost / self._usual
