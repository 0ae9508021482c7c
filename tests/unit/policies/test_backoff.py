"""The wait before a retry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.failures.backoff import delay, overload_delay

attempts = st.integers(-3, 10**6)
draws = st.floats(0, 1, exclude_max=True)
waits = st.floats(0, 10_000)


@given(attempts, draws, waits)
def test_never_before_the_floor_and_never_beyond_the_cap(attempt: int, draw: float, floor: float) -> None:
    """A retry would come before the time that the provider asked for, or hours later."""
    assert floor <= delay(attempt, draw, floor=floor) <= floor + 30
    assert floor <= overload_delay(attempt, draw, floor=floor) <= floor + 60


@given(st.integers(1, 40), draws, waits)
def test_the_floor_is_added_never_multiplied(attempt: int, draw: float, floor: float) -> None:
    """A Retry-After of a minute would become ten on the fifth attempt."""
    assert delay(attempt, draw, floor=floor) == floor + delay(attempt, draw)


@given(st.integers(1, 40), draws)
def test_waits_grow_with_the_attempts(attempt: int, draw: float) -> None:
    """Retries would hammer a provider that is down at the same pace for ever."""
    assert delay(attempt, draw) <= delay(attempt + 1, draw)


def test_ceilings_double_from_the_base() -> None:
    """The first retry would wait for long, or the later ones not at all."""
    assert [delay(n, 1.0) for n in (1, 2, 3, 7, 8)] == [0.5, 1.0, 2.0, 30.0, 30.0]
    assert [overload_delay(n, 1.0) for n in (1, 2, 6, 7)] == [2.0, 4.0, 60.0, 60.0]
    assert delay(5, 0.0) == 0.0
