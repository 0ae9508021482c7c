"""How large a batch may be after the provider refused one for its size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.lanes.batch.packing import PER_TOKEN, named_limit, smaller

OPENAI = "Enqueued token limit reached for gpt-4o in organization org-x7. Limit: 90,000 enqueued tokens."


@pytest.mark.parametrize(
    ("reason", "tokens"),
    [
        (OPENAI, 90_000),
        ("limit of 30000000000 tokens", 30_000_000_000),
        ("You have 2_000_000 enqueued tokens", 2_000_000),
        ("Rate limit reached for requests in organization org-90", None),
        ("limit: 0 enqueued tokens", None),
        ("", None),
    ],
)
def test_the_limit_is_read_from_the_refusal(reason: str, tokens: int | None) -> None:
    """OpenAI tells the limit nowhere else."""
    assert named_limit(reason) == tokens


def test_a_batch_is_cut_to_the_limit_at_once() -> None:
    """Each halving would be one more upload, and one more wait for its refusal."""
    rows = smaller(50_000, 50_000 * 400, OPENAI)
    assert rows == int(90_000 * PER_TOKEN / 400)


def test_a_batch_is_halved_if_nothing_is_named() -> None:
    """There is nothing better to go by."""
    assert smaller(7, 1_000, "too large") == 4
    assert smaller(1, 1_000, "too large") == 1


@given(st.integers(1, 10**6), st.integers(0, 10**9), st.sampled_from([OPENAI, "no", "limit: 1 tokens"]))
def test_batches_shrink_until_they_hold_one_row(rows: int, size: int, reason: str) -> None:
    """A batch that stayed as it is would be refused for ever; one without rows would be none."""
    assert 1 <= smaller(rows, size, reason) <= (rows + 1) // 2
