"""Finds how many requests a server of one's own takes at once: additive increase, multiplicative decrease (AIMD).

Such servers have no rate limit but a number of slots. More in flight than slots only waits there, or is pushed back.
The count doubles while that brings more throughput, falls by a fifth at a push-back, and creeps up again when used.
"""

from __future__ import annotations

START = 4.0
CUT = 0.8
CREEP = 0.05
USED = 0.8
GAIN = 1.1
"""Throughput must grow by this factor for a doubled count to be worth it."""

WAITING = 1.5
"""Requests that take so much longer than they did at best wait for a slot: more of them bring nothing."""

DIP, DIP_EVERY = 0.6, 60
"""After so many rounds fewer are allowed for a moment, to see how long a request takes that does not wait. Without
it what is held to be best would drift up together with the count. (``WAITING × DIP × FORGET ** DIP_EVERY < 1``.)"""

FORGET = 1.001
"""What was best long ago may not be any more."""


class Aimd:
    """How many requests may be in flight at once.

    Args:
        now: the present.
        most: never more than this.
    """

    __slots__ = (
        "_best",
        "_busy",
        "_cut_at",
        "_dipped",
        "_done",
        "_doubling",
        "_most",
        "_peak",
        "_rounds",
        "_since",
        "_throughput",
        "limit",
    )

    def __init__(self, now: float, most: float) -> None:
        self.limit = min(START, most)
        self._most = most
        self._doubling = True
        self._done = 0
        self._busy = 0.0
        self._peak = 0
        self._since = now
        self._throughput = 0.0
        self._best = 0.0
        self._cut_at = now
        self._rounds = 0
        self._dipped: float | None = None  # the count to go back to

    def __repr__(self) -> str:
        return f"Aimd({self.limit:.1f} in flight)"

    def answered(self, in_flight: int, seconds: float, now: float) -> None:
        """A request was answered.

        Args:
            in_flight: how many were, this one included.
            seconds: how long it took.
            now: the present.
        """
        self._done += 1
        self._busy += seconds
        self._peak = max(self._peak, in_flight)
        if self._done >= max(8.0, 2.0 * self.limit):
            self._round(now)

    def pushed_back(self, sent: float, now: float) -> None:
        """The server took a request no more; one cut answers all that were sent before it. A 5xx is no push-back."""
        if sent < self._cut_at:
            return
        self._cut_at = now
        self._doubling = False
        self.limit = max(1.0, (self._dipped or self.limit) * CUT)
        self._dipped = None
        self._begin(now)

    def _round(self, now: float) -> None:
        """So many answers without a push-back: more may be tried, if what is allowed was used."""
        self._rounds += 1
        if self._dip():
            self._begin(now)
            return
        throughput = self._done / max(1e-9, now - self._since)
        seconds = self._busy / self._done
        self._best = min(self._best or seconds, seconds)
        if self._peak >= USED * int(self.limit):
            if not self._doubling:
                if seconds < WAITING * self._best:
                    self.limit = min(self._most, self.limit + max(0.5, CREEP * self.limit))
            elif throughput > GAIN * self._throughput:
                self.limit = min(self._most, self.limit * 2.0)
            else:
                self._doubling = False
                self.limit = max(1.0, self.limit * 0.625)
            self._throughput = throughput
        self._best *= FORGET
        self._begin(now)

    def _dip(self) -> bool:
        """Whether this round is part of a dip. Its first is not measured: its answers had waited before."""
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
