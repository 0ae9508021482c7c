"""The time axis of a report: seconds of the run, without the hours between a stop and its continuation."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from flatout.store.course import Stretch

LONGEST_GAP = 120.0
"""Seconds: a longer time without any stretch is left out of the axis."""

MOST_POINTS = 600
"""The most points of a curve. The axis is divided into as many slots, or fewer."""


class Clock:
    """Turns Unix times into seconds on the axis.

    Args:
        spans: when something was recorded: beginnings and ends, in order of the beginnings.
    """

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        self._begins: list[float] = []
        self._shifts: list[float] = []
        self.gaps: list[tuple[float, float]] = []
        shown, until = 0.0, None
        for begin, end in spans:
            if until is None or begin > until + LONGEST_GAP:
                if until is not None:
                    self.gaps.append((shown, begin - until))
                self._begins.append(begin)
                self._shifts.append(begin - shown)
                until = begin
            shown += max(0.0, end - until)
            until = max(until, end)
        self.length = max(shown, 1e-3)
        self.step = _round(max(1.0, self.length / MOST_POINTS))
        self.slots = max(1, -int(-self.length // self.step))

    @classmethod
    def of(cls, stretches: Sequence[Stretch], begin: float, end: float) -> Clock:
        """The clock of a run: of its stretches, or from its beginning to its end if it has none."""
        spans = [(each.began_at, each.began_at + each.seconds) for each in stretches]
        return cls(spans or [(begin, max(begin, end))])

    def __call__(self, at: float) -> float:
        """Seconds on the axis, from 0 to its length."""
        place = max(0, bisect_right(self._begins, at) - 1)
        most = self._begins[place + 1] - self._shifts[place + 1] if place + 1 < len(self._begins) else self.length
        return min(max(0.0, at - self._shifts[place]), most)

    def slot(self, at: float) -> int:
        """The number of the slot that a Unix time falls into."""
        return min(int(self(at) / self.step), self.slots - 1)

    @property
    def x(self) -> tuple[float, ...]:
        """The beginnings of the slots."""
        return tuple(round(slot * self.step, 3) for slot in range(self.slots))


def _round(step: float) -> float:
    """The next step that people count in: 1, 2, 5, 10, 30 s; minutes."""
    known = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600)
    return next((float(each) for each in known if each >= step), float(-int(-step // 3_600) * 3_600))
