"""Whether a provider's full queue is worth waiting for, or one batch alone is too large for it."""

from __future__ import annotations

from .packing import PER_TOKEN, named_limit, smaller

PATIENCE = 300.0
"""Seconds that a queue may be full before a batch is halved on suspicion. They double with each time, because the queue
may be kept full by others: within a day, 50,000 rows become 200 at the least, and not one."""

SURE = 2.0
"""The tokens of a batch are estimated by its bytes, and rarely by so many times wrong."""

FULL = "the queue is full: "
"""Begins the reason of a batch that was not run because of a full queue, although none of ours was in it."""


class Queue:
    """What is known of a target's queue. It is pure: callers pass the time.

    Batches of ours are not in it when it is asked, so others fill it, or the batch is too large by itself. A provider
    that names its limit tells which. If it does not, a batch that is no larger than one that was run can be run, too;
    about others there is only patience.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._halvings = 0
        self._largest = 0

    def ran(self, size: int) -> None:
        """A batch of so many bytes was run."""
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
        if size <= self._largest or (limit is not None and size / PER_TOKEN * SURE <= limit):
            return None
        if self._since is None or at < self._since:
            self._since = at
        if at - self._since < PATIENCE * 2.0**self._halvings:
            return None
        self._since = at
        self._halvings += 1
        return smaller(rows, size, "")
