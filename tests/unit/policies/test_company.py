"""A limit that several programs search for at once, without knowing of each other."""

from __future__ import annotations

from functools import cache
from random import Random
from statistics import mean

import pytest

from flatout.policies.pacing.unknown.company import Company
from flatout.policies.pacing.unknown.twins import Suspicion, Twins
from tests.support.drawn_targets import LIMITS
from tests.support.several_searches import Minutes, known_side_by_side, side_by_side


@cache
def searching(count: int, name: str) -> Minutes:
    """A quarter of an hour of so many that search for one limit."""
    return side_by_side(count, LIMITS[name](6_000), 15 if count == 8 else 10)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("count", [8, 16])
def test_programs_that_search_for_one_limit_use_it_and_are_seldom_refused(limit, count):
    """Eight runs side by side would be refused a tenth of the time, and more the longer they run."""
    seen = searching(count, limit)
    assert seen.refusals() <= (0.03 if count == 8 else 0.04)  # sixteen at a bucket of a second: 2.4–3.7 %
    assert seen.refusals(since=5) <= 0.02
    assert seen.used(6_000) >= 0.85


@pytest.mark.parametrize("limit", LIMITS)
def test_their_shares_grow_fair_within_minutes(limit):
    """One of eight runs would take nearly all, and the others stand still for the rest of the day."""
    assert searching(8, limit).fairness(since=8) >= 0.5


@pytest.mark.parametrize(
    ("limit", "seeds"),
    [("bucket 1 s", 1), ("sliding", 1), ("fixed", 1), pytest.param("bucket 1 s", 5, marks=pytest.mark.soak)],
)
def test_sixteen_programs_that_are_each_given_the_whole_limit_are_seldom_refused(limit, seeds):
    """The commonest of mistakes would have half of all requests refused, for as long as the runs last."""
    runs = [known_side_by_side(16, LIMITS[limit](6_000), 6_000, 10, seed) for seed in range(seeds)]
    most = 0.05 if limit == "bucket 1 s" else 0.03  # a second's bucket: 2.4–5.4 %
    assert mean(seen.refusals() for seen, _ in runs) <= most
    assert all(seen.used(6_000) >= 0.85 and overruled for seen, overruled in runs)


def test_twins_show_a_limit():
    """A limit that others use too would be taken for strays, and climbed into."""
    twins = Twins(100)
    for mark in (101, 102, 131, 132, 161, 162):
        twins.refused(mark)
    assert twins.limit


def test_strays_never_look_like_others_for_long():
    """A gateway that refuses one in twenty at random would bring a run to a crawl."""
    random, suspicion, shown = Random(3), Suspicion(), 0
    for mark in range(1, 50_001):
        if random.random() < 0.05:
            shown += suspicion.refused(mark, mark, mark // 200)
    assert shown <= 1


def test_a_limit_that_takes_one_at_a_time_ends_the_twins():
    """Every second request to a shallow bucket would be refused."""
    suspicion, refused = Suspicion(), 0
    suspicion.refused(1, 1, 0)
    for mark in range(2, 400):
        if suspicion.twins is not None and not suspicion.twins.first(mark):
            suspicion.refused(mark, mark, 0)
            refused += 1
    assert refused <= 12


def test_a_refusal_costs_a_part_of_the_rate_and_an_episode_costs_no_more():
    """The refusals of one second would bring a rate down to nothing."""
    company = Company(8.0, 0.1, 0, 0.0)
    for mark in range(1, 20):
        company.refused(mark, 20, 1.0)
    assert company.rate == 6.0


def after_strays(seed: int) -> Company:
    """Refuse one in twenty-five at random, whatever the rate."""
    random, company, sent, now = Random(seed), Company(50.0, 0.1, 0, 0.0), 0, 0.0
    while not company.over and sent < 20_000:
        sent, now = sent + 1, now + 1.0 / company.rate
        company.pace(sent, now, 1e9)
        if random.random() < 0.04:
            company.refused(sent, sent, now)
    return company


def test_a_rate_that_was_given_up_for_nothing_comes_back():
    """Strays that were taken for the refusals of a limit would leave a run at a fraction of its rate for ever."""
    ended = [after_strays(seed) for seed in range(20)]
    assert all(company.over for company in ended)
    assert sum(company.limit >= 40.0 for company in ended) >= 14


def test_a_rate_grows_faster_when_nobody_else_is_left():
    """The last of several runs would keep to a sixteenth of the limit."""
    company, now = Company(6.0, 0.1, 0, 0.0), 0.0
    for sent in range(1, 100_000):
        now += 1.0 / company.rate
        company.pace(sent, now, 100.0)
        if company.rate >= 100.0:
            break
    assert now <= 600.0


def test_a_limit_that_is_always_met_at_the_same_rate_is_ones_own():
    """A run that is alone at last would still leave room for others that are gone."""
    company, now, sent = Company(50.0, 0.1, 0, 0.0), 0.0, 0
    while not company.over and now < 3_600.0:
        sent, now = sent + 1, now + 1.0 / company.rate
        company.pace(sent, now, 1e9)
        if company.rate > 100.0:
            company.refused(sent, sent, now)
    assert company.over
    assert company.limit == pytest.approx(100.0, rel=0.02)
