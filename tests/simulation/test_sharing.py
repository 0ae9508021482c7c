"""Programs that share a name and one target: together they find its limit, as one program would."""

from __future__ import annotations

import math

import pytest

from flatout import Limits
from flatout.testing._limits import Bucket
from tests.support.drawn_targets import LIMITS
from tests.support.several_searches import Minutes, side_by_side
from tests.support.sharing_programs import Programs

AT_START = 64
"""Refusals that one program's search may cost at the start."""


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_they_use_what_one_program_would_and_are_refused_no_more(tmp_path, limit):
    """Each would search for itself: sixteen programs at 600 RPM were refused a tenth to a third of the time."""
    programs = Programs(tmp_path, limit(600))
    programs.join(16)
    seen, alone = programs.run(120.0), side_by_side(1, limit(600), 2)
    assert seen.used(600) >= alone.used(600) - 0.01
    assert refused(seen) <= refused(alone) + 2
    assert seen.refusals(since=1) <= 0.01
    assert seen.fairness(since=0) >= 0.9


def test_eight_of_them_use_a_limit_to_the_full(tmp_path):
    """More programs would mean more refusals, or a limit that lies idle."""
    programs = Programs(tmp_path, Bucket(6_000, burst=1.0, full=True))
    programs.join(8)
    seen = programs.run(120.0)
    assert seen.used(6_000, since=1) >= 0.97
    assert seen.refusals(since=1) <= 0.01
    assert sum(seen.refused[0]) <= AT_START
    assert seen.fairness(since=1) >= 0.9


def test_the_others_go_on_when_one_is_killed_and_who_comes_late_gets_its_share(tmp_path):
    """The search would begin anew, or end with the program that had begun it."""
    programs = Programs(tmp_path, Bucket(6_000, burst=1.0, full=True))
    programs.join(4)
    programs.run(60.0)
    programs.die(0)
    seen = programs.run(60.0)
    assert seen.used(6_000) >= 0.97
    assert seen.refusals() <= 0.01
    programs.join(4)
    seen = programs.run(60.0)
    assert seen.used(6_000) >= 0.97
    assert seen.refusals() <= 0.01
    assert min(seen.accepted[0][1:]) >= 0.5 * 6_000 / 7


def test_while_nothing_is_accepted_one_of_them_looks_at_a_time(tmp_path):
    """Sixteen programs would send sixteen requests into every pause."""
    programs = Programs(tmp_path, Bucket(600, burst=1.0, full=True))
    programs.join(16)
    programs.run(60.0)
    programs.limit = Nothing()
    seen = programs.run(60.0)
    assert refused(seen) <= 60
    assert refused(programs.run(60.0)) <= 10


def test_headers_that_one_of_them_hears_are_heeded_by_all(tmp_path):
    """A program whose first answer takes a minute would run past a limit that its siblings know."""
    programs = Programs(tmp_path, Bucket(600, burst=60.0, full=True))
    programs.join(headers={"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "300"})
    programs.run(5.0)
    programs.join(7)
    seen = programs.run(120.0)
    assert refused(seen) == 0
    assert seen.used(600) >= 0.97
    assert seen.fairness(since=0) >= 0.9


@pytest.mark.parametrize(("slots", "count"), [(32, 8), (32, 16), (4, 16)])
def test_a_bound_on_what_is_in_flight_holds_for_all_of_them_and_is_used(tmp_path, slots, count):
    """A server of 32 slots would be sent 32 requests by each."""
    programs = Programs(tmp_path, Bucket(1e9, burst=60.0, full=True), Limits(concurrency=slots))
    programs.join(count - 1)
    programs.run(20.0)
    programs.join()
    seen = programs.run(120.0)
    assert programs.most_in_flight == slots
    assert sum(map(sum, seen.accepted)) >= 0.93 * 120.0 * slots / programs.seconds
    assert seen.fairness(since=0) >= 0.9


def test_what_a_killed_program_had_in_flight_is_free_within_seconds(tmp_path):
    """One kill -9 would take its slots from all others for good."""
    programs = Programs(tmp_path, Bucket(1e9, burst=60.0, full=True), Limits(concurrency=8))
    programs.join(2)
    programs.run(20.0)
    assert programs.all[0].pacer.in_flight >= 3
    programs.die(0)
    programs.run(2.0)
    assert programs.all[1].pacer.in_flight == 8


def test_a_number_of_slots_is_found_together_and_outlives_the_one_that_is_killed(tmp_path):
    """What a killed program had in flight would count for ever, and the others get fewer slots each time."""
    programs = Programs(tmp_path, Bucket(1e9, burst=60.0, full=True))
    programs.limit = Places(programs, 32)
    programs.join(4)
    programs.run(400.0)
    assert all(each.pacer.search.slots is not None for each in programs.all)
    programs.die(0)
    programs.run(5.0)
    assert programs.all[1].pacer.search.in_flight == sum(each.pacer.in_flight for each in programs.all)
    seen = programs.run(60.0)
    assert sum(map(sum, seen.accepted)) >= 0.9 * 60.0 * 32 / programs.seconds
    assert seen.refusals() <= 0.03
    assert min(seen.accepted[0][1:]) >= 0.5 * sum(seen.accepted[0]) / 3


class Places(Bucket):
    """Accepts as many at a time as there are places."""

    def __init__(self, programs: Programs, count: int) -> None:
        super().__init__(1.0, burst=1.0, full=False)
        self._programs, self._count = programs, count

    def wait(self, now: float, amount: float) -> float:
        return 0.0 if self._programs.busy < self._count else math.inf


class Nothing(Bucket):
    """Accepts nothing, and does not say for how long."""

    def __init__(self) -> None:
        super().__init__(1.0, burst=1.0, full=False)

    def wait(self, now: float, amount: float) -> float:
        return math.inf


def refused(seen: Minutes) -> int:
    return sum(map(sum, seen.refused))
