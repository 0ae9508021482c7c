"""One limited quantity (requests, tokens), paced by the generic cell rate algorithm (GCRA, ITU-T I.371).

A GCRA keeps one number, the theoretical arrival time (`tat`): the instant at which the steady rate has earned
everything that was admitted so far. It needs no timer and no refill, it is exact for any cost, and the true cost can
correct it later.
"""

from __future__ import annotations

BURST = 0.2
"""Seconds of a rate that may go at once when the rate is spent evenly."""

MISSED = 0.3
"""Most seconds of a rate that are made up for, when calls could not go in time."""

FASTER = 0.015
"""The share by which the rate is exceeded to make up for that. It fits in the part of the limit that is never used."""


class Gcra:
    """Admits ``rate`` units a second, and at most ``burst`` seconds' worth at once. It starts empty.

    Args:
        rate: units per second.
        burst: seconds of the rate that may be admitted at once. A cost above that goes when everything before it is
            earned, and is earned afterwards.
        now: the present, in seconds of any monotonic clock.

    Attributes:
        taken: units admitted so far, including those that the axis admitted beside the rate.
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
        """When a cost may be admitted; a time up to now means at once."""
        room = self.burst - cost / self.rate
        return self.tat - room if room > 0 else self.tat

    def take(self, cost: float, now: float) -> None:
        """Admit a cost. The caller has asked `ready_at`."""
        self.tat = max(self.tat, now) + cost / self.rate

    def begin(self, at: float) -> None:
        """Go on at an instant, with nothing saved up."""
        self.tat = at + self.burst

    def rest(self, until: float) -> None:
        """Admit nothing before an instant, after a refusal; then begin with nothing saved up."""
        self.tat = max(self.tat, until + self.burst)

    def give(self, cost: float) -> None:
        """Correct the past: give back a cost that was not used, or (negative) take what was used beyond it."""
        self.tat -= cost / self.rate

    def set_rate(self, rate: float, now: float) -> None:
        """Change the rate. Debt stays the same in units."""
        if rate != self.rate:
            self.tat = now + (self.tat - now) * self.rate / rate if self.tat > now else self.tat
            self.rate = rate

    def change(self, rate: float, burst: float, now: float) -> None:
        """Change the rate and the burst. What is saved up, or owed, stays the same in units, as far as it fits."""
        level = min((now + self.burst - self.tat) * self.rate, burst * rate)
        self.rate = rate
        self.burst = burst
        self.tat = now + burst - level / rate


class Steady(Gcra):
    """A GCRA that makes up for calls that could not go in time: timers wake up late, and a busy computer stands still.

    In T seconds it admits at most ``rate × (T + burst + MISSED)``, and at most ``rate × (T × (1 + FASTER) + burst)``.
    It makes up for nothing if the burst holds only one cost: the provider may have room for one, and refuse a call that
    comes a moment too early. Nor does it after `rest`: others may use the limit, too.
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

    def change(self, rate: float, burst: float, now: float) -> None:
        super().change(rate, burst, now)
        self.missed = 0.0

    def take(self, cost: float, now: float) -> None:
        seconds = cost / self.rate
        if now > self.tat and seconds < self.burst <= BURST:
            self.missed = min(self._makes_up, self.missed + now - self.tat)
        gained = min(self.missed, FASTER * seconds)
        self.missed -= gained
        self.tat = max(self.tat, now) + seconds - gained
