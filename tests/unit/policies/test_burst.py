"""How much a provider takes at once, learnt by a program that blocks its event loop again and again."""

from __future__ import annotations

from bisect import bisect_left
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.pacing.axis import USE
from flatout.policies.pacing.burst import FIRST, MOST
from flatout.policies.pacing.gcra import BURST, MISSED, Steady
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Need
from flatout.testing._limits import Bucket, SlidingWindow, Window
from flatout.values import Limits

LIMIT = 50
"""Calls a second."""


def blocked(
    gcra: Steady, blocks: list[float], seconds: float = 120.0, server: Window | None = None
) -> tuple[list[float], list[float]]:
    """Send calls flat out, with these blocks of the loop in turn. Returns when calls went, and when one was refused."""
    now, times, refusals, waits = 0.0, [], [], cycle(blocks)
    while now < seconds:
        now += next(waits)
        refused = 0
        while gcra.ready_at(1.0) <= now:
            gcra.take(1.0, now, waited=True)
            if server is not None and server.wait(now, 1.0) > 0.0:
                refused += 1
            else:
                times.append(now)
                if server is not None:
                    server.take(now, 1.0)
        refusals += [now] * refused
        for _ in range(refused):  # they are heard of after the burst
            gcra.explains(now, now)
    return times, refusals


@pytest.mark.parametrize(("block", "least"), [(0.3, 0.95), (0.7, 0.93), (1.0, 0.88), (2.0, 0.8)])
def test_a_limit_is_used_where_the_provider_takes_at_once_what_was_missed(block, least):
    """A program would be slower than the script that it replaces, by half if it blocks its loop for a second."""
    times, _ = blocked(Steady(LIMIT * USE, BURST, 0.0), [0.7 * block, 1.3 * block, 1.1 * block, 0.9 * block])
    assert sum(at > 60.0 for at in times) >= least * 60 * LIMIT


@given(st.floats(5, 200), st.lists(st.floats(0.01, 3.0), min_size=1, max_size=20))
def test_no_ten_seconds_get_more_than_the_limit(limit, blocks):
    """A provider that counts by ten seconds would refuse what is made up for."""
    times, _ = blocked(Steady(limit * USE, BURST, 0.0), blocks, 60.0)
    for first, begin in enumerate(times):
        assert bisect_left(times, begin + 10.0) - first <= limit * (10.0 + FIRST) * USE + 1
        assert bisect_left(times, begin + 1.0) - first <= limit * (1.0 + MOST) + 2


@pytest.mark.parametrize("rpm", [33, 63])
def test_no_minute_gets_more_than_the_limit(rpm):
    """A provider that counts by the minute would refuse calls although the right limit was given."""
    times, _ = blocked(Steady(rpm / 60.0 * USE, BURST, 0.0), [0.5, 1.9, 1.1], 600.0)
    assert max(sum(begin <= at < begin + 60.0 for at in times) for begin in times) <= rpm


@pytest.mark.parametrize("burst", [1.0, 1.5])
def test_what_a_bucket_holds_is_found_for_few_refusals(burst):
    """Each block would be followed by refusals."""
    server = Bucket(LIMIT * 60.0, burst=burst, full=True)
    times, refusals = blocked(Steady(LIMIT * USE, BURST, 0.0), [2.0], server=server)
    assert 0 < len(refusals) <= 15
    assert refusals[-1] < 60.0
    assert sum(at > 60.0 for at in times) >= 0.8 * 60 * LIMIT * burst / 2.0


def test_a_provider_that_counts_by_the_second_refuses_few_calls_once():
    """Each block would be followed by refusals."""
    server = SlidingWindow(LIMIT * 60.0, window=1.0)
    times, refusals = blocked(Steady(LIMIT * USE, BURST, 0.0), [0.7], server=server)
    assert 0 < len(refusals) <= 20
    assert refusals[-1] < 30.0
    late = [at for at in times if at > refusals[-1] + 1.0]
    for first, begin in enumerate(late):
        assert sum(at < begin + 1.0 for at in late[first:]) <= LIMIT


def test_a_refusal_of_what_was_tried_concerns_its_call_alone():
    """A program that blocks its loop would stand still after each of them, and search for a lower limit."""
    pacer, now, need = Pacer(Limits(rpm=LIMIT * 60), 0.0), 0.0, Need()
    while now < 60.0:
        now += 0.7
        while pacer.ready_at(need := Need(waited_for="requests"), now)[0] <= now:
            pacer.admit(need, now)
    waits = [pacer.refused(need, 0.1, None, now, now + 0.1, 0.0) for _ in range(5)]
    assert {wait.alone for wait in waits} == {0.1}
    assert pacer.paused_until < now
    assert pacer.search is None


def test_nothing_is_tried_after_a_refusal_within_the_limit():
    """A provider that has just refused would get more at once than before."""
    gcra = Steady(LIMIT * USE, BURST, 0.0)
    gcra.keep_seconds()
    times, _ = blocked(gcra, [0.7])
    for first, begin in enumerate(times):
        assert sum(at < begin + 1.0 for at in times[first:]) <= LIMIT


def test_a_program_that_sends_a_few_calls_now_and_then_loses_nothing():
    """An agent would be refused calls because it had none to send before."""
    gcra, went = Steady(10.0 * USE, BURST, 0.0), []
    for number in range(100):
        now = 10.0 * number
        for _ in range(20):
            ready = gcra.ready_at(1.0)
            waited, now = ready > now, max(now, ready)
            gcra.take(1.0, now, waited=waited)
            went.append(now)
    for first, begin in enumerate(went):
        assert sum(at < begin + 0.01 for at in went[first:]) <= 10 * FIRST


@pytest.mark.parametrize("cause", ["", "concurrency", "tokens"])
def test_a_wait_for_something_else_tries_nothing(cause):
    """A program whose calls wait for free slots, or for tokens, would be refused once it sends more."""
    pacer = Pacer(Limits(rpm=LIMIT * 60), 0.0)
    for now in range(1, 60):
        went = 0
        while pacer.ready_at(need := Need(waited_for=cause), now)[0] <= now:
            pacer.admit(need, now)
            went += 1
        assert went <= LIMIT * (BURST + MISSED) + 1


def test_a_stall_now_and_then_tries_nothing():
    """A computer that sleeps at times would have its provider refuse calls."""
    gcra, now, most = Steady(10.0 * USE, BURST, 0.0), 0.0, 0.0
    for _ in range(5_000):
        now = max(now, ready) if (ready := gcra.ready_at(1.0)) > now else now
        if int(now) % 120 == 0:
            now += 1.2
        gcra.take(1.0, now, waited=True)
        most = max(most, gcra.tat - now)
    assert most <= FIRST


def test_a_pause_lasts_as_long_as_the_provider_named_although_more_goes_at_once():
    """The first call after a pause would come early, and be refused again."""
    gcra = Steady(LIMIT * USE, BURST, 0.0)
    blocked(gcra, [1.0], 60.0)
    gcra.rest(100.0)
    assert gcra.ready_at(1.0) >= 100.0
    gcra.begin(80.0)
    assert gcra.ready_at(1.0) >= 80.0
