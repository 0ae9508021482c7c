"""The log that workers on several machines share, by way of their keeper: what happened to everybody's requests.

It is in one order for all. A worker that comes late goes on from a state that another one kept. See `leases`; the
script in Redis is this, too.
"""

from __future__ import annotations

from .exchange import News, Read

BATCHES = 1_024
"""Batches that are kept."""


class SharedJournal:
    """The log, as the keeper has it."""

    def __init__(self) -> None:
        self._batches: list[bytes] = []
        self._first = 0
        self._kept_at, self._kept = 0, b""

    def exchange(self, news: News) -> Read:
        """Add a worker's events, and tell it what it has not read."""
        if news.batch:
            self._batches.append(news.batch)
        if len(self._batches) > BATCHES:
            del self._batches[0]
            self._first += 1
        if news.kept:
            self._kept_at, self._kept = news.kept_at, news.kept
        end, place, begins = self._first + len(self._batches), news.place, False
        if place < self._first or place > end or (place == 0 and end > 0):
            begins = bool(self._kept)
            place = self._kept_at if begins else place
            place = 0 if place > end else place
        batches = tuple(self._batches[max(0, place - self._first) :])
        return Read(end, batches, self._kept_at, self._kept) if begins else Read(end, batches)
