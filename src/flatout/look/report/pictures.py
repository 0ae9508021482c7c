"""The pictures of a run's rows: histograms, what happened over time, figures by cause and by model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from flatout.store.course import Stretch
from flatout.store.gateway import Served
from flatout.text import figures

from .clock import Clock
from .model import Bar, Bars, Cells, Numbers, Plot, Series
from .sums import Histogram, outlines
from .tally import Group, Tally
from .timeline import cause_in_words


def plots(
    tally: Tally, clock: Clock, course: Sequence[Stretch], cost: float | None, *, has_course: bool
) -> tuple[Plot, ...]:
    """The plots of what the rows say, and of the money.

    Args:
        tally: the sums over the rows.
        clock: the time axis.
        course: what all targets did.
        cost: US dollars that are known to be spent in all.
        has_course: whether there are plots of the course beside these.
    """
    found = [] if has_course else [_answered(tally, clock)]
    found += [
        _histogram(
            "latency",
            "How long an answer took",
            "s",
            {"with our queue and retries": tally.seconds, "the provider's part": tally.provider},
        ),
        _by_class("errors", "Failed rows by class", "rows", tally.errors_over_time, clock),
        _by_class("retries", "Retries by what they followed", "attempts", tally.retries_over_time, clock),
        _money(tally, clock, course, cost),
        _histogram("lengths", "Length of the answers", "characters", {"answers": tally.lengths}),
    ]
    told = [plot for plot in found if len(plot.x) > 1]  # what was over within a slot has no course
    return tuple(plot for plot in told if any(any(series.values) for series in plot.series))


def _answered(tally: Tally, clock: Clock) -> Plot:
    values = tuple(round(count / clock.step, 4) for count in tally.answered_over_time)
    return Plot(
        name="answered",
        title="Rows answered",
        unit="per second",
        x=clock.x,
        series=(Series(label="answered", values=values, look="area"),),
    )


def _by_class(name: str, title: str, unit: str, counts: dict[str, list[int]], clock: Clock) -> Plot:
    series = tuple(Series(label=error, values=tuple(each)) for error, each in counts.items())
    return Plot(name=name, title=title, unit=unit, x=clock.x, series=series)


def _histogram(name: str, title: str, unit: str, histograms: dict[str, Histogram]) -> Plot:
    known = {label: histogram for label, histogram in histograms.items() if histogram.count}
    x, counts = outlines(known.values())
    series = tuple(Series(label=label, values=each, look="steps") for label, each in zip(known, counts, strict=True))
    return Plot(name=name, title=title, unit="rows", x=x, x_is="quantity", x_unit=unit, series=series)


def _money(tally: Tally, clock: Clock, course: Sequence[Stretch], cost: float | None) -> Plot:
    spent = Series(label="so far, as far as it is known", values=_spent(tally, clock, course, cost), look="area")
    return Plot(name="money", title="Money spent", unit="US dollars", x=clock.x, series=(spent,))


def _spent(tally: Tally, clock: Clock, course: Sequence[Stretch], cost: float | None) -> Numbers:
    """US dollars at the end of each slot. It ends at the cost that the words tell; see `facts.spent_in_all`."""
    calls = [0.0] * clock.slots
    for each in course:
        calls[clock.slot(each.began_at)] += each.cost
    known = [*map(max, accumulate(tally.cost_over_time), accumulate(calls))]
    known[-1] = max(known[-1], cost or 0.0)
    return tuple(float(f"{value:.6g}") for value in known)


def bars(tally: Tally) -> tuple[Bars, ...]:
    """Time by cause, and attempts by row."""
    whole = sum(tally.waits.values())
    waits = [
        Bar(
            label=cause_in_words(cause),
            value=round(seconds, 3),
            words=f"{figures.duration(seconds)}, {100 * seconds / whole:.1f} %",
        )
        for cause, seconds in sorted(tally.waits.items(), key=lambda each: -each[1])[:15]
        if seconds > 0
    ]
    tries = [
        Bar(label=figures.counted(attempts, "attempt"), value=count, words=figures.counted(count, "row"))
        for attempts, count in sorted(tally.attempts.items())
    ]
    found = [
        Bars(
            name="waits",
            title="Where the time went",
            bars=tuple(waits),
            note="Summed over all rows, many of which wait at once.",
        )
    ]
    if set(tally.attempts) - {0, 1}:
        found.append(Bars(name="attempts", title="Attempts by row", bars=tuple(tries[:15])))
    return tuple(each for each in found if each.bars)


_PERCENTILES = (0.5, 0.9, 0.95, 0.99)


def percentiles(tally: Tally) -> tuple[Cells, ...]:
    """The percentiles of the latencies."""
    rows = [
        (label, *(_seconds(histogram.quantile(share)) for share in _PERCENTILES), _seconds(histogram.most))
        for label, histogram in (("the provider's part", tally.provider), ("with our queue and retries", tally.seconds))
        if histogram.count
    ]
    if not rows:
        return ()
    heads = ("", *(f"{share * 100:.0f} %" for share in _PERCENTILES), "longest")
    return (Cells(name="percentiles", title="Latency: so many rows were faster", heads=heads, rows=tuple(rows)),)


def groups(found: dict[str, Group], title: str) -> tuple[Cells, ...]:
    """The figures of each model, or of each variant; nothing if there is one only. A row that failed names none."""
    if len(found.keys() - {""}) < 2:
        return ()
    rows = tuple(
        (
            name or "no model told",
            f"{each.answered:,}",
            f"{each.failed:,}",
            _seconds(each.seconds.quantile(0.5)),
            _seconds(each.seconds.quantile(0.95)),
            f"{each.output_tokens / each.answered:,.0f}" if each.answered else "",
            figures.cost(each.cost, each.unknown_costs),
        )
        for name, each in found.items()
    )
    heads = ("", "answered", "failed", "median", "95 %", "output tokens a row", "cost")
    return (Cells(name="groups", title=title, heads=heads, rows=rows),)


def callers(served: Served) -> tuple[Cells, ...]:
    """What each caller of a gateway did, the busiest first."""
    rows = tuple(
        (
            each.caller,
            *(f"{number:,}" for number in (each.calls, each.failed, each.hung_up, each.lost, each.waiting)),
            figures.cost(each.spent, each.unpriced + each.lost),
        )
        for each in sorted(served.callers, key=lambda each: -each.calls)
    )
    heads = ("", "calls", "failed", "hung up", "broken off", "waiting", "cost")
    return (Cells(name="callers", title="By caller", heads=heads, rows=rows),) if rows else ()


def _seconds(value: float | None) -> str:
    return "" if value is None else figures.elapsed(value)
