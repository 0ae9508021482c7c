"""Finding by trying a rate that no header names."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.policies.pacing.unknown import RateSearch
from flatout.policies.pacing.unknown.climb import START
from flatout.policies.pacing.unknown.known import ALARM, SLOWEST
from flatout.testing._limits import Bucket, Window
from tests.support.drawn_targets import LIMITS, Drawn, used


def search_against(
    limit: Window,
    seconds: float,
    *,
    strays: float = 0.0,
    search: RateSearch | None = None,
    began: float = 0.0,
    told: bool = True,
) -> tuple[RateSearch, list[float], list[float]]:
    """Send flat out to a target that answers in an instant. Returns when requests were accepted, and when refused."""
    search = RateSearch(began) if search is None else search
    random, now = Random(1), began
    accepted: list[float] = []
    refused: list[float] = []
    while (at := max(now, search.ready_at(now))) < began + seconds:
        if at > now:
            now = at
            continue
        search.take(now)
        if random.random() < strays:
            refused.append(now)
            search.refused(search.mark, search.ended, now, 1.0 if told else None, now)
        elif (wait := limit.wait(now, 1)) > 0:
            refused.append(now)
            search.refused(search.mark, search.ended, now, math.ceil(wait) if told else None, now)
        else:
            limit.take(now, 1)
            accepted.append(now)
            search.accepted(search.mark, search.ended, now)
    return search, accepted, refused


def after(times: list[float], since: float) -> int:
    return sum(at >= since for at in times)


@pytest.mark.parametrize("server", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("rpm", [600, 6_000])
@pytest.mark.parametrize("told", [True, False], ids=["told", "bare"])
def test_a_limit_is_used_and_seldom_hit(server, rpm, told):
    """One call in a hundred would be refused for ever, or a tenth of the limit never be used."""
    _, accepted, refused = search_against(server(rpm), 660.0, told=told)
    assert after(accepted, 60.0) >= 0.96 * 10 * rpm
    assert after(refused, 60.0) <= 0.005 * 10 * rpm


@pytest.mark.parametrize("server", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("strays", [0.01, 0.05])
def test_strays_do_not_slow_a_run_down(server, strays):
    """A gateway that refuses one in twenty at random would bring a run to a crawl."""
    _, accepted, refused = search_against(server(3_000), 660.0, strays=strays)
    assert after(accepted, 60.0) >= 0.97 * 30_000 * (1 - strays)
    assert after(refused, 60.0) <= (strays + 0.02) * 30_000


def test_without_limits_a_job_of_a_thousand_calls_is_sent_in_seconds():
    """A short job would be slower than the script that it replaces."""
    search, now = RateSearch(0.0), 0.0
    while search.mark < 1_000:
        now = max(now, search.ready_at(now))
        search.take(now)
        search.accepted(search.mark, search.ended, now)
    assert now < 3.0


def test_nobody_gets_more_than_64_before_the_first_word():
    """A wrong key, or a model that does not exist, would cost a thousand requests."""
    search, now = RateSearch(0.0), 0.0
    while now < 0.99:
        now = max(now, search.ready_at(now))
        if now < 0.99:
            search.take(now)
    assert search.mark == START


@pytest.mark.parametrize("rpm", [20, 30, 60])
@pytest.mark.parametrize("burst", [0.5, 1.0, 30.0])
def test_the_first_refusals_of_a_low_limit_are_few(rpm, burst):
    """A limit of twenty a minute would be stormed by sixty requests."""
    _, _, refused = search_against(Bucket(rpm, burst=burst, full=True), 5.0)
    assert len(refused) <= 6


def test_a_limit_that_doubles_is_found_within_five_minutes():
    """A raised limit would be of no use until the next run."""
    limit = Bucket(1_200, burst=1.0, full=True)
    search, _, _ = search_against(limit, 120.0)
    limit.change(120.0, 2_400)
    search_against(limit, 300.0, search=search, began=120.0)
    assert search.rate >= 0.95 * 40


def test_a_limit_that_halves_is_followed_within_a_minute():
    """A lowered limit would be run into all afternoon."""
    limit = Bucket(1_200, burst=1.0, full=True)
    search, _, _ = search_against(limit, 300.0)
    limit.change(300.0, 600)
    _, _, refused = search_against(limit, 300.0, search=search, began=300.0)
    assert after(refused, 360.0) <= 0.004 * 2_400
    assert 0.9 * 10 <= search.rate <= 1.05 * 10


def test_it_begins_where_an_earlier_run_ended():
    """Every run would pay for the search anew."""
    _, accepted, refused = search_against(Bucket(2_400, burst=1.0, full=True), 20.0, search=RateSearch(0.0, 36.0))
    assert len(accepted) >= 0.85 * 20 * 40
    assert len(refused) <= 5


def test_a_lone_refusal_is_its_calls_own_affair_whatever_it_tells():
    """One 429 that names half a minute would stop a run of thousands for half a minute."""
    search, now = RateSearch(0.0), 0.0
    for number in range(400):
        now = max(now, search.ready_at(now))
        search.take(now)
        if number in (50, 150, 250):
            assert not search.refused(search.mark, search.ended, now, 30.0, now + 0.05)
        else:
            search.accepted(search.mark, search.ended, now)
    assert now < 2.0


def test_refusals_in_a_row_are_everybodys_and_one_goes_to_see():
    """Each of a thousand callers would find out for itself."""
    search, now, marks = RateSearch(0.0), 0.0, []
    for _ in range(40):
        now = max(now, search.ready_at(now))
        search.take(now)
        marks.append(search.mark)
    everybody = [search.refused(mark, 0, now, None, now + 0.05) for mark in marks[-int(ALARM) :]]
    assert everybody == [False] * (int(ALARM) - 1) + [True]
    looked = 0
    while now < 30.0:
        now = max(now, search.ready_at(now))
        search.take(now)
        search.refused(search.mark, search.ended, now, None, now)
        looked += 1
    assert looked <= 9


def test_one_change_answers_a_whole_episode():
    """Sixty refusals at once would bring the rate down to nothing."""
    search, now = RateSearch(0.0, 100.0), 0.0
    for _ in range(300):
        now = max(now, search.ready_at(now))
        search.take(now)
    for mark in range(search.mark - 59, search.mark + 1):
        search.refused(mark, 0, now - 0.4, None, now)
    now = search.ready_at(now)
    search.take(now)
    search.accepted(search.mark, search.ended, now)
    assert search.rate >= 0.9 * 100


def test_it_never_sends_faster_than_the_ceiling():
    """What the user allows would be exceeded by what the provider accepts."""
    search, now = RateSearch(0.0, 4.0, ceiling=5.0), 0.0
    for _ in range(600):
        now = max(now, search.ready_at(now))
        search.take(now)
        search.accepted(search.mark, search.ended, now)
    assert search.rate <= 5.0
    assert now >= 600 / 5.0 - 1


@pytest.mark.parametrize(
    "seed", [*range(0, 80, 2), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(80, 400, 2))]
)
def test_no_target_is_stormed_or_forgotten(seed):
    """On one kind of server a run would be refused without end, or stand still."""
    drawn = Drawn(seed)
    seconds = max(120.0, min(600.0, 2_000 / drawn.rate))
    sent, accepted, refused = used(drawn, seconds)
    most = 60 + drawn.rate * 6 + (0.3 + drawn.strays) * sent
    assert refused <= most, drawn
    assert accepted >= min(0.1 * drawn.share * seconds, 2_000), drawn


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["take", "accepted", "refused"]),
            st.floats(0, 20),
            st.floats(0, 5),
            st.none() | st.floats(0, 1e4),
            st.integers(1, 20),
        ),
        max_size=60,
    )
)
def test_nothing_that_happens_in_any_order_breaks_it(events):
    """An answer that comes late would end the run with a traceback, or one bad minute leave it at a standstill."""
    search, now, open_ = RateSearch(0.0), 0.0, []
    for what, gap, ago, told, count in events:
        now += gap
        if what == "take":
            for _ in range(count):
                now = max(now, search.ready_at(now))
                search.take(now)
                open_.append(search.mark)
        elif open_ and what == "accepted":
            search.accepted(open_.pop(0), 0, now)
        elif open_:
            search.refused(open_.pop(), 0, max(0.0, now - ago), told, now)
        assert search.rate >= SLOWEST * 0.999
        if search.slots is None:
            assert search.ready_at(now) <= now + 1 / SLOWEST + 2.0 ** (len(events) + 1)
