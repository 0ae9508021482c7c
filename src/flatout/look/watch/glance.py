"""What the first screen shows: read from the run file at each look, the whole of it only now and then.

A look reads what is new in the course of the run. The sums over all rows take a second or two for a million rows, so
they are read less often as the file grows, and between two such reads the course says what was added.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from flatout.errors import StoreError
from flatout.look.course import Course
from flatout.look.facts import Facts, facts_of
from flatout.look.left import paced
from flatout.look.why import sentences
from flatout.store import BegunAttempt, RunReader
from flatout.store.browse import Browser, Short, Wanted
from flatout.store.course import Happening, Stretch

RECENT = 30.0
"""Seconds over which the speed is taken, or two stretches if those are longer."""

SHARE = 20
"""The whole file is read again after this many times as long as the last reading took."""

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
        flying: attempts in flight, the oldest first; after a crash, those whose end nobody saw.
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


class _Sums(Struct, frozen=True):
    """What the course says in sum."""

    answered: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


class Watcher:
    """Looks at one run file again and again. Each look opens the file anew, and locks nothing.

    Args:
        place: the run file.
        clock: gives Unix time.

    Attributes:
        place: the same.
        course: the course of the run, up to the last look.
    """

    def __init__(self, place: Path, clock: Callable[[], float] = time.time) -> None:
        self.place = place
        self._clock = clock
        self.course = Course()
        self._file: tuple[object, ...] = ()
        self._facts: Facts | None = None
        self._slowest: Sequence[Short] = ()
        self._then = _Sums()
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
            facts = self._known(reader, now)
            return Glance(
                at=now,
                facts=facts,
                targets={name: list(stretches) for name, stretches in self.course.targets.items()},
                happenings=list(self.course.happenings),
                why=sentences(self.course, facts, now),
                flying=Browser(reader).in_flight(LISTED),
                slowest=self._slowest,
                has_course=reader.course is not None,
                notice=self._notice,
            )

    def _recognize(self, reader: RunReader, now: float) -> None:
        """Begin anew if another run stands in the file's place."""
        try:
            found = self.place.stat()
        except OSError as error:
            raise StoreError(f"there is no run file {self.place.name} any more") from error
        file = (found.st_dev, found.st_ino, reader.info().created_at)
        if self._file and file != self._file:
            self.course, self._facts = Course(), None
            self._notice = f"another run took the file's place at {time.strftime('%H:%M:%S', time.localtime(now))}"
        self._file = file

    def _known(self, reader: RunReader, now: float) -> Facts:
        """The facts: read anew, or the last ones and what the course says since."""
        sums = _sums(self.course.targets.values())
        if self._facts is None or now >= self._again_at or self._changed_hands(reader):
            began = time.perf_counter()
            self._facts, self._then = facts_of(reader), sums
            browser = Browser(reader)
            self._slowest = browser.shorts(browser.highest("provider", Wanted(), LISTED))
            self._again_at = now + SHARE * (time.perf_counter() - began)
        return paced(_added(self._facts, self._then, sums), self.course, now)

    def _changed_hands(self, reader: RunReader) -> bool:
        """Whether the run has ended, was killed, or was taken up since the facts were read."""
        holder = reader.holder()
        return (str(holder) if holder is not None else None) != (self._facts and self._facts.writer)


def _sums(targets: Iterable[Sequence[Stretch]]) -> _Sums:
    all_ = [each for stretches in targets for each in stretches]
    return _Sums(
        answered=sum(each.answered for each in all_),
        input_tokens=sum(each.input_tokens for each in all_),
        output_tokens=sum(each.output_tokens for each in all_),
        cost=sum(each.cost for each in all_),
    )


def _added(facts: Facts, then: _Sums, now: _Sums) -> Facts:
    """Facts with what the course says since they were read. What was unknown stays unknown."""
    answered = now.answered - then.answered
    if not answered:
        return facts
    if facts.total is not None:  # a durable function may ask several times for a row
        answered = min(answered, max(0, facts.total - facts.finished))
    return replace(
        facts,
        answered=facts.answered + answered,
        finished=facts.finished + answered,
        left=None if facts.left is None else facts.left - answered,
        input_tokens=_plus(facts.input_tokens, now.input_tokens - then.input_tokens),
        output_tokens=_plus(facts.output_tokens, now.output_tokens - then.output_tokens),
        cost=None if facts.cost is None else facts.cost + max(0.0, now.cost - then.cost),
    )


def _plus(known: int | None, more: int) -> int | None:
    return None if known is None else known + max(0, more)
