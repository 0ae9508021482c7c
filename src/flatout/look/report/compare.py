"""Several runs side by side: their figures, their curves over each other, and how often their answers agree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from msgspec.structs import replace

from flatout.store import RunReader

from .model import Cells, Plot, Run, Series
from .pairs import pairs
from .variants import Agreement

_OVERLAID = ("requests", "answered", "in_flight", "latency_over_time", "money")


def compared(runs: Sequence[Run]) -> tuple[Cells, ...]:
    """The runs' figures, one column for each run, with the change from the first to the last."""
    first, last = runs[0].figures, runs[-1].figures
    rows = tuple(
        (name, *(_number(run.figures[name]) for run in runs), _change(first[name], last[name])) for name in first
    )
    heads = ("", *(run.name for run in runs), "change")
    return (Cells(name="compared", title="Side by side", heads=heads, rows=rows),)


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}" if value < 1_000 else f"{value:,.1f}"


def _change(first: float | None, last: float | None) -> str:
    if not first or last is None or first == last:
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
    """The plots of several runs in one. Their axes may have other steps, so each curve has gaps between its points."""
    places = sorted({x for plot in plots.values() for x in plot.x})
    one = next(iter(plots.values()))
    series = []
    for run, plot in plots.items():
        curve = plot.series[0]
        known = dict(zip(plot.x, curve.values, strict=True))
        series.append(Series(label=f"{run}: {curve.label}", values=tuple(known.get(x) for x in places)))
    return replace(
        one, name=f"{one.name}_compared", x=tuple(places), series=tuple(series), bands=(), marks=(), joined=True
    )


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
