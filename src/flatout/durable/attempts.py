"""Notes a call's attempts in a run file, so that a crash leaves no unknown attempt."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Protocol

from flatout.errors import CallError
from flatout.policies.failures.decision import may_have_billed
from flatout.text.redact import excerpt

REASON = 200
"""Most characters kept of the reason why an attempt failed."""


class AttemptFile(Protocol):
    """Where attempts are noted: a `flatout.store.RunFile`, or the way to one in another process."""

    def note_attempt(
        self,
        index: int,
        attempt: int,
        target: str,
        started_at: float,
        estimated_cost: float | None,
        place: str | None = None,
        after: str | None = None,
    ) -> Awaitable[None]:
        """See `flatout.store.RunFile.note_attempt`."""
        ...

    def note_failed(self, index: int, attempt: int, place: str | None = None, *, billed: bool) -> None:
        """See `flatout.store.RunFile.note_failed`."""
        ...


class NotedAttempts:
    """Notes each attempt before it is sent, and again if it failed; a `flatout.journey.AttemptNotes`.

    Args:
        store: the run file.
        index: the item that the call belongs to.
        place: the call's place among those of a durable function; None if the item is one call.
    """

    __slots__ = ("_index", "_place", "_store")

    def __init__(self, store: AttemptFile, index: int, place: str | None = None) -> None:
        self._store = store
        self._index = index
        self._place = place

    def begins(self, attempt: int, target: str, estimate: float | None, after: Exception | None, /) -> Awaitable[None]:
        """Note an attempt. Await this before sending it."""
        why = None if after is None else _reason(after)
        return self._store.note_attempt(self._index, attempt, target, time.time(), estimate, self._place, why)

    def failed(self, attempt: int, error: CallError, /) -> None:
        """Note that an attempt failed, and whether it may be paid for."""
        self._store.note_failed(self._index, attempt, self._place, billed=may_have_billed(error))


def _reason(error: Exception) -> str:
    """Why an attempt failed, on one line. A message may quote the request, so it is shortened and keys are removed."""
    words = " ".join(excerpt(str(error), 2 * REASON).split())
    return f"{type(error).__name__}: {words}"[:REASON]
