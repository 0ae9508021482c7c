"""What the first screen shows: read from the run file at each look, the whole of it only now and then.

A look reads what is new in the course of the run, and how many rows have ended. The sums over all rows take a second
or two for a million rows. So they are read in between, by another thread, less often as the file grows; until then the
course says which tokens and which money were added.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from flatout.errors import StoreError
from flatout.look.course import Course
from flatout.look.facts import Facts, facts_of, renewed
from flatout.look.left import paced
from flatout.look.why import sentences
from flatout.store import BegunAttempt, RunReader
from flatout.store.browse import Browser, Short, Wanted
from flatout.store.course import Happening, Stretch

RECENT = 30.0
"""Seconds over which the speed is taken, or two stretches if those are longer."""

SHARE = 50
"""The whole file is read again after this many times as long as the last reading took."""

MOMENT = 0.05
"""Seconds: a look itself reads the whole file again if the last reading took no longer."""

LARGE = 64 * 1024 * 1024
"""Bytes of a run file from which on its rows are not counted before the first look is shown."""

LATELY = 60.0
"""Seconds over which latencies are taken while a run goes, or two stretches if those are longer."""

LISTED = 40
"""The most attempts in flight, and the most slow rows, that are read."""


class Glance(Struct, frozen=True, kw_only=True):
    """What is known of a run at one moment.

    Attributes:
        at: Unix time.
        facts: its sums. ``rate`` and ``seconds_left`` are those of the last half minute.
        targets: what each target did, by its name, in order of time.
        happenings: what happened, in order of time.
        why: why it is not faster, in sentences; the most important first.
        flying: attempts in flight, the oldest first; after a crash, those that may be paid for nothing.
        slowest: the rows that took the provider longest.
        has_course: whether the file has a course. One of an earlier version has not.
        notice: what was noticed of the file itself.
    """

    at: float
    facts: Facts
    targets: Mapping[str, Sequence[Stretch]]
    happenings: Sequence[Happening]
    why: Sequence[str]
    flying: Sequence[BegunAttempt]
    slowest: Sequence[Short]
    has_course: bool
    notice: str | None = None

    @property
    def in_flight(self) -> int:
        """How many attempts are in flight: `flying` has the oldest of them only."""
        if not self.facts.running:
            return 0
        since = {name: self.at - max(LATELY, 2 * known[-1].seconds) for name, known in self.targets.items() if known}
        last = [self.targets[name][-1] for name, begin in since.items() if self.targets[name][-1].began_at >= begin]
        return max(sum(each.in_flight for each in last), len(self.flying))


class _Sums(Struct, frozen=True):
    """What the course says in sum."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


class _Counted(Struct, frozen=True):
    """What a reading of the whole file found.

    Attributes:
        run: tells whether it is still the same run, at work in the same process.
        facts: the facts.
        sums: what the course said in sum just before.
        slowest: the rows that took the provider longest.
        seconds: how long it took.
    """

    run: tuple[object, ...]
    facts: Facts
    sums: _Sums
    slowest: Sequence[Short]
    seconds: float


class Watcher:
    """Looks at one run file again and again. Each look opens the file anew, and locks nothing.

    Counting the rows of a large file takes a while. Call `count` for it in another thread whenever `due` says so.

    Args:
        place: the run file.
        clock: gives Unix time.

    Attributes:
        place: the same.
        course: the course of the run, up to the last look.
        due: whether the rows should be counted anew, as the last look has found.
    """

    def __init__(self, place: Path, clock: Callable[[], float] = time.time) -> None:
        self.place = place
        self.due = False
        self._clock = clock
        self.course = Course()
        self._file: tuple[object, ...] = ()
        self._counted: _Counted | None = None
        self._again_at = 0.0
        self._notice: str | None = None

    def look(self) -> Glance:
        """What is known now.

        Raises:
            StoreError: the file is gone, damaged, or of a version that cannot be read.
        """
        now = self._clock()
        with RunReader.open(self.place) as reader:
            self._recognize(reader, now)
            self.course.refresh(reader)
            counted = self._latest(reader, now)
            sums = _sums(self.course.targets.values())
            facts = paced(_added(renewed(counted.facts, reader), counted.sums, sums), self.course, now)
            return Glance(
                at=now,
                facts=facts,
                targets={name: list(stretches) for name, stretches in self.course.targets.items()},
                happenings=list(self.course.happenings),
                why=sentences(self.course, facts, now),
                flying=Browser(reader).in_flight(LISTED, dead=not facts.running),
                slowest=counted.slowest,
                has_course=reader.course is not None,
                notice=self._notice if self._counted is not None else _COUNTING,
            )

    def count(self) -> None:
        """Count the rows.

        Raises:
            StoreError: as for `look`.
        """
        with RunReader.open(self.place) as reader:
            self._count(reader)

    def _recognize(self, reader: RunReader, now: float) -> None:
        """Begin anew if another run stands in the file's place."""
        try:
            found = self.place.stat()
        except OSError as error:
            raise StoreError(f"there is no run file {self.place.name} any more") from error
        file = (found.st_dev, found.st_ino, reader.info().created_at)
        if self._file and file != self._file:
            self.course, self._counted = Course(), None
            self._notice = f"another run took the file's place at {time.strftime('%H:%M:%S', time.localtime(now))}"
        self._file = file

    def _latest(self, reader: RunReader, now: float) -> _Counted:
        """What was counted last; counted now if that takes no more than a moment, or was never done.

        Nobody waits for the first count of a large file: what its course says is shown until then.
        """
        counted, run = self._counted, _run(reader)
        if counted is None or counted.run[:1] != run[:1]:
            if self.place.stat().st_size < LARGE or not self.course.targets:
                return self._count(reader)
            self.due, self._counted = True, None
            return _uncounted(run, self.course)
        goes_on = counted.facts.writer is not None and now >= self._again_at
        self.due = counted.run != run or goes_on
        return self._count(reader) if self.due and counted.seconds < MOMENT else counted

    def _count(self, reader: RunReader) -> _Counted:
        began, run, course = time.perf_counter(), _run(reader), Course()
        course.refresh(reader)
        sums, facts, browser = _sums(course.targets.values()), facts_of(reader), Browser(reader)
        slowest = browser.shorts(browser.highest("provider", Wanted(), LISTED))
        seconds = time.perf_counter() - began
        self._counted = counted = _Counted(run, facts, sums, slowest, seconds)
        self._again_at = self._clock() + SHARE * seconds
        self.due = False
        return counted


_COUNTING = "the rows are being read; until then tokens and money are those that the run's course tells"


def _uncounted(run: tuple[object, ...], course: Course) -> _Counted:
    """What is known before the rows are counted: what the course says will be added to it."""
    spent = _sums(course.targets.values()).cost
    return _Counted(run, Facts(input_tokens=0, output_tokens=0, cost=0.0 if spent else None), _Sums(), (), 0.0)


def _run(reader: RunReader) -> tuple[object, ...]:
    """Tells one run from another, and one process that works on it from another."""
    info, holder = reader.info(), reader.holder()
    return info.created_at, info.opened_at, info.ended_at, None if holder is None else str(holder)


def _sums(targets: Iterable[Sequence[Stretch]]) -> _Sums:
    all_ = [each for stretches in targets for each in stretches]
    return _Sums(
        input_tokens=sum(each.input_tokens for each in all_),
        output_tokens=sum(each.output_tokens for each in all_),
        cost=sum(each.cost for each in all_),
    )


def _added(facts: Facts, then: _Sums, now: _Sums) -> Facts:
    """Facts with what the course says since they were read. What was unknown stays unknown."""
    if facts.gateway is not None:  # it says itself how much it has done
        return replace(facts, input_tokens=now.input_tokens, output_tokens=now.output_tokens)
    return replace(
        facts,
        input_tokens=_plus(facts.input_tokens, now.input_tokens - then.input_tokens),
        output_tokens=_plus(facts.output_tokens, now.output_tokens - then.output_tokens),
        cost=None if facts.cost is None else facts.cost + max(0.0, now.cost - then.cost),
    )


def _plus(known: int | None, more: int) -> int | None:
    return None if known is None else known + max(0, more)
