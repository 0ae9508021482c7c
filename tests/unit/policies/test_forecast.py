"""The pure parts of a forecast: the choice of a sample, sums, slow answers, the time on the wall, and drifts."""

from __future__ import annotations

import math
from random import Random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.policies.forecast.drift import ENOUGH, CostDrift, TimeDrift
from flatout.policies.forecast.latency import SLICES, Latency
from flatout.policies.forecast.strata import LEAST, Entry, Strata, mark_of
from flatout.policies.forecast.totals import Observed, Rest, drawn_again, joined, per_call, sums, widened
from flatout.policies.forecast.wall import Job, wall
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Need
from flatout.values import Limits, Usage
from flatout.values.plan import Range


def strata_of(sizes: list[float], most: int = 50, done: frozenset[int] = frozenset()) -> Strata[int]:
    strata: Strata[int] = Strata(most)
    for index, size in enumerate(sizes):
        strata.of(size).add(Entry(mark_of(index), index, size, index), done=index in done)
    return strata


def observed(size: float = 100.0, seconds: float = 1.0, output: float = 50.0, cost: float = 0.0) -> Observed:
    return Observed(size, size, output, 0.0, 0.0, cost, seconds)


# -- the sample


@given(
    st.lists(st.floats(1.0, 1e5), min_size=1, max_size=400),
    st.integers(1, 60),
    st.sets(st.integers(0, 400), max_size=50),
)
@settings(max_examples=60, deadline=None)
def test_every_row_is_in_one_stratum_and_the_sample_has_its_size(sizes, sample, done):
    """Rows would be forgotten, or counted twice, and the forecast be wrong by as much."""
    parts = strata_of(sizes, sample, frozenset(done)).split(sample)
    assert sum(part.rows for part in parts) == len(sizes)
    assert math.isclose(sum(part.size for part in parts), sum(sizes))
    assert sum(part.done for part in parts) == len(done & set(range(len(sizes))))
    chosen = [entry.index for part in parts for entry in part.sample]
    assert len(chosen) == len(set(chosen)) == min(sample, len(sizes))


def test_a_sample_has_short_and_long_prompts():
    """The few long prompts that cost most would be missing from the sample."""
    parts = strata_of([10.0] * 950 + [5_000.0] * 50).split(50)
    assert len(parts) == 2
    assert all(part.share >= LEAST for part in parts)
    assert parts[1].share > 20  # they are a twentieth of the rows, and nearly all of the text


def test_a_larger_sample_has_the_rows_of_the_smaller_one():
    """A plan that is made again with a larger sample would pay for other rows."""
    sizes = [float(10 + n % 3) for n in range(500)]
    small = {entry.index for part in strata_of(sizes, 20).split(20) for entry in part.sample}
    large = {entry.index for part in strata_of(sizes, 60).split(60) for entry in part.sample}
    assert small < large


def test_a_sample_is_no_systematic_choice():
    """Inputs are sorted or repeat in cycles: every tenth row would be no fair sample."""
    chosen = [entry.index for part in strata_of([10.0] * 10_000, 1_000).split(1_000) for entry in part.sample]
    assert abs(mean(chosen) - 5_000) < 300
    for cycle in (2, 7, 10):
        assert max(sum(index % cycle == rest for index in chosen) for rest in range(cycle)) < 1_000 / cycle * 1.35


# -- sums


def test_what_grows_with_the_length_follows_the_known_lengths():
    """The cost of long prompts would be taken from short ones."""
    rest = Rest(1_000, 1_000_000.0, [1_000.0], [observed(size=100.0), observed(size=200.0)])
    assert sums([rest], Random(1).random).input == pytest.approx(1_000_000.0)


def test_the_spread_of_a_sum_shrinks_with_the_sample():
    """A sample of five would be as sure as one of five hundred."""
    random = Random(2)

    def spread(count: int) -> float:
        rests = [Rest(100_000, 1e7, [], [observed(output=random.lognormvariate(4.0, 0.6)) for _ in range(count)])]
        drawn = Range.of([sums(drawn_again(rests, random.random), random.random).output for _ in range(300)])
        return (drawn.p90 - drawn.p10) / drawn.p50

    assert spread(10) > 2.0 * spread(200)


def test_a_stratum_without_answers_is_joined_to_its_neighbour():
    """Rows whose sample has failed would cost nothing in the forecast."""
    first, second = Rest(10, 100.0, [10.0], [observed(), observed()]), Rest(5, 500.0, [100.0], [])
    (whole,) = joined([first, second])
    assert (whole.rows, whole.size, len(whole.observed)) == (15, 600.0, 2)


def test_a_wider_range_keeps_its_middle():
    """The forecast itself would move, and not only its range."""
    assert widened([1.0, 2.0, 4.0])[1] == 2.0
    assert widened([1.0, 2.0, 4.0])[2] > 4.0
    assert widened([0.0, 0.0, 1.0]) == [0.0, 0.0, 1.0]


def test_a_call_costs_by_its_length_and_by_itself():
    """A run could not compare the rows that are over with what was forecast of them."""
    each = Observed(100.0, 100.0, 50.0, 0.0, 0.2, 0.3, 1.0)
    assert per_call([Rest(10, 1_000.0, [], [each])]) == pytest.approx((0.002, 0.3))


# -- slow answers


def test_many_calls_have_slower_ones_than_few():
    """The end of a job would be forecast by the slowest of the sample."""
    latency = Latency([Random(3).lognormvariate(0.0, 0.5) for _ in range(50)])
    assert latency.slowest(10_000, 0.5) > latency.slowest(50, 0.5) > latency.slowest(1, 0.5)
    assert latency.quantile(0.5) < latency.quantile(0.99) <= latency.quantile(0.9999)


@pytest.mark.parametrize("calls", [1, 7, 500])
def test_the_last_answer_comes_after_the_last_call(calls):
    """A job of one call would take no time, or one of five hundred the time of one."""
    latency = Latency([1.0, 2.0, 3.0])
    after = latency.after_the_last(10.0, calls, [0.5] * (SLICES + 1))
    assert after >= 2.0


# -- the time on the wall


def times(limits: Limits, calls: int, seconds: float = 1.0, most: int = 1_500, output: float = 50.0) -> float:
    random = Random(4)
    rests = [Rest(calls, calls * 100.0, [100.0], [observed(seconds=seconds, output=output)] * 5)]
    return wall([Pacer(limits, 0.0)], Job(rests, random.random), 0.0, most).seconds


@pytest.mark.parametrize("calls", [500, 20_000, 1_000_000])
@pytest.mark.parametrize(
    ("limits", "per_call"),
    [
        (Limits(rpm=600), 0.1),
        (Limits(tpm=90_000), 0.1),
        (Limits(rpm=6_000, tpm=90_000), 0.1),
        (Limits(concurrency=10), 0.1),
        (Limits(rpm=60_000, concurrency=10), 0.1),
    ],
    ids=str,
)
def test_the_limit_that_binds_decides_the_time(limits, per_call, calls):
    """A forecast would follow one limit, and the job wait for another; or a large job be unlike a small one."""
    assert times(limits, calls) == pytest.approx(calls * per_call, rel=0.04, abs=2.0)


def test_targets_that_stand_for_a_model_share_its_calls():
    """A job with two keys would be forecast as if it had one."""
    pacers = [Pacer(Limits(rpm=600), 0.0), Pacer(Limits(rpm=1_200), 0.0)]
    job = Job([Rest(3_000, 300_000.0, [100.0], [observed()])], Random(4).random)
    assert wall(pacers, job, 0.0, 1_500).seconds == pytest.approx(100.0, rel=0.04)


def test_a_job_without_a_limit_takes_as_long_as_its_answers():
    """A few calls that all go at once would be forecast one after another."""
    assert times(Limits(rpm=100_000, burst=60.0), 50, seconds=3.0) == pytest.approx(3.0, abs=0.5)


def test_what_is_tried_out_does_not_change_the_pacer():
    """Making a plan would use up the limits that the run needs."""
    pacer = Pacer(Limits(rpm=600, tpm=90_000, concurrency=5), 0.0)
    before = repr(pacer), pacer.ready_at(Need(100.0, 50.0), 0.0)
    wall([pacer], Job([Rest(300, 30_000.0, [100.0], [observed()])], Random(5).random), 0.0, 300)
    assert (repr(pacer), pacer.ready_at(Need(100.0, 50.0), 0.0)) == before


def test_a_pacer_that_searches_can_be_tried_out():
    """Where no limit is known, there would be no forecast of the time."""
    pacer = Pacer(Limits(), 0.0)
    need = Need(100.0, 50.0)
    pacer.admit(need, 0.0)
    pacer.answered(need, Usage(input_tokens=100, output_tokens=50), {}, 0.0, 1.0, 1.0)
    random = Random(6)
    found = wall([pacer], Job([Rest(100_000, 1e7, [100.0], [observed()])], random.random), 1.0, 1_500)
    assert 1.0 < found.seconds < 100_000


# -- drifts


def test_a_run_that_costs_more_is_said_once():
    """A bill of twice the forecast would come as a surprise, or the same line a thousand times."""
    random, drift = Random(7), CostDrift(Range(0.9, 1.0, 1.1))
    said = [drift.heard(0.001, 0.002 * random.uniform(0.8, 1.2)) for _ in range(1_000)]
    (told,) = [each for each in said if each is not None]
    assert told == pytest.approx(2.0, rel=0.1)
    assert said.index(told) >= ENOUGH - 1


def test_a_run_within_its_range_says_nothing():
    """Every run would cry wolf."""
    random, drift = Random(8), CostDrift(Range(0.9, 1.0, 1.1))
    assert not any(drift.heard(0.001, 0.001 * random.lognormvariate(-0.18, 0.6)) for _ in range(1_000))


def test_a_sorted_input_is_no_drift():
    """An input that begins with its longest rows would seem to cost many times its forecast."""
    drift = CostDrift(Range(0.9, 1.0, 1.1))
    assert not any(drift.heard(n * 2e-6, n * 2e-6) for n in range(1_000, 0, -1))


def test_a_run_that_takes_longer_is_said_once():
    """Somebody who waits would not hear that it takes twice as long."""
    drift = TimeDrift(Range(90.0, 100.0, 110.0), 1_000)
    said = [drift.heard(n, 0.2 * n) for n in range(1, 1_001)]
    assert [each for each in said if each is not None] == [pytest.approx(200.0)]
    steady = TimeDrift(Range(90.0, 100.0, 110.0), 1_000)
    assert not any(steady.heard(n, 0.1 * n) for n in range(1, 1_001))


def test_an_outage_is_no_drift():
    """Every outage, and every pause by the user, would be taken for a wrong plan."""
    stands = 0.0
    drift = TimeDrift(Range(90.0, 100.0, 110.0), 1_000, lambda: stands)
    assert not any(drift.heard(n, 0.1 * n) for n in range(1, 501))
    stands = 300.0
    assert not any(drift.heard(n, 300.0 + 0.1 * n) for n in range(501, 1_001))
    slow = TimeDrift(Range(90.0, 100.0, 110.0), 1_000, lambda: stands)
    assert slow.heard(500, 400.0) == pytest.approx(200.0)


def test_a_range_has_its_quantiles():
    """p10 and p90 would be something else than they say."""
    range_ = Range.of([float(n) for n in range(1, 100)])
    assert range_ == Range(10.0, 50.0, 90.0)
    assert range_.holds(10.0)
    assert not range_.holds(9.0)
    assert Range.of([3.0]) == Range(3.0, 3.0, 3.0)
