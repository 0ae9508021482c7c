"""One limited quantity: what is known, and what headers say of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.pacing.advertised import Quota
from flatout.policies.pacing.ahead import Trial
from flatout.policies.pacing.axis import USE, Axis
from flatout.policies.pacing.gcra import BURST

limits = st.floats(1, 1e6)
shares = st.lists(st.tuples(st.floats(0, 5), st.floats(0.0001, 0.5)), min_size=1, max_size=60)
numbers = st.none() | st.floats(0, allow_nan=False, allow_infinity=False)
quotas = st.builds(Quota, st.none() | st.floats(1, 1e9), numbers, numbers, st.sampled_from([1.0, 60.0]))


def spend(axis: Axis, arrivals: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """When each (gap, share of the limit) is let in, first come, first served."""
    now, found = 0.0, []
    for gap, share in arrivals:
        cost = max(1e-6, share * axis.limit)
        now = max(now + gap, axis.ready_at(cost, now + gap))
        axis.take(cost, now)
        found.append((now, cost))
    return found


def advertised(limit: float = 600.0) -> Axis:
    return Axis("requests", limit, 60.0, 0.0, known=False)


@given(limits, shares)
def test_no_window_gets_more_than_a_known_limit(limit, arrivals):
    """The provider would refuse calls although the user said how many it takes."""
    got = spend(Axis("tokens", limit, 60.0, 0.0, known=True), arrivals)
    for first, (begin, cost) in enumerate(got):
        inside = sum(spent for at, spent in got[first:] if at < begin + 60)
        largest = max(spent for _, spent in got)
        # one that is larger than the burst goes once all before it is earned, and is earned after
        assert inside <= max(limit, limit * USE + cost + largest) * (1 + 1e-9)


@given(limits, st.integers(20, 200))
def test_small_costs_never_exceed_a_window_by_anything(limit, count):
    """A provider that counts strictly would refuse the last call of each minute."""
    got = spend(Axis("tokens", limit, 60.0, 0.0, known=True), [(0.0, 1 / count)] * (3 * count))
    for begin, _ in got:
        assert sum(spent for at, spent in got if begin <= at < begin + 60) <= limit * (1 + 1e-9) + limit / count


@given(limits)
def test_a_known_limit_is_used(limit):
    """A part of what was paid for would lie idle."""
    got = spend(Axis("requests", limit, 60.0, 0.0, known=True), [(0.0, 0.01)] * 300)
    assert got[-1][0] <= 3 * 60 / USE + 1


@given(st.floats(1, 1e6), st.floats(1, 1e9), st.sampled_from([1.0, 60.0, 3600.0]))
def test_headers_may_lower_a_known_limit_but_never_raise_it(known, told, window):
    """The provider's headers would overrule users who keep a share of a key for others."""
    axis = Axis("requests", known, 60.0, 0.0, known=True)
    axis.heard(Quota(told, None, None, window), 0.0, 0.0, 0.0)
    assert axis.gcra.rate == pytest.approx(USE * min(known / 60, told / window))


def test_a_rise_and_a_fall_are_followed_at_once():
    """A limit that the provider halves at noon would be run into all afternoon."""
    axis = advertised()
    for limit in (300.0, 1_200.0):
        axis.heard(Quota(limit, None, None), axis.taken, 1.0, 1.0)
        assert axis.gcra.rate == pytest.approx(USE * limit / 60)


def test_a_full_bucket_is_spent_ahead():
    """A job of a minute would take ten, although the provider has room for it at once."""
    axis = advertised()
    axis.take(1.0, 0.0)
    axis.heard(Quota(600.0, 599.0, 0.1), axis.taken, 0.0, 0.1)
    assert all(at <= 0.1 for at, _ in spend_from(axis, 500, 0.1))


def followed(limit: float = 600.0) -> Axis:
    """A limit that the user gave, of which headers may say how far ahead it is spent."""
    return Axis("requests", limit, 60.0, 0.0, known=True, follows=True, gcra=Trial)


@pytest.mark.parametrize("reset", [0.1, 60.0, None], ids=["bucket", "window", "no reset told"])
def test_a_known_limit_is_spent_ahead_where_headers_tell_the_same_and_that_it_is_full(reset):
    """Users who state the right limit would wait a minute longer than users who state nothing."""
    axis = followed()
    axis.take(1.0, 0.0)
    axis.heard(Quota(600.0, 599.0, reset), axis.taken, 0.0, 0.1)
    assert all(at <= 0.1 for at, _ in spend_from(axis, 500, 0.1))
    assert axis.trial is None


@pytest.mark.parametrize("told", [6_000.0, 700.0])
def test_a_share_of_what_headers_tell_is_spent_evenly(told):
    """Others who use the same key would find it used up each minute."""
    axis = followed()
    axis.take(1.0, 0.0)
    axis.heard(Quota(told, told - 1.0, 0.1), axis.taken, 0.0, 0.1)
    assert spend_from(axis, 100, 0.1)[-1][0] >= 99 / (10 * USE) - BURST


def test_what_is_left_of_a_part_of_a_minute_says_nothing_without_a_reset():
    """A bucket of a second would be taken for what is left of a minute, and a run would wait for its end."""
    axis = followed()
    axis.take(1.0, 0.0)
    axis.heard(Quota(600.0, 9.0, None), axis.taken, 0.0, 0.1)
    assert spend_from(axis, 100, 0.1)[-1][0] <= 99 / (10 * USE) + 1


def test_a_shallow_bucket_of_a_known_limit_is_spent_evenly():
    """A second's worth is gained at best, and headers that are two seconds old would cost refusals each run."""
    axis = followed()
    axis.take(1.0, 0.0)
    axis.heard(Quota(600.0, 9.0, 0.1), axis.taken, 0.0, 0.1)
    assert sum(at < 0.15 for at, _ in spend_from(axis, 30, 0.1)) <= BURST * 10 + 1


def test_headers_that_promise_too_much_of_a_known_limit_are_no_longer_followed():
    """A gateway's invented figures would cost a storm of refusals each minute."""
    axis = followed()
    axis.take(1.0, 0.0)
    axis.heard(Quota(600.0, 599.0, 0.1), axis.taken, 0.0, 0.1)
    axis.refused(1.0)
    axis.heard(Quota(600.0, 599.0, 0.1), axis.taken, 1.0, 1.1)
    assert spend_from(axis, 100, 1.1)[-1][0] - 1.1 >= 99 / (10 * USE) - BURST


@pytest.mark.parametrize("reset", [0.1, 60.0], ids=["bucket", "window"])
def test_no_more_is_spent_ahead_than_what_may_be_charged_for_it(reset):
    """Five hundred calls would go at once, each charged eight times what was reckoned, and most be refused."""
    axis = followed()
    axis.take(1.0, 0.0)
    axis.heard(Quota(600.0, 599.0, reset), axis.taken, 0.0, 0.1, caution=8.0)
    assert 60 <= sum(at <= 0.1 for at, _ in spend_from(axis, 76, 0.1)) <= 75
    axis.heard(Quota(600.0, 524.0, reset), axis.taken, 0.2, 0.3)
    assert all(at <= 0.3 for at, _ in spend_from(axis, 400, 0.3))


def test_what_may_be_a_bucket_goes_on_evenly_until_a_refusal_shows_a_window():
    """A bucket would lie idle for a minute where headers tell no reset, or a window be asked all through it."""
    axis = followed()
    axis.take(1.0, 0.0)
    axis.heard(Quota(600.0, 599.0, None), axis.taken, 0.0, 0.1)
    times = [at for at, _ in spend_from(axis, 650, 0.1)]
    assert times[-1] <= 0.1 + 52 / (10 * USE)
    axis.refused(6.0)
    assert 59.9 <= axis.ready_at(1.0, 6.0) <= 61.0


@pytest.mark.parametrize("reset", [0.1, 60.0], ids=["bucket", "window"])
def test_what_was_reserved_and_not_used_may_go_at_once(reset):
    """A first run, whose guesses are a third too high, would wait for the next minute with a third of this one left."""
    axis = Axis("tokens", 60_000.0, 60.0, 0.0, known=True, follows=True)
    axis.take(1.0, 0.0)
    axis.heard(Quota(60_000.0, 59_999.0, reset), axis.taken, 0.0, 0.1)
    room = 59_000.0
    axis.take(room, 0.1)
    axis.settle(room, 0.5 * room, 1.0)
    axis.heard(Quota(60_000.0, 59_998.0, reset), 1.0, 0.05, 1.1)  # an early call's answer, which does not know of it
    assert axis.ready_at(0.4 * room, 1.1) <= 1.1


def test_a_window_is_spent_ahead_but_not_beyond():
    """The second half of a minute's calls would all be refused."""
    axis = advertised()
    axis.take(1.0, 0.0)
    axis.heard(Quota(600.0, 599.0, 60.0), axis.taken, 0.0, 0.1)
    times = [at for at, _ in spend_from(axis, 700, 0.1)]
    assert sum(at < 60 for at in times) == 599
    assert times[-1] == pytest.approx(60 + 101 / (10 * USE), abs=1)


@pytest.mark.parametrize("reset", [0.1, 60.0])
def test_a_refusal_ends_spending_ahead(reset):
    """Headers that promise more than is enforced would cost a storm of refusals each minute."""
    axis = advertised()
    axis.take(1.0, 0.0)
    axis.heard(Quota(600.0, 599.0, reset), axis.taken, 0.0, 0.1)
    axis.refused(1.0)
    axis.heard(Quota(600.0, 599.0, reset), axis.taken, 1.0, 1.1)
    got = [at for at, _ in spend_from(axis, 100, 1.1)]
    assert got[-1] - 1.1 >= 99 / (10 * USE) - BURST


def test_an_empty_bucket_that_refuses_owes_no_minute():
    """A 429 that says "nothing left, full again in six minutes, come back in a second" would cost a whole minute."""
    axis = Axis("tokens", 1.0, 60.0, 0.0, known=False)
    axis.heard(Quota(limit=150_000, remaining=0, reset=360.0), mark=0.0, sent=0.0, now=0.0)
    axis.refused(0.0)
    assert axis.ready_at(10, 0.0) < 0.5


def test_what_is_left_only_ever_lowers():
    """Each answer that is late would hand out again what has been spent since."""
    axis = Axis("requests", 600.0, 60.0, 0.0, known=True)
    spend_from(axis, 10, 0.0)
    before = axis.gcra.tat
    axis.heard(Quota(600.0, 600.0, 0.0), 0.0, 0.0, 1.0)
    assert axis.gcra.tat >= before
    axis.heard(Quota(600.0, 0.0, 60.0), axis.taken, 1.0, 1.0)
    assert axis.gcra.tat >= before


@given(st.booleans(), st.lists(st.tuples(quotas, st.floats(0, 10), st.floats(0, 100)), max_size=20))
def test_no_header_stops_a_target_for_longer_than_its_window(known, told):
    """One odd answer, or a wrong clock, would hold the run for days."""
    axis = Axis("requests", 600.0, 60.0, 0.0, known=known)
    now = 0.0
    for quota, gap, behind in told:
        now = max(now + gap, axis.ready_at(1.0, now + gap))
        axis.take(1.0, now)
        axis.heard(quota, max(0.0, axis.taken - behind), max(0.0, now - behind), now)
        assert axis.ready_at(1.0, now) - now <= 130


@given(st.lists(st.floats(-100, 100), max_size=30), st.booleans())
def test_a_clock_that_steps_makes_no_harm(steps, known):
    """A laptop that was asleep would go on with a storm, or not at all."""
    axis = Axis("requests", 600.0, 60.0, 0.0, known=known)
    now = 1_000.0
    for step in steps:
        now += step
        if axis.ready_at(1.0, now) <= now:
            axis.take(1.0, now)
        axis.heard(Quota(600.0, 300.0, 30.0), axis.taken, now, now)
    assert axis.ready_at(1.0, now) - now <= sum(map(abs, steps)) + 61


def test_the_largest_cost_is_a_minute_of_a_limit_by_the_second():
    """Where headers name limits by the second, every long prompt would fail."""
    assert Axis("tokens", 100.0, 1.0, 0.0, known=False).most == 6_000
    assert Axis("tokens", 100.0, 86_400.0, 0.0, known=False).most == 100


def spend_from(axis: Axis, count: int, now: float) -> list[tuple[float, float]]:
    found = []
    for _ in range(count):
        now = max(now, axis.ready_at(1.0, now))
        axis.take(1.0, now)
        found.append((now, 1.0))
    return found


DAY = 86_400.0


def test_all_of_a_day_s_requests_may_go_at_once_but_no_more():
    """A hundred a day would go one in a quarter of an hour; or a hundred and one would go."""
    axis = Axis("requests", 100.0, DAY, 0.0, known=True)
    got = spend(axis, [(0.0, 0.01)] * 102)
    assert [at for at, _ in got[:100]] == [0.0] * 100
    assert got[100][0] >= DAY
    assert got[101][0] > got[100][0]


def test_headers_may_lower_what_is_left_of_a_day():
    """What was used of a day's requests before would be sent beyond it, and the target be stopped."""
    axis = Axis("requests", 100.0, DAY, 0.0, known=True)
    axis.take(1.0, 0.0)
    axis.heard(Quota(100.0, 30.0, 3_600.0, DAY), 1.0, 0.0, 0.1)
    got = spend(axis, [(0.2, 0.01)] + [(0.0, 0.01)] * 30)
    assert got[29][0] < 60.0
    assert got[30][0] >= DAY / 2


def test_a_refusal_or_a_pause_costs_nothing_of_a_day():
    """One 429 would end the day's work."""
    axis = Axis("requests", 100.0, DAY, 0.0, known=True)
    axis.take(1.0, 0.0)
    axis.refused(1.0)
    axis.resume(5.0)
    axis.begin(3.0)
    got = spend(axis, [(6.0, 0.01)] + [(0.0, 0.01)] * 99)
    assert got[98][0] == 6.0
    assert got[99][0] >= DAY
