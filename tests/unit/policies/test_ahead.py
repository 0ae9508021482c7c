"""A known limit, where nobody says how much may go at once: what is tried ahead, and what never is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.pacing.ahead import LOT, MINUTE, TRIED, Trial, at_once
from flatout.policies.pacing.axis import USE, Axis
from flatout.policies.pacing.gcra import BURST, Gcra
from flatout.policies.pacing.trials import Trials

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
    """A provider that counts by the second would refuse hundreds before the first refusal arrives."""
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
    for begin in (0.0, 1.0, MINUTE - 6, MINUTE - 5, MINUTE):
        assert sum(begin <= at < begin + 60 for at in times) <= rpm


def test_a_small_call_need_not_wait_for_a_large_one_s_turn():
    """Short questions would wait behind each long document that is tried ahead."""
    trial = Trial(1_000.0, BURST, 0.0)
    spend(trial, [300.0] * (LOT + 1))
    small, large = trial.ready_at(1.0), trial.ready_at(300.0)
    assert small < 0.001
    assert large > 10 * small


@pytest.mark.parametrize(("given", "expected"), [(0.1, 0.1), (0.2, 0.2), (1.0, 0.7), (60.0, 59.7)])
def test_a_given_burst_is_used_but_for_a_little(given, expected):
    """A provider's clock and ours would have to agree to the tenth of a second."""
    assert at_once(given) == pytest.approx(expected)


def silent(rate: float = 10.0, **more: Any) -> Trial:
    """A trial that has begun, and whose first answer said nothing of the limit."""
    trial = Trial(rate, BURST, 0.0, **more)
    trial.take(1.0, 0.0)
    trial.answered(0.0)
    return trial


def test_a_whole_minute_goes_ahead_where_nothing_is_told_and_nothing_refused():
    """Users who state the right limit would wait a minute for a job that takes seconds if they state nothing."""
    times = spend(silent(), [1.0] * 500, 0.5)
    assert times[-1] <= 10.0


def test_before_the_first_answer_no_more_than_two_seconds_go_ahead():
    """A share of a limit would be spent in a lump before headers can tell that it is one."""
    trial = Trial(10.0, BURST, 0.0)
    times = spend(trial, [1.0] * 100)
    assert sum(at <= 1.0 for at in times) <= 10.0 * (1.0 + TRIED) + 1


@pytest.mark.parametrize("rate", [1.0, 10.0, 100.0])
def test_a_refusal_costs_few_calls_however_far_ahead_it_comes(rate):
    """All that a burst has gained would be lost to hundreds of refusals."""
    times = spend(silent(rate), [1.0] * int(rate * 50), 0.5)
    assert max(sum(begin < at <= begin + 0.02 for at in times[40:]) for begin in times[40:]) <= LOT + 0.02 * rate


def test_a_call_that_went_before_all_was_earned_shows_nothing_of_how_far_ahead_it_went():
    """A program that blocks its loop would believe that its provider takes several seconds' calls at once."""
    axis = Axis("requests", 600.0, MINUTE, 0.0, known=True, follows=True, gcra=Trial)
    axis.take(1.0, 0.0)
    mark = axis.taken
    axis.take(1.0, 5.0)
    assert axis.ahead(mark, 1.0, 0.0) == 0.0
    assert axis.ahead(axis.taken, 1.0, 5.0) == pytest.approx(0.0, abs=0.01)


def test_little_that_was_never_refused_is_not_remembered():
    """The next run would send a second's calls at once to a provider that counts by ten seconds, and be refused."""
    trials = Trials(even=False)
    gcra = trials.gcra("rpm")
    axis = Axis("requests", 600.0, MINUTE, 0.0, known=True, follows=True, gcra=gcra)
    axis.take(1.0, 0.0)
    axis.trial.answered(TRIED / 2)
    assert trials.found({"rpm": axis})[0] == {}
    axis.trial.answered(TRIED + 1)
    assert trials.found({"rpm": axis})[0] == {"rpm": TRIED + 1}


def test_what_earlier_runs_found_to_be_taken_goes_at_once_and_no_more_where_they_were_refused():
    """Each run would find it out anew."""
    times = spend(Trial(10.0, BURST, 0.0, depth=20.0, tries=False), [1.0] * 300)
    assert 199 <= sum(at == 0.0 for at in times) <= 200
    assert times[-1] >= 9.9


@pytest.mark.parametrize("idle", [-5.0, 0.0, 15.0])
def test_no_more_goes_at_once_than_was_earned_since_the_last_run(idle):
    """The same command twice in a minute would send twice the limit."""
    trial = Trial(10.0, BURST, 0.0, depth=40.0, idle=idle)
    assert not trial.open
    assert sum(at == 0.0 for at in spend(trial, [1.0] * 300)) <= 10.0 * max(idle, BURST)


def test_a_refusal_tells_how_deep_a_bucket_is():
    """The next run would try again, and be refused again."""
    trial = silent()
    spend(trial, [1.0] * 100, 0.5)
    trial.refused(8.0, 3.0)
    assert 6.0 <= trial.depth < 8.0
    assert spend(trial, [1.0] * 20, 3.0)[-1] == pytest.approx(5.0, abs=0.2)


@given(
    st.floats(1, 500),
    st.lists(st.tuples(GAP, st.floats(0.01, 4.0)), min_size=1, max_size=80),
    st.integers(0, 80),
    st.floats(0, 60),
)
def test_no_minute_gets_more_than_its_limit_however_a_trial_goes_on(rate, calls, refused, taken):
    """A provider that counts by the minute would refuse what a run, or the next one, sends within it."""
    costs = [share * rate for _, share in calls]
    trial = Trial(rate * USE, BURST, 0.0, depth=taken)
    trial.take(0.0, 0.0)
    trial.answered(0.0)
    gaps = [gap for gap, _ in calls]
    times = spend(trial, costs[:refused], gaps=gaps)
    now = times[-1] if times else 0.0
    if refused < len(costs):
        trial.refused(1.0, now)
    times += spend(trial, costs[refused:], now, gaps[refused:])
    for first, begin in enumerate(times):
        inside = sum(cost for at, cost in zip(times[first:], costs[first:], strict=True) if at < begin + 60)
        assert inside <= 60 * rate + costs[first] + 2 * max(costs)
