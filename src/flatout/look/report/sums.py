"""Sums over any number of rows in constant memory: quantiles from a histogram, and what happened when."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from flatout.values.quantiles import counted_quantile

_PRECISION = 1.04
"""The ratio of a bin's upper to its lower bound: a quantile is right within 2 %."""

_LOG = math.log(_PRECISION)
_LEAST = 1e-4
"""Smaller values share the lowest bin."""

_BINS_SHOWN = 6
"""Bins that a shown one holds, so that the outline of a histogram is smooth: 27 % wide."""


class Histogram:
    """Counts values above 0 in bins of equal ratio."""

    __slots__ = ("bins", "count", "most", "total")

    def __init__(self) -> None:
        self.bins: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0
        self.most = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.bins[math.floor(math.log(max(value, _LEAST)) / _LOG)] += 1
        self.count += 1
        self.total += value
        self.most = max(self.most, value)

    def quantile(self, share: float) -> float | None:
        """The value below which a share of all lies, within 2 %; None if there is none."""
        middles = ((min(math.exp((each + 0.5) * _LOG), self.most), count) for each, count in self.bins.items())
        return counted_quantile(middles, share)


def outlines(histograms: Iterable[Histogram]) -> tuple[tuple[float, ...], list[tuple[int, ...]]]:
    """Histograms over the same bins, wide enough to be looked at: their lower bounds, and the counts of each.

    The last bin is empty: it ends the outline.
    """
    each = list(histograms)
    wide: list[Counter[int]] = [Counter() for _ in each]
    for counts, histogram in zip(wide, each, strict=True):
        for fine, count in histogram.bins.items():
            counts[fine // _BINS_SHOWN] += count
    places = [place for counts in wide for place in counts]
    if not places:
        return (), [() for _ in each]
    shown = range(min(places), max(places) + 2)
    return (
        tuple(round(math.exp(place * _BINS_SHOWN * _LOG), 6) for place in shown),
        [tuple(counts[place] for place in shown) for counts in wide],
    )
