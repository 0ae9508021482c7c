"""The figures of rounds in which contenders alternate: a busy machine is busy for all of them in a round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median


def ratio(mine: Sequence[float], base: Sequence[float]) -> float:
    """The median of the rounds' own ratios."""
    return median(a / b for a, b in zip(mine, base, strict=True))


def added(mine: Sequence[float], base: Sequence[float]) -> float:
    """The median of the rounds' own differences."""
    return median(a - b for a, b in zip(mine, base, strict=True))


def medians(rounds: Iterable[Sequence[float]]) -> list[float]:
    """The median of each figure, where every round has several."""
    return [median(figure) for figure in zip(*rounds, strict=True)]
