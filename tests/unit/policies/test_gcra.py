"""One limited quantity, paced."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.pacing.axis import USE
from flatout.policies.pacing.gcra import BURST, MISSED, REST, Gcra, Steady

rates = st.floats(0.01, 10_000)
bursts = st.floats(0.001, 60)
costs = st.floats(0.001, 100)
gaps = st.floats(0, 100)


def admitted(gcra: Gcra, arrivals: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """When each (gap, cost) is let in, first come, first served."""
    now, found = 0.0, []
    for gap, cost in arrivals:
        now = max(now + gap, gcra.ready_at(cost))
        gcra.take(cost, now)
        found.append((now, cost))
    return found


def late(gcra: Gcra, cost: float, delays: list[float]) -> list[tuple[float, float]]:
    """When each of many costs is admitted, for a sender that comes this much too late."""
    now, found = 0.0, []
    for delay in delays:
        if (ready := gcra.ready_at(cost)) > now:
            now = ready + delay
        gcra.take(cost, now)
        found.append((now, cost))
    return found


@pytest.mark.parametrize("stall", [0.05, 0.2, 0.4])
def test_a_timer_that_wakes_up_late_costs_nothing(stall):
    """On a busy computer a tenth of a known limit would lie idle."""
    delays = [stall if number % 200 == 100 else 0.0 for number in range(2_000)]
    ends = late(Steady(10.0, BURST, 0.0), 1.0, delays)[-1][0]
    assert ends <= 200.0 + stall


@given(st.floats(10, 10_000), st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_what_is_made_up_for_is_bounded(rate, delays):
    """A minute would get more than its limit after the computer has stood still."""
    got = late(Steady(rate, BURST, 0.0), 1.0, delays)
    for first in range(len(got)):
        for number, (at, _) in enumerate(got[first:], 1):
            seconds = at - got[first][0]
            assert number - 1 <= rate * (seconds + BURST + MISSED) + 1e-6


@given(st.integers(4, 1_000), st.lists(st.floats(0, 2), min_size=1, max_size=200))
def test_no_second_gets_more_than_its_share_once_it_has_to(limit, delays):
    """A provider that counts by the second would refuse what goes when a program wakes up."""
    gcra = Steady(limit * USE, BURST, 0.0)
    gcra.keep_seconds()
    times = [at for at, _ in late(gcra, 1.0, delays)]
    for first, begin in enumerate(times):
        assert sum(at < begin + 1.0 for at in times[first:]) <= limit


@pytest.mark.parametrize(("block", "least"), [(0.3, 0.74), (0.45, 0.65), (0.7, 0.57), (1.0, 0.4)])
def test_a_program_that_blocks_its_loop_again_and_again_uses_what_a_second_allows(block, least):
    """It would use a fifth to a half of a limit that a simple script uses to the full."""
    gcra, now, times = Steady(10.0 * USE, BURST, 0.0), 0.0, []
    gcra.keep_seconds()
    while now < 60.0:
        now += block
        while gcra.ready_at(1.0) <= now:
            gcra.take(1.0, now)
            times.append(now)
    assert len(times) >= least * 600
    for first, begin in enumerate(times):
        assert sum(at < begin + 1.0 for at in times[first:]) <= 10


def test_what_was_missed_once_goes_little_by_little():
    """A single stall of a busy computer would have a provider that counts by the second refuse calls."""
    gcra = Steady(50.0 * USE, BURST, 0.0)
    times = [at for at, _ in late(gcra, 1.0, [0.4 if number == 50 else 0.0 for number in range(100)])]
    assert sum(times[50] <= at < times[50] + 0.01 for at in times) <= BURST * 50.0 + 1


def test_a_burst_that_is_known_still_goes_at_once_after_a_refusal():
    """One stray refusal would have a job wait that its provider takes at once."""
    gcra = Steady(10.0, 60.0, 0.0)
    gcra.keep_seconds()
    gcra.tat = 0.0
    for _ in range(500):
        assert gcra.ready_at(1.0) <= 0.0
        gcra.take(1.0, 0.0)


def test_what_was_missed_before_a_pause_is_forgotten():
    """A provider that has just refused would get more than the limit's even pace."""
    gcra = Steady(10.0, BURST, 0.0)
    late(gcra, 1.0, [1.0] * 5)
    gcra.begin(100.0)
    assert gcra.missed == 0.0


def test_what_had_to_rest_makes_up_for_nothing_for_a_while():
    """Programs that use one limit without knowing of each other would press upon it, or one refusal slow a run."""
    gcra = Steady(10.0, BURST, 0.0)
    gcra.rest(1.0)
    late(gcra, 1.0, [1.0] * 5)
    assert gcra.missed == 0.0
    late(gcra, 1.0, [REST + 2.0, 1.0])
    assert gcra.missed > 0.0


@given(rates, bursts, st.lists(st.tuples(gaps, costs), min_size=1, max_size=40))
def test_no_window_exceeds_its_limit(rate, burst, arrivals):
    """The provider would refuse calls although its headers named the limit."""
    got = admitted(Gcra(rate, burst, 0.0), arrivals)
    for first in range(len(got)):
        total = 0.0
        for at, cost in got[first:]:
            total += cost
            ahead = max(burst, cost / rate)  # a cost above the burst is let in once all before it is earned
            assert total <= rate * (at - got[first][0] + ahead) * (1 + 1e-9) + got[first][1] + 1e-6


@given(rates, bursts, st.integers(1, 40))
def test_a_busy_limit_is_used_to_the_full(rate, burst, count):
    """Half of what was paid for would lie idle."""
    cost = rate * burst / 2
    last = admitted(Gcra(rate, burst, 0.0), [(0.0, cost)] * count)[-1][0]
    assert last <= count * cost / rate * (1 + 1e-9) + burst


@given(rates, bursts, costs)
def test_it_starts_empty(rate, burst, cost):
    """Two starts within a minute would use twice the limit."""
    assert Gcra(rate, burst, 100.0).ready_at(cost) == pytest.approx(100 + min(burst, cost / rate))


@given(rates, bursts, st.lists(st.tuples(gaps, costs), max_size=10), costs)
def test_what_is_given_back_was_never_taken(rate, burst, arrivals, cost):
    """Overestimated tokens would slow the run for ever."""
    gcra = Gcra(rate, burst, 0.0)
    admitted(gcra, arrivals)
    now = gcra.tat + 1 if arrivals else 0.0
    gcra.take(cost, now)
    after = gcra.tat
    gcra.take(cost, now)
    gcra.give(cost)
    assert gcra.tat == pytest.approx(after)
    gcra.give(-cost)
    assert gcra.tat == pytest.approx(after + cost / rate)


@given(rates, bursts, st.floats(0, 1_000))
def test_an_idle_limit_saves_up_its_burst_and_no_more(rate, burst, idle):
    """After a pause everything would be sent at once."""
    gcra = Gcra(rate, burst, 0.0)
    now = burst + idle
    cost = rate * burst / 10
    sent = 0
    while gcra.ready_at(cost) <= now:
        gcra.take(cost, now)
        sent += 1
        assert sent <= 11
    assert sent >= 9


@given(rates, rates, bursts, costs)
def test_a_new_rate_holds_at_once_and_debts_stay_debts(old, new, burst, cost):
    """A limit that was lowered while the program runs would be overrun."""
    gcra = Gcra(old, burst, 0.0)
    gcra.take(cost, 0.0)
    owed = gcra.tat * old
    gcra.set_rate(new, 0.0)
    assert gcra.rate == new
    assert gcra.tat * new == pytest.approx(owed)


def test_a_cost_above_the_burst_waits_its_turn_and_passes():
    """One large prompt would wait for ever."""
    gcra = Gcra(10.0, 0.2, 0.0)
    assert gcra.ready_at(1_000) == 0.2
    gcra.take(1_000, 0.2)
    assert gcra.ready_at(1) == pytest.approx(0.2 + 100 - 0.1)
    assert math.isfinite(gcra.tat)


def test_its_repr_shows_its_state():
    """A stuck program could not be looked into."""
    assert repr(Gcra(10.0, 0.2, 1.0)) == "Gcra(rate=10/s, burst=0.2s, tat=1.200)"
