"""A known limit of which nobody tells how much may go at once: what is tried ahead, and what never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.pacing.ahead import BURST, LOT, TRIAL, TRIED, Trial, at_once
from flatout.policies.pacing.axis import USE
from flatout.policies.pacing.gcra import Gcra

GAP = st.floats(0, 40)


def spend(gcra: Gcra, costs: list[float], now: float = 0.0, gaps: list[float] | None = None) -> list[float]:
    """When each cost is let in, first come, first served."""
    times = []
    for place, cost in enumerate(costs):
        now += gaps[place] if gaps is not None else 0.0
        now = max(now, gcra.ready_at(cost))
        gcra.take(cost, now)
        times.append(now)
    return times


def test_some_seconds_of_a_rate_go_ahead():
    """A job of ten calls would wait for each of them, although the provider has room for all."""
    times = spend(Trial(1.0, BURST, 0.0), [1.0] * 10)
    assert [at for at in times if at < 0.5] == [0.0] * int(TRIED)
    assert times[-1] == pytest.approx(10 - TRIED - 1, abs=1)


def test_what_goes_ahead_goes_a_few_calls_at_a_time():
    """A provider that counts by the second would refuse hundreds before the first refusal is heard of."""
    rate = 500.0
    times = spend(Trial(rate, BURST, 0.0), [1.0] * 400)
    for begin in (0.0, 0.1, 0.3):
        sent = sum(begin <= at < begin + 0.1 for at in times)
        assert sent <= 0.1 * rate + BURST * rate * (begin == 0.0) + 2 * LOT


def test_nothing_goes_ahead_once_a_trial_has_ended():
    """Each refusal would be followed by as many again."""
    trial = Trial(10.0, BURST, 0.0)
    spend(trial, [1.0] * 5)
    trial.end()
    times = spend(trial, [1.0] * 20, 0.1)
    assert times[-1] >= (25 - 10 * BURST - 1) / 10.0


@given(st.floats(1, 500), st.lists(st.tuples(GAP, st.floats(0.01, 4.0)), min_size=1, max_size=80))
def test_no_minute_gets_more_than_its_limit_while_it_is_tried(rate, calls):
    """A provider that counts by the minute would refuse at its end what was sent ahead at its beginning."""
    costs = [share * rate for _, share in calls]
    times = spend(Trial(rate * USE, BURST, 0.0), costs, gaps=[gap for gap, _ in calls])
    for first, begin in enumerate(times):
        inside = sum(cost for at, cost in zip(times[first:], costs[first:], strict=True) if at < begin + 60)
        assert inside <= 60 * rate + costs[first] + 2 * max(costs)


@given(st.integers(600, 30_000))
def test_a_first_minute_of_small_calls_stays_below_the_limit(rpm):
    """Each run would be refused once, near the end of its first minute."""
    times = spend(Trial(rpm / 60 * USE, BURST, 0.0), [1.0] * int(rpm * 1.5))
    for begin in (0.0, 1.0, TRIAL - 1, TRIAL, TRIAL + 5):
        assert sum(begin <= at < begin + 60 for at in times) <= rpm


def test_a_small_call_need_not_wait_for_a_large_one_s_turn():
    """Short questions would wait behind each long document that is tried ahead."""
    trial = Trial(1_000.0, BURST, 0.0)
    spend(trial, [300.0] * 6)
    small, large = trial.ready_at(1.0), trial.ready_at(300.0)
    assert small < 0.001
    assert large > 10 * small


@pytest.mark.parametrize(("given", "expected"), [(0.1, 0.1), (0.2, 0.2), (1.0, 0.7), (60.0, 59.7)])
def test_a_given_burst_is_used_but_for_a_little(given, expected):
    """A provider's clock and ours would have to agree to the tenth of a second."""
    assert at_once(given) == pytest.approx(expected)
