"""Reads run files and makes a report of them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from flatout._version import __version__
from flatout.look.course import Course
from flatout.look.facts import Facts, facts_of
from flatout.store import RunInfo, RunReader
from flatout.store.browse import Browser
from flatout.text import figures

from . import pictures, words
from .clock import Clock
from .compare import compared, overlaid, same_rows
from .model import Report, Rows, Run
from .packing import MOST_ROWS, Table
from .tally import Tally
from .timeline import timeline
from .variants import Agreement, names_of


def gather(places: Sequence[str | os.PathLike[str]], *, most: int = MOST_ROWS, now: float | None = None) -> Report:
    """Make the report of one run, or of several side by side.

    Args:
        places: the run files.
        most: the most rows in the table, and as many failed ones more.
        now: Unix time; by default the present.

    Raises:
        StoreError: a run file cannot be read.
    """
    now = time.time() if now is None else now
    paths = [Path(place) for place in places]
    names = _names(paths)
    found = [_one(path, name, most, now, len(paths) == 1) for path, name in zip(paths, names, strict=True)]
    runs = tuple(each.run for each in found)
    several = len(runs) > 1
    return Report(
        title=" and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} others",
        made_at=now,
        version=__version__,
        runs=runs,
        compared=(*compared(runs), *same_rows(paths, names)) if several else (),
        overlaid=overlaid(runs) if several else (),
        rows=found[0].rows,
    )


class _Found(Struct, frozen=True):
    run: Run
    rows: Rows | None


def _names(paths: Sequence[Path]) -> list[str]:
    """The files' names; with their folders if two have the same."""
    short = [path.name.removesuffix(".flatout") for path in paths]
    return short if len(set(short)) == len(short) else [str(path).removesuffix(".flatout") for path in paths]


def _one(path: Path, name: str, most: int, now: float, with_rows: bool) -> _Found:
    with RunReader.open(path) as reader:
        info, facts, course = reader.info(), facts_of(reader), Course()
        course.refresh(reader)
        clock = Clock.of(course.whole(), info.created_at, facts.last_finished_at or info.created_at)
        variants = names_of(info.job)
        tally, agreement = Tally(clock), Agreement(variants)
        table = Table(reader, facts.answered, facts.failed + facts.unsent, variants, most) if with_rows else None
        damaged: list[int] = []
        for item in reader.items(damaged=damaged.append):
            variant = item.index % len(variants) if variants else None
            tally.add(item, None if variant is None else variants[variant])
            if variant is not None:
                agreement.add(item.index // len(variants), variant, item)
            if table is not None:
                table.add(item)
        for at, error in Browser(reader).retries():
            tally.add_retry(at, error)
        course_plots = timeline(course, clock)
        needs = words.attention(facts, tally, len(damaged))
        run = Run(
            name=name,
            state=facts.state,
            headline=words.headline(facts, clock.length),
            sentences=(
                *words.sentences(facts, course, tally, now),
                *(() if needs else ("No row needs attention.",)),
            ),
            attention=needs,
            facts=_facts(info, facts),
            plots=(*course_plots, *pictures.plots(tally, clock, has_course=bool(course_plots))),
            bars=pictures.bars(tally),
            cells=(
                *pictures.percentiles(tally),
                *pictures.groups(tally.groups, "By model and sample" if variants else "By model"),
                *agreement.tables(),
            ),
            figures=_figures(facts, clock, tally),
        )
        return _Found(run, table.rows() if table is not None else None)


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


def _figures(facts: Facts, clock: Clock, tally: Tally) -> dict[str, float | None]:
    return {
        "answered": facts.answered,
        "failed": facts.failed + facts.unsent,
        "cut off": facts.cut_off,
        "seconds": round(clock.length, 3),
        "rows a second": round((facts.finished + facts.unsent) / clock.length, 4),
        "median seconds of the provider": tally.provider.quantile(0.5),
        "95 % of them within": tally.provider.quantile(0.95),
        "median seconds, queueing included": tally.seconds.quantile(0.5),
        "input tokens": facts.input_tokens,
        "output tokens": facts.output_tokens,
        "median characters of an answer": tally.lengths.quantile(0.5),
        "US dollars": facts.cost,
    }
