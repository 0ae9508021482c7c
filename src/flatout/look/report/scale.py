"""The end of a plot's scale: a burst that lasts a moment must not press everything else onto the zero line."""

from __future__ import annotations

import math

from msgspec.structs import replace

from flatout.values.quantiles import quantile

from .model import Mark, Plot

TIMES = 3.0
"""The scale of a rate ends at this multiple of the largest limit, or of what is usual if that is higher."""

ROOM = 1.1
"""The scale of calls below a limit far above them ends at this multiple of the most."""

USUAL = 0.95
"""The share of a curve's values that are usual; the highest of them counts."""


def in_scale(plot: Plot) -> Plot:
    """A plot that ends its scale where it should."""
    return below_limits(clipped(plot, end_of(plot)))


def below_limits(plot: Plot) -> Plot:
    """A plot of calls whose scale leaves out a limit far above them, which would press them onto the zero line."""
    calls = [value for series in plot.series if series.look != "limit" for value in series.values if value]
    limits = [value for series in plot.series if series.look == "limit" for value in series.values if value]
    if plot.unit != "calls" or not calls or not limits or min(limits) <= TIMES * max(calls):
        return plot
    note = f"The scale ends at {ROOM * max(calls):,.4g}; the most at once is above it, at {min(limits):,.4g}."
    return replace(plot, top=ROOM * max(calls), note=note)


def end_of(plot: Plot) -> float:
    """Where a plot's scale should end at the latest; infinity for one that shows no rate, whose peaks matter."""
    if not plot.unit.startswith("per "):
        return math.inf
    limits = [value for series in plot.series if series.look == "limit" for value in series.values if value]
    usual = [_usual(series.values) for series in plot.series if series.look != "limit"]
    return TIMES * max([*limits, *usual], default=0.0)


def _usual(values: tuple[float | None, ...]) -> float:
    known = sorted(value for value in values if value)
    return quantile(known, USUAL) if known else 0.0


def clipped(plot: Plot, top: float) -> Plot:
    """A plot whose scale ends at ``top`` if its highest value is above that, which is marked and said."""
    values = [series.values for series in plot.series if series.look != "limit"]
    peaks = [(value, at) for each in values for at, value in zip(plot.x, each, strict=True) if value is not None]
    peak, at = max(peaks, default=(0.0, 0.0))
    if peak <= top:
        return plot
    mark = Mark(at=at, label=f"{peak:,.4g} {plot.unit}, above the scale")
    note = f"The scale ends at {top:,.4g}; at most there were {peak:,.4g} {plot.unit}."
    return replace(plot, top=top, note=note, marks=tuple(sorted((*plot.marks, mark), key=lambda each: each.at)))
