"""Finds how many requests a server of one's own takes at once: additive increase, multiplicative decrease (AIMD).

Such a server has slots instead of a rate limit. Requests beyond its slots wait there, or the server pushes them back.
The count doubles while that brings more throughput, falls by a fifth at a push-back, and creeps up again when used.
"""

from __future__ import annotations

import math

START = 4.0
"""Requests in flight at the beginning."""

CUT = 0.8
"""A push-back cuts the count to this share of it."""

CREEP = 0.05
"""The share of the count that a round adds to it. Below the last refused count, a round adds half of the gap; above it,
twice what the round before added, because the server may only have been short of capacity for a moment."""

USED = 0.8
"""The share of the count that must have been in flight for a round to raise it."""

GAIN = 1.1
"""Throughput must grow by this factor for a doubled count to be worth it."""

WAITING = 1.5
"""Requests that take this many times the best time wait for a slot: more of them bring nothing. A server that pushes
back says so itself."""

DIP = 0.6
"""The share of the count that is allowed during a dip, to measure how long a request takes that does not wait. Without
dips the best time would drift up together with the count. (``WAITING × DIP × FORGET ** DIP_EVERY < 1``.)"""

DIP_EVERY = 60
"""Rounds from one dip to the next."""

FORGET = 1.001
"""The factor by which the best time grows each round: it may be out of date."""


class Aimd:
    """How many requests may be in flight at once.

    Args:
        now: the present.
        most: never more than this.
        limit: the count to begin with, if the server is known to bear it; else the search begins at `START`.

    Attributes:
        limit: how many may be in flight.
        cut_at: when a push-back last lowered the limit.
        ceiling: how many were in flight when requests were pushed back last.
    """

    __slots__ = (
        "_before",
        "_best",
        "_busy",
        "_cuts",
        "_dipped",
        "_done",
        "_doubling",
        "_most",
        "_peak",
        "_quiet",
        "_rounds",
        "_since",
        "_throughput",
        "ceiling",
        "cut_at",
        "limit",
    )

    def __init__(self, now: float, most: float, *, limit: float | None = None) -> None:
        self.limit = min(START if limit is None else limit, most)
        self._most = most
        self._doubling = limit is None
        self._before = self.limit  # the limit before the last cuts
        self.ceiling = math.inf  # the count that was last refused
        self._quiet = 0  # rounds above it
        self._cuts = 0  # since the last round without a push-back
        self._done = 0
        self._busy = 0.0
        self._peak = 0
        self._since = now
        self._throughput = 0.0
        self._best = 0.0
        self.cut_at = now
        self._rounds = 0
        self._dipped: float | None = None  # the count after the dip

    def __repr__(self) -> str:
        return f"Aimd({self.limit:.1f} in flight)"

    def answered(self, in_flight: int, seconds: float, now: float) -> None:
        """A request was answered.

        Args:
            in_flight: requests in flight, including this one.
            seconds: how long it took.
            now: the present.
        """
        self._done += 1
        self._busy += seconds
        self._peak = max(self._peak, in_flight)
        if self._done >= max(8.0, (2.0 if self.ceiling == math.inf else 1.0) * self.limit):
            self._round(now)

    def pushed_back(self, sent: float, now: float, in_flight: float = math.inf) -> bool:
        """The server pushed a request back. One cut answers all requests that were sent before it.

        Args:
            sent: when the request was sent.
            now: the present.
            in_flight: requests in flight when it was sent, or now, whichever is more; if that is known.

        Returns:
            Whether that cut the limit.
        """
        if sent < self.cut_at:
            if self._cuts and in_flight < self.ceiling:  # the last request that it refuses shows best what it holds
                self.ceiling = in_flight
                self.limit = max(1.0, in_flight * CUT)
            return False
        limit = self._dipped or self.limit
        if not self._cuts:
            self._before = limit
        self._cuts += 1
        self.cut_at = now
        self._doubling = False
        self.ceiling, self._quiet = min(limit, in_flight), 0
        self.limit = max(1.0, self.ceiling * CUT)
        self._dipped = None
        self._begin(now)
        return True

    def take_back(self, now: float) -> None:
        """Undo the last cuts: they had no reason."""
        if self._cuts:
            self._cuts, self.cut_at = 0, now
            self.limit, self._dipped = self._before, None
            self._begin(now)

    def _round(self, now: float) -> None:
        """A round of answers without a push-back is over: allow more, if the present count was used."""
        self._rounds += 1
        self._cuts = 0
        if self._dip():
            self._begin(now)
            return
        throughput = self._done / max(1e-9, now - self._since)
        seconds = self._busy / self._done
        self._best = min(self._best or seconds, seconds)
        if self._peak >= USED * int(self.limit):
            if not self._doubling:
                if seconds < WAITING * self._best or self.ceiling < math.inf:
                    self.limit = min(self._most, self.limit + self._step())
            elif throughput > GAIN * self._throughput:
                self.limit = min(self._most, self.limit * 2.0)
            else:
                self._doubling = False
                self.limit = max(1.0, self.limit * 0.625)
            self._throughput = throughput
        self._best *= FORGET
        self._begin(now)

    def _step(self) -> float:
        """How much a round adds to the count."""
        creep = max(0.5, CREEP * self.limit)
        if self.ceiling == math.inf:
            return creep
        if self.limit < self.ceiling:
            return max(creep, (self.ceiling - self.limit) / 2.0)
        self._quiet += 1
        return min(self.limit, creep * 2.0**self._quiet)

    def _dip(self) -> bool:
        """Whether this round is part of a dip. Its first round is not measured: those answers had waited before it."""
        stage = self._rounds % DIP_EVERY
        if stage == 0 and not self._doubling:
            self._dipped, self.limit = self.limit, max(1.0, self.limit * DIP)
        elif self._dipped is None:
            return False
        elif stage > 1:
            self._best = min(self._best, self._busy / self._done)
            self.limit, self._dipped = self._dipped, None
        return True

    def _begin(self, now: float) -> None:
        self._done = 0
        self._busy = 0.0
        self._peak = 0
        self._since = now
