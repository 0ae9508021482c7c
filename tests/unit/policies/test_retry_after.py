"""How long a provider asks to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.failures.retry_after import retry_after

NOON = "Sun, 06 Nov 1994 12:00:00 GMT"
NOON_EPOCH = 784_123_200.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"llm_provider-retry-after": "3"}, 3.0),
        ({"retry-after": "2", "llm_provider-retry-after": "3"}, 2.0),
        ({"retry-after": "no", "llm_provider-retry-after": "3"}, 3.0),
        ({"retry-after": "Sun, 06 Nov 1994 12:00:30 GMT", "date": NOON}, 30.0),
        ({"retry-after": "Sun, 06 Nov 1994 12:00:30 GMT", "date": "gibberish"}, 25.0),
        ({"retry-after": "Sun, 06 Nov 1994 12:00:30 GMT"}, 25.0),
        ({"retry-after": "Sun, 06 Nov 1994 13:00:30 +0100"}, 25.0),
        ({"retry-after": "Sun, 06 Nov 1994 11:00:00 GMT"}, 0.0),
        ({"retry-after": "200000"}, 200_000.0),
        *(({"retry-after": bad}, None) for bad in ("", "-1", "nan", "inf", "1e999", "tomorrow", "12:00", "٣ب")),
    ],
)
def test_every_notation(headers: dict[str, str], seconds: float | None) -> None:
    """A call would come back too early, and be refused again, or far too late."""
    assert retry_after(headers, NOON_EPOCH + 5) == seconds


@pytest.mark.parametrize(
    ("name", "instant"),
    [
        ("retry-after", "1790000030"),
        ("retry-after", "1790000030000"),
        ("retry-after-ms", "1790000030000"),
        ("retry-after-ms", "1790000030"),
    ],
)
def test_an_instant_since_the_epoch_is_no_wait(name: str, instant: str) -> None:
    """A gateway that says when, and not how long, would stop the run for 57 years."""
    assert retry_after({name: instant}, 1_790_000_000.0) == pytest.approx(30.0)
    assert retry_after({name: instant}, 1_790_000_040.0) == 0.0
    assert retry_after({name: instant, "date": "Mon, 21 Sep 2026 14:13:25 GMT"}, 0.0) == pytest.approx(25.0)
    assert retry_after({name: instant}) is None


def test_a_date_needs_a_clock() -> None:
    """Without any clock a date would be taken for a wait of 25 years."""
    assert retry_after({"retry-after": NOON}) is None
    assert retry_after({"retry-after": NOON}, float("nan")) is None


values = (
    st.text(max_size=30)
    | st.floats().map(str)
    | st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT"))
)


@given(
    st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "llm_provider-retry-after", "date"]), values),
    st.floats(),
)
def test_any_text_is_a_wait_or_none(headers: dict[str, str], wall: float) -> None:
    """A garbled header would crash the call, or stop the run for ever."""
    seconds = retry_after(headers, wall)
    assert seconds is None or 0 <= seconds < float("inf")
