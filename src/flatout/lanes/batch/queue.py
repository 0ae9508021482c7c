"""Whether a provider's full queue is worth waiting for, or one batch alone is too large for it."""

from __future__ import annotations

from .packing import PER_TOKEN, named_limit, smaller

PATIENCE = 300.0
"""Seconds that a queue may be full before a batch is halved on suspicion. They double with each time, because the queue
may be kept full by others: within a day, 50,000 rows become 200 at the least, and not one."""

LONGER = 8.0
"""So many times as long is waited if the batch should fit: it is small, or one as large was run, or the limit that is
named is larger."""

SMALL = 64_000
"""Bytes of a batch that should fit into any queue: the smallest that is known takes 90,000 tokens (OpenAI)."""

SURE = 2.0
"""The tokens of a batch are estimated by its bytes. The estimate is rarely wrong by more than this factor."""

FULL = "the queue is full: "
"""Begins the reason of a batch that was not run because of a full queue, although none of ours was in it."""


class Queue:
    """What is known of a target's queue. It is pure: callers pass the time.

    Batches of ours are not in it when it is asked, so others fill it, or the batch is too large by itself. A provider
    that names its limit tells which. So does a batch as large that was run. Neither is certain (a limit may have sunk,
    tokens are estimated), so patience ends at last.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._halvings = 0
        self._largest = 0

    def ran(self, size: int) -> None:
        """A batch of ``size`` bytes was run."""
        self._largest = max(self._largest, size)
        self._since = None
        self._halvings = 0

    def refused(self, rows: int, size: int, reason: str, at: float) -> int | None:
        """The most rows of the next batch, after one was refused; None to wait, and to try this one again.

        Args:
            rows: how many rows it had.
            size: its bytes.
            reason: the provider's words.
            at: seconds, such as Unix time.
        """
        if rows <= 1:
            return None
        limit = named_limit(reason)
        if limit is not None and size / PER_TOKEN > limit:
            return smaller(rows, size, reason)
        fits = size <= max(self._largest, SMALL) or (limit is not None and size / PER_TOKEN * SURE <= limit)
        if self._since is None or at < self._since:
            self._since = at
        if at - self._since < PATIENCE * (LONGER if fits else 1.0) * 2.0**self._halvings:
            return None
        self._since = at
        self._halvings += 1
        return smaller(rows, size, "")
