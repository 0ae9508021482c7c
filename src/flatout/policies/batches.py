"""Bounds what a batch may cost, from what rows like its own have cost.

It is the bound of `flatout.policies.spending` for answers that all come together: the mean plus `DEVIATIONS` standard
deviations, and `LONG` rows that reach their worst case. Until `ENOUGH` answers of a kind are known, its rows count with
their worst case. There is no reserve for answers that are suddenly ten times as long: all rows of a run are under way
at once, so it would divide every budget by ten, and each tenth waits for hours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct

from .spending import DEVIATIONS, ENOUGH, LONG, SHAPES, UNSEEN


class Learnt(Struct):
    """What rows of one kind have cost, as shares of their worst case.

    Attributes:
        seen: how many rows.
        shares: the sum of the shares.
        squares: the sum of their squares.
    """

    seen: int = 0
    shares: float = 0.0
    squares: float = 0.0

    def expects(self) -> tuple[float, float]:
        """The mean of the shares, and their variance."""
        if self.seen < ENOUGH:
            return 1.0, 0.0
        weight = self.seen + UNSEEN
        mean = (self.shares + UNSEEN) / weight
        return mean, max(0.0, (self.squares + UNSEEN) / weight - mean * mean)


def learn(known: dict[str, Learnt], kind: str, share: float) -> None:
    """Add what a row has cost. Kinds beyond the first `SHAPES` are not learnt."""
    if kind in known or len(known) < SHAPES:
        one = known.setdefault(kind, Learnt())
        one.seen += 1
        one.shares += share
        one.squares += share * share


class Bound:
    """What the rows of one batch may cost together, in US dollars."""

    __slots__ = ("_kinds", "_largest", "_sure")

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[float, float]] = {}  # worst cases, and their squares
        self._largest = 0.0
        self._sure = 0.0

    def add(self, kind: str, worst: float, paid: float = 0.0) -> None:
        """Add a row.

        Args:
            kind: tells it from rows that cost another share of their worst case.
            worst: the most that it may cost.
            paid: what earlier answers to it have cost, which is not added up yet.
        """
        whole, squares = self._kinds.get(kind, (0.0, 0.0))
        self._kinds[kind] = whole + worst, squares + worst * worst
        self._largest = max(self._largest, worst)
        self._sure += paid

    def usd(self, known: Mapping[str, Learnt], kind: str = "", worst: float = 0.0, paid: float = 0.0) -> float:
        """The bound, with one more row.

        Args:
            known: what was learnt, by kind.
            kind: see `add`.
            worst: see `add`; 0 for no row.
            paid: see `add`.
        """
        most = likely = variance = 0.0
        kinds = {**self._kinds, kind: self._with(kind, worst)} if worst else self._kinds
        for each, (whole, squares) in kinds.items():
            mean, deviation = known[each].expects() if each in known else (1.0, 0.0)
            most += whole
            likely += whole * mean
            variance += squares * deviation
        usual = likely + DEVIATIONS * math.sqrt(variance) + LONG * max(self._largest, worst)
        return min(most, usual) + self._sure + paid

    def _with(self, kind: str, worst: float) -> tuple[float, float]:
        whole, squares = self._kinds.get(kind, (0.0, 0.0))
        return whole + worst, squares + worst * worst
