from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.text import figures


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0, "$0"), (0.0123, "$0.0123"), (1234.5, "$1,234.50"), (0.0000042, "$0.0000042"), (1, "$1.00"), (0.5, "$0.5000")],
)
def test_money_keeps_the_digits_that_matter(amount: float, shown: str) -> None:
    """Small amounts would be shown as $0.00."""
    assert figures.dollars(amount) == shown


@given(st.floats(1e-9, 1e9))
def test_money_that_was_spent_is_never_shown_as_nothing(amount: float) -> None:
    """A user would believe that calls were free."""
    assert any(digit in "123456789" for digit in figures.dollars(amount))


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (0.00044, 0.00041, ("$0.00044", "$0.00041")),
        (1_234.5, 0.01, ("$1,234.5000", "$0.0100")),
        (0.0000042, 0.0, ("$0.000004", "$0.000000")),
        (0.5, 0.5, ("$0.5000", "$0.5000")),
    ],
)
def test_amounts_that_are_compared_are_told_apart(first: float, second: float, shown: tuple[str, str]) -> None:
    """A refusal would say that a call may cost $0.0004 and $0.0004 is left: nobody could see why."""
    assert figures.compared(first, second) == shown


@pytest.mark.parametrize(
    ("known", "unpriced", "shown"),
    [(0, 0, "$0"), (0, 3, "unknown"), (None, 0, "unknown"), (0.5, 3, "≥ $0.5000"), (0.5, 0, "$0.5000")],
)
def test_cost_says_what_is_not_known(known: float | None, unpriced: int, shown: str) -> None:
    """An unknown cost would be shown as 0."""
    assert figures.cost(known, unpriced) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (4.21, "4.2 s"),
        (9.97, "10 s"),
        (59.6, "1 min 00 s"),
        (754, "12 min 34 s"),
        (7_500, "2 h 05 min"),
        (100_000, "1 d 3 h"),
    ],
)
def test_durations_are_readable(seconds: float, shown: str) -> None:
    """A user would have to divide seconds by 3,600."""
    assert figures.duration(seconds) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(9_999, "9,999"), (12_345, "12.3k"), (1_234_567, "1.23M"), (123_456_789, "123M")]
)
def test_long_counts_are_shortened(number: int, shown: str) -> None:
    """The live line would not fit."""
    assert figures.short(number) == shown


@pytest.mark.parametrize(("value", "shown"), [(812.4, "812 calls/s"), (4.51, "4.5 calls/s"), (0.2, "12 calls/min")])
def test_rates_have_a_fitting_unit(value: float, shown: str) -> None:
    """A slow run would show 0 calls/s."""
    assert figures.rate(value) == shown


def test_only_the_whole_is_100_percent() -> None:
    """A run would seem done while rows are missing."""
    assert figures.percent(9_999, 10_000) == "99 %"
    assert figures.percent(10_000, 10_000) == "100 %"
    assert figures.percent(0, 0) == "100 %"
