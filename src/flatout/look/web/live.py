"""What a live page shows: made anew at each look, from what is new in the run file.

A look reads the course's latest stretches. The sums over all rows take about a second for 100,000 of them. So they are
read in between, less often the longer they take, and once more when a process takes up the run or leaves it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from flatout._version import __version__
from flatout.errors import StoreError
from flatout.look.course import Course
from flatout.look.facts import Facts
from flatout.look.report.model import Cells, Report, Run, Served
from flatout.look.report.one import Sums, clock_of, run_of, sums_of
from flatout.look.report.variants import names_of
from flatout.look.watch.glance import Glance, Watcher
from flatout.store import RunInfo, RunNotBegun, RunReader
from flatout.text import figures

SHARE = 40
"""All rows are read again after this many times as long as the last reading took, at the earliest."""

FLYING = 10
"""Attempts in flight that are shown."""


class LiveRun:
    """Looks at a run again and again. Every method blocks.

    Args:
        name: the run's name, as the user gave it.
        place: finds the run file; it need not be there yet.
        clock: gives Unix time.
    """

    def __init__(self, name: str, place: Callable[[], Path], clock: Callable[[], float] = time.time) -> None:
        self._name = name
        self._find = place
        self._clock = clock
        self._watcher: Watcher | None = None
        self._sums: Sums | None = None
        self._shown: Report | None = None
        self._facts = Facts()
        self._again_at = 0.0
        self._read_for: tuple[object, ...] = ()
        self._known: tuple[object, ...] = ()

    @property
    def place(self) -> Path | None:
        """The run file; None before it is there."""
        return self._watcher.place if self._watcher is not None else None

    def look(self) -> Report:
        """What is known now. What cannot be read leaves the last report, and a word on why."""
        if self._watcher is None and (place := self._find()).exists():
            self._watcher = Watcher(place, self._clock)
        try:
            found = self._report(self._watcher) if self._watcher is not None else self._waiting()
        except RunNotBegun as error:
            found = self._without(str(error)) if self._known else self._waiting()
        except StoreError as error:
            found = self._without(str(error))
        self._shown = found
        return found

    @property
    def due(self) -> bool:
        """Whether all rows should be counted or read: for the first time, or because there is something new in them."""
        return self._watcher is not None and (self._watcher.due or self._has_news)

    @property
    def _has_news(self) -> bool:
        if self._known == self._read_for:
            return False
        return self._clock() >= self._again_at or self._known[:2] != self._read_for[:2]

    def read_rows(self) -> None:
        """Count and read all rows, as far as they are due."""
        if self._watcher is None:
            return
        with suppress(StoreError):  # the next look says why
            if self._watcher.due:
                self._watcher.count()
        if self._has_news:
            self._read(self._watcher.place)

    def _read(self, place: Path) -> None:
        began, known = time.perf_counter(), self._known
        with suppress(StoreError), RunReader.open(place) as reader:
            info, course = reader.info(), Course()
            course.refresh(reader)
            clock = clock_of(info, self._facts, course)
            self._sums = sums_of(reader, clock, names_of(info.job))
        self._read_for = known
        self._again_at = self._clock() + SHARE * (time.perf_counter() - began)

    def _report(self, watcher: Watcher) -> Report:
        glance = watcher.look()
        with RunReader.open(watcher.place) as reader:
            info = reader.info()
        self._facts, course = glance.facts, watcher.course
        facts = self._facts
        self._known = (info.created_at, facts.writer, facts.finished, facts.unsent)
        sums = self._sums
        if sums is None or self._read_for[:1] != self._known[:1]:  # those of another run in the file's place
            sums = Sums.none(clock_of(info, facts, course), names_of(info.job))
        run = run_of(self._name, info, facts, course, sums, glance.at)
        return _report(run, _served(info, facts, glance))

    def _waiting(self) -> Report:
        run = _bare(self._name, "waiting", "There is no run yet", "This page shows it as soon as it begins.")
        return _report(run, Served())

    def _without(self, why: str) -> Report:
        before = self._shown
        if before is None or before.served is None:
            return _report(_bare(self._name, "unreadable", "The run cannot be read", why), Served(trouble=why))
        return _report(before.runs[0], replace(before.served, trouble=why))


def _report(run: Run, served: Served) -> Report:
    """A report that is equal to another one if it says the same: it has no time of its own."""
    return Report(title=run.name, made_at=0.0, version=__version__, runs=(run,), served=served)


def _bare(name: str, state: str, headline: str, sentence: str) -> Run:
    return Run(
        name=name,
        state=state,
        headline=headline,
        sentences=(sentence,),
        attention=(),
        facts=(),
        plots=(),
        bars=(),
        cells=(),
        figures={},
    )


def _served(info: RunInfo, facts: Facts, glance: Glance) -> Served:
    failed = facts.failed + facts.unsent
    counts = [("failed", failed), ("cut off", facts.cut_off)]
    filters = [(name, count) for name, count in counts if count]
    errors = [(f"error:{each.error}", each.count) for each in facts.errors]
    done = facts.finished + facts.unsent
    return Served(
        done=min(1.0, done / info.total) if info.total else None,
        filters=(("all", info.total or done), *filters, ("retried", None), *errors),
        rows=facts.gateway is None,
        flying=_flying(glance),
        trouble=glance.notice or "",
    )


def _flying(glance: Glance) -> Cells | None:
    """The attempts in flight by their age. If a run died, another part says what may have been paid for."""
    if not glance.facts.running or not glance.flying:
        return None
    oldest, whole = glance.flying[:FLYING], glance.in_flight
    return Cells(
        name="flying",
        title=f"In flight: {figures.count(whole)}, the oldest first",
        heads=("row", "on its way for", "attempt", "target"),
        rows=tuple(
            (
                figures.count(each.index + 1),
                figures.elapsed(max(0.0, glance.at - each.started_at)),
                each.attempt,
                each.target,
            )
            for each in oldest
        ),
        note=f"and {figures.count(whole - len(oldest))} more" if whole > len(oldest) else "",
    )
