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


class Aimd:
    """How many requests may be in flight at once.

    Args:
        now: the present.
        most: never more than this.
    """

    __slots__ = ("_clean", "_cut_at", "_done", "_doubling", "_most", "_peak", "_since", "_throughput", "limit")

    def __init__(self, now: float, most: float) -> None:
        self.limit = min(START, most)
        self._most = most
        self._doubling = True
        self._done = 0
        self._clean = 0
        self._peak = 0
        self._since = now
        self._throughput = 0.0
        self._cut_at = now

    def __repr__(self) -> str:
        return f"Aimd({self.limit:.1f} in flight)"

    def answered(self, in_flight: int, now: float) -> None:
        """A request was answered; ``in_flight`` counts it still."""
        self._done += 1
        self._peak = max(self._peak, in_flight)
        if self._done >= max(8.0, 2.0 * self.limit):
            self._round(now)

    def pushed_back(self, sent: float, now: float) -> None:
        """The server took a request no more; one cut answers all that were sent before it. A 5xx is no push-back."""
        if sent < self._cut_at:
            return
        self._cut_at = now
        self._doubling = False
        self.limit = max(1.0, self.limit * CUT)
        self._begin(now)
        self._throughput = 0.0

    def _round(self, now: float) -> None:
        throughput = self._done / max(1e-9, now - self._since)
        used = self._peak >= USED * int(self.limit)
        if used and self._doubling:
            if throughput > GAIN * self._throughput:
                self.limit = min(self._most, self.limit * 2.0)
            else:
                self._doubling = False
                self.limit = max(1.0, self.limit * 0.625)
        elif used:
            self._creep(throughput)
        self._throughput = throughput if self._doubling else max(throughput, self._throughput * 0.98)
        self._begin(now)

    def _creep(self, throughput: float) -> None:
        """Up a little while throughput bears it; back when it has fallen."""
        if self._throughput and throughput < 0.9 * self._throughput:
            self.limit = max(1.0, self.limit * 0.95)
        elif throughput > 1.01 * self._throughput or not self._throughput:
            self.limit = min(self._most, self.limit + max(0.5, CREEP * self.limit))

    def _begin(self, now: float) -> None:
        self._done = 0
        self._peak = 0
        self._since = now
