"""One limited quantity (requests, tokens), paced by the generic cell rate algorithm (GCRA, ITU-T I.371).

A GCRA keeps one number, the theoretical arrival time (`tat`): the instant at which the steady rate has earned
everything that was admitted so far. It needs no timer and no refill, it is exact for any cost, and the true cost can
correct it later.
"""

from __future__ import annotations

import math

from .burst import LITTLE, LearntBurst
from .recent import SECOND, Recent

BURST = 0.2
"""Seconds of a rate that may go at once when the rate is spent evenly."""

MISSED = 0.3
"""Most seconds of a rate that are made up for, when calls could not go in time."""

FASTER = 0.015
"""The share by which the rate is exceeded to make up for that. It fits in the part of the limit that is never used."""

REST = 60.0
"""Seconds for which nothing is made up for after a refusal that made all calls wait."""


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

    def take(self, cost: float, now: float, *, waited: bool = False) -> None:
        """Admit a cost. The caller has asked `ready_at`.

        Args:
            cost: the units.
            now: the present.
            waited: whether calls waited for this rate until now. If they are late, `Steady` counts what is lost.
        """
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
    """A GCRA that makes up for calls that could not go in time: a timer was late, or the program blocked its loop.

    In T seconds it admits at most ``rate × (T + burst + MISSED)``. What was missed goes at `FASTER` above the rate.
    Once more than `MISSED` was lost, that is too slow, and what was missed goes at once. A provider may count by the
    second, so each `SECOND` with such a call gets at most what the limit allows in one second. If that still loses much
    of the rate, it learns how much the provider takes at once; see `burst`.

    It makes up for nothing if ``BURST + MISSED`` holds only one cost: the provider may have room for one, and refuse a
    call that comes a moment too early. Nor does it for a while after `rest`: others may use the limit, too.
    """

    __slots__ = ("_kept_until", "_learnt", "_loses", "_recent", "_rests_until", "missed")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        super().__init__(rate, burst, now)
        self.missed = 0.0
        self._loses = False  # whether more was missed than `FASTER` makes up for
        self._recent = Recent()
        self._learnt = LearntBurst(self._recent)
        self._kept_until = -math.inf  # until when no second gets more than its share
        self._rests_until = -math.inf  # until when nothing is made up for

    def begin(self, at: float) -> None:
        self.tat = at + max(self.burst, self._learnt.seconds)
        self.missed = 0.0

    def rest(self, until: float) -> None:
        self.tat = max(self.tat, until + max(self.burst, self._learnt.seconds))
        self.missed = 0.0
        self._rests_until = max(self._rests_until, until + REST)

    def keep_seconds(self) -> None:
        """A call was refused within the limit: no second gets more than its share any more, unless a burst is known."""
        self._kept_until = math.inf
        self._learnt.end()

    def explains(self, sent: float, now: float) -> bool:
        """A call was refused for a moment. Returns whether that may answer what was tried after blocks of the loop."""
        before, explained = self._learnt.seconds, self._learnt.refused(sent, now)
        if before and not self._learnt.seconds:
            self.keep_seconds()
        return explained

    def change(self, rate: float, burst: float, now: float) -> None:
        super().change(rate, burst, now)
        self.missed = 0.0

    def give(self, cost: float) -> None:
        self._recent.give(cost)
        self._learnt.give(cost)
        super().give(cost)

    def ready_at(self, cost: float) -> float:
        if (seconds := self._learnt.seconds) and self.burst <= BURST:
            ready = self.tat - max(0.0, seconds - cost / self.rate)
            return max(ready, self._learnt.fits_at(cost, self.rate))
        ready = super().ready_at(cost)
        if self.burst > BURST or not (self._loses or self._kept_until == math.inf):
            return ready
        in_turn = max(ready, min(self._fits_at(LITTLE * cost), self._kept_until))
        if not self._loses or not self.missed:
            return in_turn
        return min(in_turn, max(ready - self.missed, self._fits_at((1.0 - LITTLE) * cost)))

    def take(self, cost: float, now: float, *, waited: bool = False) -> None:
        learnt, seconds, late = self._learnt, cost / self.rate, now - self.tat
        lost = gained = 0.0
        if learnt.seconds and self.burst <= BURST:
            lost = late
        else:
            if self._loses and 0.0 < (early := super().ready_at(cost) - now) <= self.missed:
                self.missed -= early
                self.tat -= early
                self._kept_until = max(self._kept_until, now + SECOND)
            if late > 0.0 and self.burst <= BURST and now >= self._rests_until:
                lost = self._miss(late, seconds)
            gained = min(self.missed, FASTER * seconds)
            self.missed -= gained
        if lost > 0.0 and waited:
            learnt.lost(lost, seconds, now)
        self.tat = max(self.tat, now) + seconds - gained
        self._recent.add(cost, now)
        learnt.took(cost, self.rate, self.tat, now)

    def _miss(self, missed: float, seconds: float) -> float:
        """Calls could not go for a time. Returns how much of it is lost, as it cannot be made up for."""
        missed += self.missed
        most = BURST + MISSED - max(self.burst, seconds) if 2.0 * seconds <= BURST + MISSED else 0.0
        self._loses = self._loses or missed > most > 0.0
        self.missed = min(missed, most)
        return missed - self.missed

    def _fits_at(self, cost: float) -> float:
        """When a cost fits in the last second; a time up to now means at once."""
        return self._recent.fits_at(cost, self.rate * SECOND)
