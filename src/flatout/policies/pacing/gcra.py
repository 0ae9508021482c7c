"""One limited quantity (requests, tokens), paced by the generic cell rate algorithm (GCRA, ITU-T I.371).

A GCRA keeps one number, the theoretical arrival time: the instant at which all that was admitted so far would have
been earned at the steady rate. It needs no timer and no refill, is exact for any cost, and corrects itself when the
true cost becomes known.
"""

from __future__ import annotations


class Gcra:
    """Admits ``rate`` units a second, with at most ``burst`` seconds' worth at once. Starts empty.

    Args:
        rate: units per second.
        burst: seconds of the rate that may be admitted at once. A cost above that waits until everything before it
            is earned, and is earned after.
        now: the present, in seconds of any monotonic clock.

    Attributes:
        taken: units admitted so far, ever, be it by the rate or not.
    """

    __slots__ = ("burst", "rate", "taken", "tat")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self.tat = now + burst
        self.taken = 0.0

    def __repr__(self) -> str:
        return f"Gcra(rate={self.rate:.4g}/s, burst={self.burst:.3g}s, tat={self.tat:.3f})"

    def ready_at(self, cost: float) -> float:
        """When a cost may be admitted; any time that is not after now means at once."""
        room = self.burst - cost / self.rate
        return self.tat - room if room > 0 else self.tat

    def take(self, cost: float, now: float) -> None:
        """Admit a cost. The caller has seen to `ready_at`."""
        self.tat = max(self.tat, now) + cost / self.rate

    def begin(self, at: float) -> None:
        """Go on at an instant, with nothing saved up by then."""
        self.tat = at + self.burst

    def give(self, cost: float) -> None:
        """Correct the past: hand back a cost that was not used, or (negative) take what was used beyond it."""
        self.tat -= cost / self.rate

    def set_rate(self, rate: float, now: float) -> None:
        """Change the rate; what is owed is owed at the new one."""
        if rate != self.rate:
            self.tat = now + (self.tat - now) * self.rate / rate if self.tat > now else self.tat
            self.rate = rate
