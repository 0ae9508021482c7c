"""Limits that are no rate: a number in flight, and refusals whatever the rate; and what is counted of requests."""

from __future__ import annotations

import heapq
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.pacing.unknown import RateSearch
from flatout.policies.pacing.unknown.known import STAND, Known, Phase
from flatout.policies.pacing.unknown.ledger import Ledger
from flatout.policies.pacing.unknown.lossy import Lossy
from flatout.policies.pacing.unknown.slots import ALARM, OFTEN, TRIED, Signs, Slots
from tests.support.flat_out import FlatOut, Searching, Sender


class Places:
    """A server of so many slots, which refuses all others, and some for no reason."""

    def __init__(self, slots: int, strays: float) -> None:
        self._slots, self._strays, self._random = slots, strays, Random(1)
        self._ends: list[float] = []

    def receive(self, now: float) -> tuple[bool, float, None]:
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        if len(self._ends) >= self._slots or self._random.random() < self._strays:
            return False, 0.05, None
        after = 2.0 * self._random.lognormvariate(0.0, 0.5)
        heapq.heappush(self._ends, now + after)
        return True, after, None


def served(slots: int, seconds: float, *, strays: float = 0.0) -> tuple[RateSearch, int, int]:
    """Send flat out. Returns how many were accepted and refused in the last three quarters of the time."""
    searching = Searching()
    together = FlatOut(Sender(searching, Places(slots, strays)))
    for _ in together.run(seconds / 4):
        pass
    outcomes = list(together.run(seconds))
    accepted, refused = (sum(counts) for counts in list(zip(*outcomes, strict=True))[1:])
    return searching.search, accepted, refused


@pytest.mark.parametrize("slots", [8, 32, 128])
@pytest.mark.parametrize("strays", [0.0, 0.02])
def test_a_number_of_slots_is_found_and_kept_to(slots, strays):
    """A server of eight slots would refuse every tenth call for ever, or stand half idle."""
    search, answered, refused = served(slots, 800.0, strays=strays)
    most = slots / (2.0 * 1.133) * 600.0
    assert answered >= (0.75 if not strays else 0.6) * most
    assert refused <= (strays + 0.02) * answered
    if not strays and slots <= 32:  # else it may be the rate that is held
        assert search.slots is not None
        assert 0.8 * slots <= search.slots.limit <= slots + 8


def test_refusals_with_few_in_flight_are_no_sign_of_slots():
    """A limit on requests would be taken for one of calls in flight, and never be used up."""
    signs, random = Signs(), Random(1)
    for _ in range(500):
        signs.taken(random.randint(0, 40))
        if random.random() < 0.05:
            assert not signs.refused(random.randint(0, 40))


def test_a_number_in_flight_that_was_wrong_wants_more_proof_the_next_time():
    """It would be believed again after the next few refusals."""

    def refusals(signs: Signs) -> int:
        for _ in range(100):
            signs.taken(5)
        signs.taken(20)
        count = 1
        while not signs.refused(20):
            count += 1
        return count

    signs = Signs()
    first = refusals(signs)
    signs.were_wrong()
    assert refusals(signs) > first


def test_more_is_tried_now_and_then_and_taken_where_it_is_accepted():
    """A server that was given more slots would not be used."""
    slots = Slots(10, 0)
    for mark in range(1, 3_001):
        slots.sent(mark, slots.limit - 1)
        slots.taken()
    assert slots.limit > 20


def test_a_try_that_is_refused_changes_nothing():
    """The server would be filled up again and again."""
    slots, mark = Slots(10, 0), 0
    while slots.limit == 10:
        mark += 1
        slots.sent(mark, 9)
    assert mark > TRIED
    assert not slots.refused(mark, 10)
    assert slots.limit == 10


def test_slots_that_are_lowered_again_and_again_are_none():
    """A limit on requests would be searched for in the wrong place for ever."""
    slots, mark, limits = Slots(100, 0), 0, []
    while True:
        mark += 1
        limits.append(slots.limit)
        if slots.refused(mark, slots.limit - 1):
            break
    assert len(set(limits)) == OFTEN + 1
    assert mark <= ALARM * (OFTEN + 1)


def test_where_half_is_refused_whatever_the_rate_more_is_sent_while_that_brings_more():
    """A provider that is half broken would be asked once a minute."""
    known, now, refused = Known(0.0, 1.0, 1e9), 0.0, 0.0
    lossy = Lossy(known, 1.0, now)
    goes_on: Phase | None = lossy
    while now < 300.0 and goes_on is lossy:
        known.ledger.sent += 1
        now += 1.0 / lossy.rate
        refused += 1.0 - min(0.5, 100.0 / lossy.rate)
        if refused >= 1.0:
            known.ledger.refused(known.ledger.sent)
            refused -= 1.0
        goes_on = lossy.take(now)
    assert 90.0 <= (lossy.rate if goes_on is lossy else known.limit) <= 400.0


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_where_hardly_any_or_nearly_all_are_refused_it_is_over(share):
    """A limit would be stormed, or a target that has recovered be treated as broken."""
    known = Known(0.0, 10.0, 1e9)
    lossy = Lossy(known, 10.0, 0.0)
    known.ledger.sent = STAND
    for mark in range(round(STAND * share)):
        known.ledger.refused(mark + 1)
    assert lossy.take(STAND / 10.0) is None


@given(st.lists(st.booleans(), max_size=300))
def test_what_was_not_refused_counts_as_accepted(outcomes):
    """The rate would be worked out from requests that never were, or without some that were."""
    ledger, marks = Ledger(0.0), []
    for refused in outcomes:
        ledger.sent += 1
        if refused:
            marks.append(ledger.sent)
    for mark in reversed(marks):
        ledger.refused(mark)
    assert ledger.accepted == len(outcomes) - len(marks)
    for mark in range(1, len(outcomes) + 1):
        assert ledger.accepted_before(mark) == mark - 1 - sum(each < mark for each in marks)
