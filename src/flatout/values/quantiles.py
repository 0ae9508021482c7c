"""Quantiles of observed values by one rule, for plans, for the course of a run and for reports.

The rule is Weibull's: the k-th of n sorted values is the quantile k / (n + 1), and between two of them a straight line
is drawn. It is number 6 in R. J. Hyndman and Y. Fan, "Sample Quantiles in Statistical Packages", The American
Statistician 50 (1996): a new value is below it, on average, as often as it says. Beyond the smallest and the largest
value it stays at those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of sorted values, of which there is at least one.

    Args:
        ordered: the values, smallest first.
        share: 0 to 1.
    """
    place = share * (len(ordered) + 1) - 1.0
    below = max(0, min(len(ordered) - 1, int(place)))
    above = min(len(ordered) - 1, below + 1)
    part = max(0.0, min(1.0, place - below))
    return ordered[below] + (ordered[above] - ordered[below]) * part


def counted_quantile(counted: Iterable[tuple[float, float]], share: float) -> float | None:
    """The quantile of values that come with their counts, such as the bins of a histogram; None if there are none.

    Args:
        counted: each value with its count, in any order. Counts need not be whole.
        share: 0 to 1.
    """
    ordered = sorted(each for each in counted if each[1] > 0)
    if not ordered:
        return None
    rank = share * (sum(count for _, count in ordered) + 1)
    whole = float(int(rank))
    below, above = _ranked(ordered, whole), _ranked(ordered, whole + 1)
    return below + (above - below) * (rank - whole)


def _ranked(ordered: Sequence[tuple[float, float]], rank: float) -> float:
    """The value of a rank, counted from 1; the last one for a higher rank."""
    seen = 0.0
    for value, count in ordered:
        seen += count
        if seen >= rank:
            return value
    return ordered[-1][0]
