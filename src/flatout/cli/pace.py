"""How fast calls finish, and how long the rest takes: one time while the pace is steady, a range while it swings."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

from . import figures

if TYPE_CHECKING:
    from flatout.runs.story.progress import Progress

RECENT = 10.0  # seconds over which the shown rate is taken: the average since the start would hide a slowdown
_STRETCHES = 6  # as long as that each; by them is judged how long the rest takes
_STEADY = 1.5  # times the slowest stretch; a faster one is a swing
_OVERDUE = 3.0  # times the mean time between two finished calls
_CHANCE = 3.0  # standard deviations by which stretches differ by chance


class Speed(NamedTuple):
    """Calls finished per second: of late, and in the slowest and the fastest stretch where the pace swings.

    ``quiet`` is for how long nothing has finished, where that is so long that the rate tells nothing; else 0.
    """

    rate: float | None
    smooth: float | None = None
    slowest: float | None = None
    fastest: float | None = None
    quiet: float = 0.0

    def left(self, calls: int) -> str:
        """How long so many calls take: ``4 min 05 s left``, ``3 min to 8 min 20 s left``; "" when nothing tells."""
        if not self.rate:
            return ""
        if not self.fastest:
            return f"{figures.duration(max(1.0, calls / (self.smooth or self.rate)))} left"
        soonest = figures.duration(calls / self.fastest)
        if not self.slowest:
            return f"at least {soonest} left"
        return f"{soonest} to {figures.duration(calls / self.slowest)} left"


class Pace:
    """Watches a run's progress, as often as it is shown."""

    def __init__(self, window: float = RECENT) -> None:
        self._window = window
        self._since = self._last = (0.0, 0)
        self._seen: deque[tuple[float, int]] = deque([(0.0, 0)])
        self._marks: deque[tuple[float, int]] = deque([(0.0, 0)], maxlen=_STRETCHES + 1)

    def look(self, progress: Progress) -> Speed:
        """The speed now. The rate is that since the start, or the last outage, when none finished of late."""
        now, done = progress.elapsed, progress.answered + progress.failed
        if done > self._last[1]:
            self._last = now, done
        if progress.down or progress.stopped:
            self._begin_anew(now, done)
            return Speed(None, quiet=self._quiet(now))
        self._seen.append((now, done))
        while now - self._seen[0][0] > self._window and len(self._seen) > 2:
            self._seen.popleft()
        if now - self._marks[-1][0] >= self._window:
            self._marks.append((now, done))
        rate = _rate(self._seen[0], (now, done)) or _rate(self._since, (now, done))
        slowest, fastest = self._swing()
        return Speed(rate, _rate(self._marks[0], (now, done)), slowest, fastest, self._quiet(now))

    def _begin_anew(self, now: float, done: int) -> None:
        """Forget what was before: an outage is no pace at which anything is left."""
        self._seen.clear()
        self._marks.clear()
        self._since = now, done
        self._seen.append(self._since)
        self._marks.append(self._since)

    def _quiet(self, now: float) -> float:
        then, done = self._last
        quiet = now - then
        return quiet if quiet > max(self._window, _OVERDUE * then / max(done, 1)) else 0.0

    def _swing(self) -> tuple[float, float] | tuple[None, None]:
        """The slowest and the fastest stretch, if they differ by more than chance makes them."""
        counts = [after[1] - before[1] for before, after in pairwise(self._marks)]
        rates = [(after[1] - before[1]) / (after[0] - before[0]) for before, after in pairwise(self._marks)]
        if len(rates) < 2 or max(rates) <= _STEADY * min(rates):
            return None, None
        by_chance = _CHANCE * sqrt(2.0 * sum(counts) / len(counts))
        return (min(rates), max(rates)) if max(counts) - min(counts) > by_chance else (None, None)


def _rate(before: tuple[float, int], now: tuple[float, int]) -> float | None:
    """Calls a second between two looks; None when none finished."""
    return (now[1] - before[1]) / (now[0] - before[0]) if now[1] > before[1] and now[0] > before[0] else None
