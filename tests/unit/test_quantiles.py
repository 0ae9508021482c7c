"""Quantiles: one rule wherever they are shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from flatout.look.report.sums import Histogram
from flatout.values.quantiles import counted_quantile, quantile

VALUES = some.lists(some.floats(0.0, 1e6), min_size=1, max_size=50)
SHARES = some.floats(0.0, 1.0)


def test_the_rule_is_that_of_hyndman_and_fan() -> None:
    """A plan and a report would show two medians, or 95th percentiles, of the same calls."""
    ordered = [1.0, 2.0, 3.0, 4.0]
    assert quantile(ordered, 0.5) == 2.5
    assert quantile(ordered, 0.3) == 1.5  # R: quantile(1:4, 0.3, type = 6)
    assert quantile(ordered, 0.0) == 1.0
    assert quantile(ordered, 0.95) == 4.0
    assert quantile([7.0], 0.1) == 7.0


@given(VALUES, SHARES)
def test_counts_stand_for_repeated_values(values: list[float], share: float) -> None:
    """A histogram would tell other percentiles than the values that are in it."""
    values = sorted([*values, *values[:3]])
    counted = [(value, values.count(value)) for value in dict.fromkeys(values)]
    found = counted_quantile(reversed(counted), share)
    assert found is not None
    assert abs(found - quantile(values, share)) <= 1e-9 * max(values)


def test_of_nothing_there_is_no_quantile() -> None:
    """A report of a run without an answer would break, or show 0 s."""
    assert counted_quantile([], 0.5) is None
    assert counted_quantile([(1.0, 0.0)], 0.5) is None
    assert Histogram().quantile(0.5) is None
