from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.testing._limits import Bucket, FixedWindow, RateLimits, SlidingWindow, Window
from flatout.testing._settings import ProviderSettings

GAPS = st.one_of(st.just(0.0), st.floats(0, 0.5), st.floats(0, 90))
ARRIVALS = st.lists(st.tuples(GAPS, st.integers(1, 30)), max_size=150)
EPSILON = 1e-6


def admitted(window: Window, arrivals: list[tuple[float, int]]) -> list[tuple[float, int]]:
    now, through = 0.0, []
    for gap, amount in arrivals:
        now += gap
        if window.wait(now, amount) == 0:
            window.take(now, amount)
            through.append((now, amount))
    return through


def most_within(seconds: float, through: list[tuple[float, int]]) -> float:
    """The largest amount admitted in any half-open window of so many seconds."""
    return max(
        (sum(amount for at, amount in through[i:] if at < start + seconds) for i, (start, _) in enumerate(through)),
        default=0.0,
    )


@given(ARRIVALS, st.floats(1, 600), st.sampled_from([0.5, 1.0, 10.0, 60.0]), st.booleans(), st.floats(0.01, 120))
def test_a_bucket_never_admits_more_than_its_rate_and_burst(arrivals, limit, burst, full, seconds):
    """A client that floods would look as if it kept the limit."""
    through = admitted(Bucket(limit, burst=burst, full=full), arrivals)
    capacity = max(1.0, limit / 60 * burst)
    largest = max((amount for _, amount in through), default=0)
    # An amount above the capacity needs a full bucket and leaves it in debt.
    assert most_within(seconds, through) <= limit / 60 * seconds + max(capacity, largest) + EPSILON


@given(ARRIVALS, st.floats(1, 600), st.sampled_from([1.0, 10.0, 60.0]))
def test_a_sliding_window_never_admits_more_than_its_limit(arrivals, limit, seconds):
    """A client that floods would look as if it kept the limit."""
    through = admitted(SlidingWindow(limit, window=seconds), arrivals)
    largest = max((amount for _, amount in through), default=0)
    assert most_within(seconds, through) <= max(limit * seconds / 60, 1.0, largest) + EPSILON


@given(ARRIVALS, st.floats(1, 600), st.sampled_from([1.0, 10.0, 60.0]))
def test_a_fixed_window_never_admits_more_than_its_limit(arrivals, limit, seconds):
    """A client that floods would look as if it kept the limit."""
    through = admitted(FixedWindow(limit, window=seconds), arrivals)
    for _, group in itertools.groupby(through, key=lambda charge: math.floor(charge[0] / seconds)):
        amounts = [amount for _, amount in group]
        assert sum(amounts) <= max(limit * seconds / 60, 1.0, max(amounts)) + EPSILON


@pytest.mark.parametrize("kind", ["bucket", "sliding", "fixed"])
@given(arrivals=ARRIVALS, limit=st.floats(1, 600))
def test_who_waits_as_told_gets_in(kind, arrivals, limit):
    """A client that obeys Retry-After to the letter would be refused again and again."""
    window = RateLimits(ProviderSettings(rpm=limit, limit=kind)).requests
    assert window is not None
    now = 0.0
    for gap, amount in arrivals:
        now += gap
        wait = window.wait(now, amount)
        if wait == math.inf:
            assert amount > limit
            continue
        if wait:
            assert window.wait(now + wait * 0.9 - EPSILON, amount) > 0
            now += wait + EPSILON
        assert window.wait(now, amount) == 0
        window.take(now, amount)


@pytest.mark.parametrize("kind", ["bucket", "sliding", "fixed"])
@given(arrivals=ARRIVALS, limit=st.floats(1, 600))
def test_all_is_left_again_after_the_reset(kind, arrivals, limit):
    """The reset header would lie."""
    window = RateLimits(ProviderSettings(rpm=limit, limit=kind)).requests
    assert window is not None
    whole = window.read(0.0).remaining
    for now, _ in admitted(window, arrivals):
        reading = window.read(now)
        assert 0 <= reading.remaining <= whole
    last = sum(gap for gap, _ in arrivals)
    reset = window.read(last).reset
    assert window.read(last + reset + EPSILON).remaining == pytest.approx(whole)


def test_a_bucket_of_one_second_paces_and_one_of_a_minute_bursts():
    """The two readings of one and the same limit could not be told apart."""
    strict, lenient = Bucket(60, burst=1, full=True), Bucket(60, burst=60, full=True)
    storm = [(0.0, 1)] * 100
    assert len(admitted(strict, storm)) == 1
    assert len(admitted(lenient, storm)) == 60
    assert len(admitted(Bucket(60, burst=60, full=False), storm)) == 0


@pytest.mark.parametrize(
    ("kind", "refused"), [("bucket", False), ("sliding", True), ("fixed", True)], ids=["bucket", "sliding", "fixed"]
)
def test_wasted_requests_keep_the_limit_used_up(kind, refused):
    """A storm of refused requests would cost nothing, as it does not at OpenAI."""
    limits = RateLimits(ProviderSettings(rpm=60, limit=kind))
    for _ in range(200):
        limits.waste(0.0)
    assert limits.refusal(0.0, 1) is not None
    # A bucket never falls below empty, so a second's refill is free for the next one.
    assert (limits.refusal(1.0, 1) is not None) is refused
    assert limits.refusal(60.0, 1) is None


@pytest.mark.parametrize("kind", ["bucket", "sliding", "fixed"])
def test_a_changed_limit_holds_from_then_on(kind):
    """A provider that cuts your limit in the middle of a run could not be played."""
    limits = RateLimits(ProviderSettings(rpm=60, limit=kind))
    for _ in range(60):
        limits.take(0.0, 1)
    limits.change(0.0, ProviderSettings(rpm=6, limit=kind))
    assert limits.requests is not None
    limits.requests.wait(120.0, 1)
    assert len(admitted(limits.requests, [(180.0, 1)] * 1 + [(0.0, 1)] * 20)) == 6
    limits.change(180.0, ProviderSettings(limit=kind))
    assert limits.refusal(180.0, 1) is None


def test_requests_per_day_end_with_the_day():
    """A day's quota could not be played."""
    limits = RateLimits(ProviderSettings(rpd=2))
    for _ in range(2):
        assert limits.refusal(10.0, 1) is None
        limits.take(10.0, 1)
    refusal = limits.refusal(10.0, 1)
    assert refusal is not None
    assert refusal.wait == pytest.approx(86_390)
    assert limits.refusal(86_400.0, 1) is None
