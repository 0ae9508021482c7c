"""Several runs side by side: their figures, their curves over each other, and how often their answers agree."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from msgspec.structs import replace

from flatout.store import RunReader

from .model import UNKNOWN_COSTS, UNKNOWN_TOKENS, Cells, Numbers, Plot, Run, Series
from .pairs import pairs
from .scale import clipped, end_of
from .variants import Agreement

_LEAST_POINTS = 0.05
"""Percentage points: less is no change."""

_OVERLAID = ("requests", "answered", "in_flight", "latency_over_time", "money")


def compared(runs: Sequence[Run]) -> tuple[Cells, ...]:
    """The runs' figures, one column for each run, with the change from the first to the last."""
    first, last = runs[0].figures, runs[-1].figures
    names = [name for name in first if name not in _PARTS.values() or any(run.figures.get(name) for run in runs)]
    rows = tuple((name, *(_cell(name, run.figures) for run in runs), _change(name, first, last)) for name in names)
    heads = ("", *(run.name for run in runs), "change")
    return (Cells(name="compared", title="Side by side", heads=heads, rows=rows),)


Figures = Mapping[str, float | None]

_OF_ROWS = ("answered", "failed", "cut off")
"""Figures that count rows: runs of unequal length are compared by their shares."""


_PARTS = {"US dollars": UNKNOWN_COSTS, "input tokens": UNKNOWN_TOKENS, "output tokens": UNKNOWN_TOKENS}
"""Sums over rows, each with the figure that counts the rows which are missing from it."""


def _is_partial(name: str, figures: Figures) -> bool:
    """Whether rows are missing from a sum, so that it is only the least that it can be."""
    return bool(name in _PARTS and figures.get(_PARTS[name]))


def _share(name: str, figures: Figures) -> float | None:
    """The share of a run's rows, 0 to 100; None if the figure counts no rows."""
    rows = (figures.get("answered") or 0.0) + (figures.get("failed") or 0.0)
    value = figures[name]
    return 100.0 * value / rows if name in _OF_ROWS and value is not None and rows else None


def _cell(name: str, figures: Figures) -> str:
    share = _share(name, figures)
    if _is_partial(name, figures) and figures[name] is not None:
        return f"at least {_number(figures[name])}"
    return _number(figures[name]) + ("" if share is None else f" ({share:.3g} %)")


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}" if value < 1_000 else f"{value:,.1f}"


def _change(name: str, before: Figures, after: Figures) -> str:
    first, last = before[name], after[name]
    shares = _share(name, before), _share(name, after)
    if shares[0] is not None and shares[1] is not None:
        return f"{points:+.1f} points" if abs(points := shares[1] - shares[0]) >= _LEAST_POINTS else ""
    if not first or last is None or first == last or _is_partial(name, before) or _is_partial(name, after):
        return ""
    return f"{100 * (last - first) / first:+.1f} %"


def overlaid(runs: Sequence[Run]) -> tuple[Plot, ...]:
    """The first curve of some plots, one for each run."""
    found = []
    for name in _OVERLAID:
        plots = {run.name: plot for run in runs for plot in run.plots if plot.name == name}
        if len(plots) == len(runs):
            found.append(_laid(plots))
    return tuple(found)


def _laid(plots: dict[str, Plot]) -> Plot:
    """The plots of several runs in one. Their axes may have other steps: each curve is drawn at all places of both."""
    places = sorted({x for plot in plots.values() for x in plot.x})
    one = next(iter(plots.values()))
    series = []
    for run, plot in plots.items():
        curve = plot.series[0]
        values = tuple(_between(plot.x, curve.values, x) for x in places)
        series.append(Series(label=f"{run}: {curve.label}", values=values))
    bare = replace(one, name=f"{one.name}_compared", x=tuple(places), series=tuple(series), bands=(), marks=())
    tops = [end_of(plot) for plot in plots.values()]
    return clipped(replace(bare, top=None, note=""), max(tops))


def _between(x: Sequence[float], values: Numbers, at: float) -> float | None:
    """A curve's value at a place, on the line between its neighbours; None in a gap and beyond the ends."""
    after = bisect_left(x, at)
    if after == len(x) or (after == 0 and x[0] != at):
        return None
    if x[after] == at:
        return values[after]
    one, other = values[after - 1], values[after]
    if one is None or other is None:
        return None
    return round(one + (other - one) * (at - x[after - 1]) / (x[after] - x[after - 1]), 4)


def same_rows(places: Sequence[Path], names: Sequence[str]) -> tuple[Cells, ...]:
    """How often the answers of neighbouring runs agree, where both answered the same row with a label."""
    found: list[Cells] = []
    for (one, first), (other, second) in pairwise(zip(places, names, strict=True)):
        with RunReader.open(one) as left, RunReader.open(other) as right:
            agreement = Agreement((first, second))
            for labels in pairs(left, right):
                agreement.compare(*labels)
            found += [replace(table, name=f"{table.name}_{len(found)}") for table in agreement.tables()]
    return tuple(found)
