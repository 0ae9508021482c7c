"""When a full queue is waited for, and when a batch is made smaller."""

from __future__ import annotations

import pytest

from flatout.lanes.batch.packing import PER_TOKEN
from flatout.lanes.batch.queue import Queue

MEGABYTE = 1_000_000
SAYS = "Enqueued token limit reached. Limit: 90,000 enqueued tokens."
LIMIT = int(90_000 * PER_TOKEN)


def rows_after(queue: Queue, *, size: int, reason: str = "", hours: float = 24.0, every: float = 600.0) -> int:
    """How many rows of 50,000 a batch has after a queue was full for some hours; bytes and rows shrink alike."""
    rows = 50_000
    for at in range(0, int(hours * 3_600), int(every)):
        rows = queue.refused(rows, size * rows // 50_000, reason, 1e9 + at) or rows
    return rows


@pytest.mark.parametrize("every", [60.0, 600.0, 3_600.0])
def test_a_queue_that_others_keep_full_for_a_day_breaks_no_batch_into_rows(every: float) -> None:
    """A colleague's large job would turn a batch of 50,000 rows into 50,000 batches."""
    assert rows_after(Queue(), size=64 * MEGABYTE, every=every) >= 190


def test_a_batch_that_should_fit_is_waited_for_longer() -> None:
    """Batches that ran yesterday would be cut to pieces today, because the queue is full today."""
    queue = Queue()
    queue.ran(64 * MEGABYTE)
    assert rows_after(queue, size=64 * MEGABYTE) >= 1_500
    assert rows_after(Queue(), size=LIMIT // 3, reason=SAYS) >= 1_500


def test_a_batch_above_the_limit_that_is_named_is_cut_at_once() -> None:
    """A batch that can never fit would be sent for hours."""
    most = Queue().refused(50_000, 10 * LIMIT, SAYS, 0.0)
    assert most is not None
    assert 4_500 <= most <= 5_000


def test_a_batch_about_which_nothing_is_known_is_halved_after_a_while() -> None:
    """Where the provider names no limit, a batch that is too large would be sent for ever."""
    assert rows_after(Queue(), size=MEGABYTE, hours=0.5, every=60.0) < 50_000
    assert rows_after(Queue(), size=MEGABYTE, hours=0.05, every=60.0) == 50_000


def test_a_batch_that_was_run_ends_the_suspicion() -> None:
    """Two busy minutes, a day apart, would halve a batch."""
    queue = Queue()
    assert queue.refused(100, 5_000, "", 0.0) is None
    queue.ran(4_000)
    assert queue.refused(100, 5_000, "", 86_400.0) is None


def test_one_row_is_never_halved() -> None:
    """A batch of no rows would be sent."""
    assert rows_after(Queue(), size=MEGABYTE, hours=0) == 50_000
    assert Queue().refused(1, 10 * LIMIT, SAYS, 0.0) is None
