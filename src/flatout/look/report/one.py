"""What a report says of one run, put together from its facts, its course, and the sums over its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from flatout.look.course import Course, at_work
from flatout.look.facts import Facts, has_no_other_calls
from flatout.store import Item, RunInfo, RunReader
from flatout.store.browse import Browser
from flatout.text import figures

from . import pictures, words
from .clock import Clock
from .model import UNKNOWN_COSTS, UNKNOWN_TOKENS, Run
from .tally import Tally
from .timeline import timeline
from .variants import Agreement


class Sums(Struct, frozen=True):
    """What all rows of a run say together.

    Attributes:
        clock: the time axis on which they are counted.
        tally, agreement: the sums.
        damaged: how many rows cannot be read.
    """

    clock: Clock
    tally: Tally
    agreement: Agreement
    damaged: int = 0

    @classmethod
    def none(cls, clock: Clock, variants: Sequence[str] = ()) -> Sums:
        """The sums of no rows."""
        return cls(clock, Tally(clock), Agreement(variants))


def clock_of(info: RunInfo, facts: Facts, course: Course) -> Clock:
    """The time axis of a run, up to now."""
    return Clock.of(course.whole(), info.created_at, facts.last_finished_at or info.created_at)


def sums_of(
    reader: RunReader, clock: Clock, variants: Sequence[str], take: Callable[[Item], object] | None = None
) -> Sums:
    """Read all rows: about a second for 100,000 of them, in constant memory.

    Args:
        reader: the run file.
        clock: the time axis.
        variants: the names of the variants of each row.
        take: gets each row, too.
    """
    sums, damaged = Sums.none(clock, variants), list[int]()
    for item in reader.items(damaged=damaged.append):
        variant = item.index % len(variants) if variants else None
        sums.tally.add(item, None if variant is None else variants[variant])
        if variant is not None:
            sums.agreement.add(item.index // len(variants), variant, item)
        if take is not None:
            take(item)
    for at, error in Browser(reader).retries():
        sums.tally.add_retry(at, error)
    return Sums(clock, sums.tally, sums.agreement, len(damaged))


def run_of(name: str, info: RunInfo, facts: Facts, course: Course, sums: Sums, now: float) -> Run:
    """What a report says of a run.

    Args:
        name: the run's name.
        info: the job and the times.
        facts: its counts and sums.
        course: what its targets did.
        sums: what its rows say; they may be older than the rest.
        now: Unix time.
    """
    clock, tally, variants = clock_of(info, facts, course), sums.tally, sums.agreement.names
    recorded = (each for stretches in course.targets.values() for each in stretches)
    seconds = at_work(course.happenings, recorded, now if facts.running else None) or clock.length
    course_plots = timeline(course, clock)
    needs = words.attention(facts, tally, sums.damaged)
    spent = course.whole() if has_no_other_calls(info) else ()
    return Run(
        name=name,
        state=facts.state,
        headline=words.headline(facts, seconds),
        sentences=(
            *words.sentences(facts, course, tally, now),
            *(() if needs or facts.gateway is not None else ("No row needs attention.",)),
        ),
        attention=needs,
        facts=_facts(info, facts),
        plots=(
            *course_plots,
            *pictures.plots(tally, sums.clock, spent, facts.cost, has_course=bool(course_plots)),
        ),
        bars=pictures.bars(tally),
        cells=(
            *(pictures.callers(facts.gateway) if facts.gateway is not None else ()),
            *pictures.percentiles(tally),
            *pictures.groups(tally.groups, "By model and sample" if variants else "By model"),
            *sums.agreement.tables(),
        ),
        figures=_figures(facts, seconds, tally),
    )


def _facts(info: RunInfo, facts: Facts) -> tuple[tuple[str, str], ...]:
    def at(seconds: float | None) -> str:
        return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))

    tokens = "" if facts.input_tokens is None else f"{facts.input_tokens:,} in, {facts.output_tokens or 0:,} out"
    if tokens and facts.unknown_tokens:
        tokens += f", and those of {figures.counted(facts.unknown_tokens, 'row')} unknown"
    told = [
        ("began", at(info.created_at)),
        ("last row", at(facts.last_finished_at)),
        ("model", str(info.job.get("model") or ", ".join(map(str, info.job.get("models") or ())))[:200]),
        ("lane", facts.lane if facts.lane not in (None, "live") else ""),
        ("tokens", tokens),
        ("budget", facts.budget.budget if facts.budget is not None else ""),
        ("command", (info.command or "")[:2_000]),
    ]
    return tuple((label, text) for label, text in told if text)


def _figures(facts: Facts, seconds: float, tally: Tally) -> dict[str, float | None]:
    characters = tally.lengths.quantile(0.5)
    return {
        "answered": facts.answered,
        "failed": facts.failed + facts.unsent,
        "cut off": facts.cut_off,
        "seconds": round(seconds, 3),
        "rows a second": round((facts.finished + facts.unsent) / seconds, 4),
        "median seconds of the provider": tally.provider.quantile(0.5),
        "95 % of them within": tally.provider.quantile(0.95),
        "median seconds, queueing included": tally.seconds.quantile(0.5),
        "input tokens": facts.input_tokens,
        "output tokens": facts.output_tokens,
        "median characters of an answer": None if characters is None else round(characters),
        "US dollars": None if facts.unknown_costs and not facts.cost else facts.cost,
        UNKNOWN_TOKENS: facts.unknown_tokens,
        UNKNOWN_COSTS: facts.unknown_costs,
    }
