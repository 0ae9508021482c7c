"""The counts of a simulated provider."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ._slots import ServerSlots, SimulatedResponse


class Statistics:
    """Counts since the start. Memory grows by a number for each different prompt and for each second."""

    __slots__ = (
        "_answered_marks",
        "_seconds",
        "admitted",
        "answered",
        "cache_write_tokens",
        "cached_tokens",
        "duplicates",
        "faults",
        "first_at",
        "in_flight",
        "last_at",
        "most_in_flight",
        "most_queued",
        "output_tokens",
        "prompt_tokens",
        "received",
        "refused",
        "rows",
        "tokens_admitted",
    )

    def __init__(self, in_flight: int = 0) -> None:
        self.received = self.admitted = self.refused = self.answered = self.duplicates = self.rows = 0
        self.tokens_admitted = self.prompt_tokens = self.output_tokens = 0
        self.cached_tokens = self.cache_write_tokens = 0
        self.in_flight = self.most_in_flight = in_flight
        self.most_queued = 0
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.faults: Counter[str] = Counter()
        self._seconds: Counter[int] = Counter()
        self._answered_marks: set[int] = set()

    @property
    def number(self) -> int:
        """A number for the answer at which the model works: of requests and of rows of batches."""
        return self.received + self.rows

    def arrive(self, now: float) -> None:
        """Count a request that came in."""
        self.received += 1
        if self.first_at is None:
            self.first_at = now
        self.last_at = now
        self.in_flight += 1
        if self.in_flight > self.most_in_flight:
            self.most_in_flight = self.in_flight

    def admit(self, now: float, tokens: int, slots: ServerSlots) -> None:
        """Count a request that the limits admitted."""
        self.admitted += 1
        self.tokens_admitted += tokens
        self._seconds[int(now)] += 1
        if slots.queued > self.most_queued:
            self.most_queued = slots.queued

    def answer(self, outcome: SimulatedResponse) -> None:
        """Count an answer that was delivered."""
        self.answered += 1
        self.prompt_tokens += outcome.prompt_tokens
        self.output_tokens += outcome.output_tokens
        self.cached_tokens += outcome.use.read
        self.cache_write_tokens += outcome.use.written
        if outcome.mark in self._answered_marks:
            self.duplicates += 1
        else:
            self._answered_marks.add(outcome.mark)

    def as_dict(self, slots: ServerSlots) -> dict[str, Any]:
        """All counts as JSON values; times in seconds since the model's start."""
        seconds = self._seconds
        return {
            "received": self.received,
            "admitted": self.admitted,
            "refused": self.refused,
            "answered": self.answered,
            "duplicates": self.duplicates,
            "faults": dict(self.faults),
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "serving": slots.busy,
            "queued": slots.queued,
            "most_queued": self.most_queued,
            "first_at": self.first_at,
            "last_at": self.last_at,
            "admitted_per_second": [seconds[second] for second in range(max(seconds) + 1)] if seconds else [],
            "tokens_admitted": self.tokens_admitted,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
            "cache_write_tokens": self.cache_write_tokens,
        }
