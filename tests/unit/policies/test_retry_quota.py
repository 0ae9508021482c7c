"""Retries as a share of traffic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.retry_quota import RetryQuota


def test_a_small_batch_can_retry() -> None:
    """Ten calls could not retry at all before enough traffic had passed."""
    quota = RetryQuota(reserve=3)
    assert [quota.withdraw() for _ in range(4)] == [True, True, True, False]


def test_ten_tenths_earn_one_retry() -> None:
    """Rounding would rob calls of the retry that they have earned."""
    quota = RetryQuota(share=0.1, reserve=0)
    for _ in range(10):
        quota.deposit()
    assert quota.withdraw()
    assert not quota.withdraw()


@given(st.lists(st.booleans(), max_size=300), st.floats(0, 1), st.floats(0, 50))
def test_retries_never_exceed_their_share(steps: list[bool], share: float, reserve: float) -> None:
    """An outage would multiply the traffic, and the bill, just when the provider is down."""
    quota = RetryQuota(share=share, reserve=reserve, most=60)
    calls = retries = 0
    for is_call in steps:
        if is_call:
            quota.deposit()
            calls += 1
        else:
            retries += quota.withdraw()
        assert 0 <= quota.balance <= 60
        assert retries <= reserve + share * calls + 1e-6


def test_saving_up_has_an_end() -> None:
    """A million good calls would earn the right to a storm of 200,000 retries."""
    quota = RetryQuota(most=150)
    for _ in range(10_000):
        quota.deposit()
    assert quota.balance == 150
    assert repr(quota) == "RetryQuota(150.0 of 150, +0.2 a call)"


@pytest.mark.parametrize("bad", [{"share": -1}, {"reserve": -1}, {"reserve": 9, "most": 3}, {"share": float("nan")}])
def test_nonsense_is_refused(bad: dict[str, float]) -> None:
    """A quota that never fills, or never empties, would go unnoticed."""
    with pytest.raises(ValueError, match="retry quota"):
        RetryQuota(**bad)
