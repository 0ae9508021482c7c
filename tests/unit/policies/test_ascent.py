"""When more is tried, and how much."""

from __future__ import annotations

import pytest

from flatout.policies.ascent import PATIENCE, REST, SOON, Ascent


def use(ascent: Ascent, rate: float, sent: int, now: float, until: float) -> tuple[float, int, float]:
    """Requests at the rate that the ascent allows, none of them refused."""
    while now < until:
        now += 1.0 / rate
        sent += 1
        rate = ascent.grow(rate, sent, now)
    return rate, sent, now


def test_a_climb_is_fast_and_slower_the_more_was_lent():
    """A free provider would be used at a fraction for minutes; or a deep bucket refuse hundreds at once."""
    ascent = Ascent("climb", 5.0, 0.0)
    rate, sent, _ = use(ascent, 5.0, 0, 0.0, 12.0)
    assert 100.0 < rate < 1.2 * sent


def test_what_is_not_used_is_no_reason_to_try_more():
    """A quiet hour would end in a rate that nobody ever tried."""
    ascent = Ascent("climb", 5.0, 0.0)
    assert [ascent.grow(5.0, sent, 10.0 * sent) for sent in range(1, 50)] == [5.0] * 49


def test_a_settled_rate_stands_for_hundreds_of_calls():
    """Each look upward ends in a refusal: more than three in a thousand."""
    ascent = Ascent("climb", 1.0, 0.0)
    ascent.settle(1.0, 0, 0.0)
    rate, sent, _ = use(ascent, 1.0, 0, 0.0, 650.0)
    assert rate == 1.0
    assert use(ascent, rate, sent, 650.0, 800.0)[0] > 1.0


def test_fast_rates_are_looked_at_soon_and_then_more_and_more_seldom():
    """One refusal without a reason would cost a fast run a minute; or a limit be hit every few seconds."""
    ascent = Ascent("climb", 100.0, 0.0)
    ascent.settle(100.0, 0, 0.0)
    stood = []
    for _ in range(4):
        stood.append(ascent.calls)
        ascent.settle_again(100.0, 0, 0.0)
    assert stood == [SOON, SOON * PATIENCE, SOON * PATIENCE**2, SOON * PATIENCE**3]
    assert ascent.calls == REST


def test_a_proved_limit_is_left_alone():
    """What a window or a heap of refusals proved would be doubted every second."""
    ascent = Ascent("climb", 100.0, 0.0)
    ascent.settle(100.0, 0, 0.0, proved=True)
    assert ascent.calls == REST


@pytest.mark.parametrize("phase", ["climb", "measure", "refine"])
def test_no_step_is_larger_than_half(phase):
    """A limit would be overrun by as much as was found in minutes."""
    ascent = Ascent(phase, 2.0, 0.0)
    rate, sent, now = 2.0, 0, 0.0
    for _ in range(2_000):
        before = rate
        rate, sent, now = use(ascent, rate, sent, now, now + 1.0 / rate)
        assert rate <= before * 1.5001
