"""The plots of a run's course: rates against limits, what is in flight, latency, tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from flatout.look.changes import spells
from flatout.look.course import Course
from flatout.store.course import CAUSES, Happening, Stretch

from .clock import Clock
from .model import Band, Mark, Numbers, Plot, Series
from .scale import in_scale

_MOST_TARGETS = 6
"""Targets with curves of their own."""

_SHADED = {"pause": "pause", "stop": "stopped", "down": "down", "full": "no room"}
_MARKED = {"begin", "crowded", "capped", "change"}
_MOST_MARKS = 100

Figure = Callable[[Stretch], float]


def timeline(course: Course, clock: Clock) -> tuple[Plot, ...]:
    """The plots of a run's course; none if it has none."""
    whole = course.whole()
    if not whole or clock.slots < 2:
        return ()
    bands, marks = _bands(course.happenings, clock), _marks(course.happenings, clock)
    plot = partial(Plot, x=clock.x, bands=bands)
    plots = (
        plot(
            name="requests",
            title="Requests, and their limit",
            unit="per second",
            series=(*_rates(course, whole, clock), *_limits(course, clock, ("rpm",), 60.0)),
            marks=marks,
        ),
        plot(
            name="in_flight",
            title="In flight",
            unit="calls",
            series=(
                Series(label="in flight", values=_level(whole, clock, lambda each: each.in_flight), look="area"),
                *_limits(course, clock, ("concurrency",), 1.0),
            ),
        ),
        plot(
            name="latency_over_time",
            title="The provider's time for an answer",
            unit="seconds",
            series=(
                Series(label="median", values=_latency(whole, clock, lambda each: each.latency_p50)),
                Series(label="95th percentile", values=_latency(whole, clock, lambda each: each.latency_p95)),
            ),
        ),
        plot(
            name="tokens",
            title="Tokens, and their limits",
            unit="per minute",
            series=(
                *_all_tokens(course, whole, clock),
                Series(label="input", values=_rate(whole, clock, lambda each: 60.0 * each.input_tokens)),
                Series(label="output", values=_rate(whole, clock, lambda each: 60.0 * each.output_tokens)),
                *_limits(course, clock, ("tpm", "itpm", "otpm"), 1.0),
            ),
        ),
        plot(name="held", title="What held calls up", unit="% of the time", series=_held(whole, clock), bands=()),
        plot(  # far more wait than are in flight, often: in one picture those would lie on the zero line
            name="waiting",
            title="Waiting for a permit",
            unit="calls",
            series=(Series(label="waiting", values=_level(whole, clock, lambda each: each.waiting)),),
        ),
    )
    return tuple(in_scale(each) for each in plots if any(any(series.values) for series in each.series))


def _rates(course: Course, whole: Sequence[Stretch], clock: Clock) -> tuple[Series, ...]:
    curves = [Series(label="sent", values=_rate(whole, clock, lambda each: each.sent))]
    if 1 < len(course.targets) <= _MOST_TARGETS:
        curves += [
            Series(label=f"answered by {target}", values=_rate(stretches, clock, lambda each: each.answered))
            for target, stretches in course.targets.items()
        ]
    else:
        curves.append(Series(label="answered", values=_rate(whole, clock, lambda each: each.answered), look="area"))
    for label, figure in (("refused (429)", _refused), ("failed otherwise", _failed)):
        values = _rate(whole, clock, figure)
        curves += [Series(label=label, values=values)] if any(values) else []
    if any(each.pace is not None for each in whole) or any(
        each.pace is not None for stretches in course.targets.values() for each in stretches
    ):
        every = [each for stretches in course.targets.values() for each in stretches if each.pace is not None]
        paces = _level(every, clock, lambda each: each.pace or 0.0)
        curves.append(Series(label="the pace that is tried", values=paces, look="limit"))
    return tuple(curves)


def _refused(stretch: Stretch) -> float:
    return stretch.refused


def _failed(stretch: Stretch) -> float:
    return stretch.failed


def _all_tokens(course: Course, whole: Sequence[Stretch], clock: Clock) -> tuple[Series, ...]:
    """Input and output together, if a limit counts them so."""
    if not any("tpm" in each.allows for stretches in course.targets.values() for each in stretches):
        return ()
    values = _rate(whole, clock, lambda each: 60.0 * (each.input_tokens + each.output_tokens))
    return (Series(label="input and output", values=values, look="area"),)


def _held(whole: Sequence[Stretch], clock: Clock) -> tuple[Series, ...]:
    causes: dict[str, float] = {}
    for each in whole:
        for cause, seconds in each.held.items():
            causes[cause] = causes.get(cause, 0.0) + seconds
    longest = sorted(causes, key=lambda cause: -causes[cause])[:_MOST_TARGETS]
    return tuple(
        Series(
            label=cause_in_words(cause),
            values=tuple(
                min(100.0, 100.0 * value) if value is not None else None
                for value in _rate(whole, clock, lambda each, cause=cause: each.held.get(cause, 0.0))  # type: ignore[misc]
            ),
        )
        for cause in longest
    )


def cause_in_words(cause: str) -> str:
    """What held calls up, in words. A run file may hold any other word."""
    return CAUSES.get(cause, cause)


def _rate(stretches: Sequence[Stretch], clock: Clock, figure: Figure) -> Numbers:
    """A figure per second, in each slot; None where nothing was recorded."""
    sums, covered = [0.0] * clock.slots, [0.0] * clock.slots
    for each in stretches:
        begin = clock(each.began_at)
        first, end = int(begin / clock.step), begin + each.seconds
        last = min(int(max(begin, end - 1e-6) / clock.step), clock.slots - 1)
        for slot in range(min(first, last), last + 1):
            part = (min(end, (slot + 1) * clock.step) - max(begin, slot * clock.step)) / each.seconds
            part = min(1.0, max(0.0, part)) if last > first else 1.0
            sums[slot] += part * figure(each)
            covered[slot] += part * each.seconds
    return tuple(
        None if not seconds else round(value / max(seconds, 1e-9 if slot == clock.slots - 1 else 0.1), 4)
        for slot, (value, seconds) in enumerate(zip(sums, covered, strict=True))
    )


def _level(stretches: Sequence[Stretch], clock: Clock, figure: Figure) -> Numbers:
    """A figure that is a state, at the end of each slot; None where nothing was recorded."""
    values: list[float | None] = [None] * clock.slots
    for each in stretches:
        first, last = clock.slot(each.began_at), clock.slot(each.began_at + each.seconds - 1e-6)
        for slot in range(first, last + 1):
            values[slot] = round(figure(each), 4)
    return tuple(values)


def _latency(stretches: Sequence[Stretch], clock: Clock, figure: Callable[[Stretch], float | None]) -> Numbers:
    """Latencies, weighted by the answers; None where there is none."""
    sums, counts = [0.0] * clock.slots, [0] * clock.slots
    for each in stretches:
        if (seconds := figure(each)) is not None:
            slot, weight = clock.slot(each.began_at), max(1, each.answered)
            sums[slot] += seconds * weight
            counts[slot] += weight
    return tuple(round(total / count, 4) if count else None for total, count in zip(sums, counts, strict=True))


_LIMITS = {
    "rpm": "limit on requests",
    "tpm": "limit on tokens",
    "itpm": "limit on input tokens",
    "otpm": "limit on output tokens",
    "concurrency": "most at once",
}


def _limits(course: Course, clock: Clock, names: Sequence[str], per: float) -> tuple[Series, ...]:
    """The limits in force, one curve for each that is known: that of all targets together if each has one.

    What was sent is that of all targets, too.
    """
    found = []
    targets = list(course.targets.items())[:_MOST_TARGETS]
    for name in names:
        curves = {}
        for target, stretches in targets:
            known = [each for each in stretches if name in each.allows]
            if known:
                values = _level(known, clock, lambda each, name=name: each.allows[name] / per)  # type: ignore[misc]
                curves[target] = values
        if len(curves) > 1 and len(curves) == len(course.targets):
            curves = {"": _together(list(curves.values()))}
        for target, values in curves.items():
            label = _LIMITS[name] + (f" of {target}" if target and len(targets) > 1 else "")
            found.append(Series(label=label, values=values, look="limit"))
    return tuple(found)


def _together(curves: Sequence[Numbers]) -> Numbers:
    """The sum of curves. Where one of them says nothing, it is as it was before, or as it is later."""
    filled = []
    for curve in curves:
        last = next(value for value in curve if value is not None)
        filled.append([last := last if value is None else value for value in curve])
    return tuple(
        None if all(value is None for value in at) else round(sum(levels), 4)
        for at, levels in zip(zip(*curves, strict=True), zip(*filled, strict=True), strict=True)
    )


def _bands(happenings: Sequence[Happening], clock: Clock) -> tuple[Band, ...]:
    """Pauses and outages, with their ends."""
    bands = [_band(each, clock) for each in spells(happenings, math.inf)]
    return tuple(sorted((band for band in bands if band.end > band.begin), key=lambda band: band.begin)[:_MOST_MARKS])


def _band(each: Happening, clock: Clock) -> Band:
    words = ": ".join(filter(None, (_SHADED.get(each.kind, each.kind), each.target, each.what[:200])))
    if each.kind == "change":
        words = f"paused by {each.by or 'the program'}"
    end = each.at if each.until is None else each.until
    return Band(begin=round(clock(each.at), 3), end=round(clock(end), 3), label=words)


def _marks(happenings: Sequence[Happening], clock: Clock) -> tuple[Mark, ...]:
    gaps = {round(at, 3): seconds for at, seconds in clock.gaps}
    found, first = [], next((each for each in happenings if each.kind == "begin"), None)
    for each in happenings:
        at = round(clock(each.at), 3)
        if each.kind in _MARKED and each is not first:
            words = {"begin": "continued", "change": "changed"}.get(each.kind, each.kind)
            by = f" by {each.by}" if each.by else ""
            found.append(Mark(at=at, label=f"{words}{by}{f': {each.what[:200]}' if each.what else ''}"))
    found += [Mark(at=at, label="continued") for at in gaps if not any(abs(mark.at - at) < 1 for mark in found)]
    return tuple(sorted(found, key=lambda mark: mark.at)[:_MOST_MARKS])
