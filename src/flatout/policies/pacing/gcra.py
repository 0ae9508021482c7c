"""One limited quantity (requests, tokens), paced by the generic cell rate algorithm (GCRA, ITU-T I.371).

A GCRA keeps one number, the theoretical arrival time: the instant at which all that was admitted so far would have
been earned at the steady rate. It needs no timer and no refill, is exact for any cost, and corrects itself when the
true cost becomes known.
"""

from __future__ import annotations

BURST = 0.2
"""Seconds of a rate that may go at once when it is spent evenly."""

MISSED = 0.3
"""Seconds of a rate that are made up for at most, when they could not be used in time."""

FASTER = 0.015
"""By how much faster: what is paced is a share of a limit, and this is no more than the rest of it."""


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

    def rest(self, until: float) -> None:
        """Nothing goes before an instant, for what should be allowed was refused; then begin with nothing saved up."""
        self.tat = max(self.tat, until + self.burst)

    def give(self, cost: float) -> None:
        """Correct the past: hand back a cost that was not used, or (negative) take what was used beyond it."""
        self.tat -= cost / self.rate

    def set_rate(self, rate: float, now: float) -> None:
        """Change the rate; what is owed is owed at the new one."""
        if rate != self.rate:
            self.tat = now + (self.tat - now) * self.rate / rate if self.tat > now else self.tat
            self.rate = rate


class Steady(Gcra):
    """A GCRA that makes up for what could not go in time: timers wake up late, and a busy computer stands still.

    In T seconds at most ``rate × (T + burst + MISSED)`` goes, and no more than ``rate × (T × (1 + FASTER) + burst)``.
    A rate of which the burst holds no more than one cost makes up for nothing: its provider may have room for one, and
    refuse what comes a moment too early. So does one that had to rest: others may use its limit, too.
    """

    __slots__ = ("_makes_up", "missed")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        super().__init__(rate, burst, now)
        self.missed, self._makes_up = 0.0, MISSED

    def begin(self, at: float) -> None:
        super().begin(at)
        self.missed = 0.0

    def rest(self, until: float) -> None:
        super().rest(until)
        self.missed = self._makes_up = 0.0

    def take(self, cost: float, now: float) -> None:
        seconds = cost / self.rate
        if now > self.tat and seconds < self.burst <= BURST:
            self.missed = min(self._makes_up, self.missed + now - self.tat)
        gained = min(self.missed, FASTER * seconds)
        self.missed -= gained
        self.tat = max(self.tat, now) + seconds - gained
