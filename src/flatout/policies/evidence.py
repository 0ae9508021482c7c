"""What a bucket accepted and refused, as bounds of its rate: what `flatout.policies.search` concludes a limit from.

A bucket that holds ``depth`` seconds' worth of its rate accepts in no time more than what it refills in that time, and
its depth. And it refuses only when it is empty: since it was last full, or last empty, it accepted all that it had. So
each refusal bounds the rate from both sides, for every depth that the bucket may have; and depths whose bounds exclude
each other are not its depth.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import chain
from typing import NamedTuple

from .accepted import Accepted

DEPTHS = (1.0, 1.4, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 15.0, 21.0, 30.0, 42.0, 60.0)
"""Depths that are thought of, in seconds of the rate."""

LATELY = 120.0
"""Seconds for which a bound holds: limits change."""

TOLERANCE = 1.03
"""By how much bounds may exclude each other before a depth is: we know when a request went, not when it arrived."""

JITTER = 0.05
"""The same in seconds."""

DISPROOF = 1.05
"""By how much more must be accepted than a refusal made possible, to disprove it."""

ANCHORS = 8
"""Refusals that are remembered."""


class Bounds(NamedTuple):
    """What a bucket's rate is, in requests per second, if it has one depth."""

    depth: float
    least: float
    most: float


class Evidence:
    """Hears of refusals, and says what they prove.

    Args:
        log: what was accepted when.

    Attributes:
        disproved: whether more was accepted before the last refusal than the one before it made possible. Then the
            limit has risen, or that one had nothing to do with a limit.
    """

    __slots__ = ("_anchors", "_bounds", "_last", "_log", "_origin", "disproved")

    def __init__(self, log: Accepted) -> None:
        self._log = log
        self.disproved = False
        self._origin = next(log.notes(math.inf))
        self._last: tuple[float, int] | None = None
        self._anchors: list[deque[tuple[float, int]]] = [deque(maxlen=ANCHORS) for _ in DEPTHS]
        self._bounds: deque[tuple[float, list[Bounds]]] = deque(maxlen=ANCHORS)

    def refused(self, count: int, at: float) -> list[Bounds]:
        """A request that went at an instant was refused, so many having been accepted by then.

        Returns:
            The depths that are still possible, the shallowest first; never none.
        """
        self.disproved = self._last is not None and self._disproves(*self._last, count, at)
        found = [self._bound(depth, anchors, count, at) for depth, anchors in zip(DEPTHS, self._anchors, strict=True)]
        self._bounds.append((at, found))
        self._last = (at, count)
        while at - self._bounds[0][0] > LATELY:
            self._bounds.popleft()
        while len(self._bounds) > 1:
            if possible := [
                bounds for each in zip(*(b for _, b in self._bounds), strict=True) if (bounds := _all(each))
            ]:
                return possible
            self._bounds.popleft()  # the limit has changed
        return [bounds for bounds in found if _all((bounds,))] or found

    def _bound(self, depth: float, anchors: deque[tuple[float, int]], count: int, at: float) -> Bounds:
        """What one refusal proves for one depth. ``anchors`` are instants at which it was empty, and not full since."""
        least, full = 0.0, 0.0
        for then, before in chain([self._origin] if self._last is None else (), self._log.notes(at)):
            span, accepted = at - then + depth, count - before + (before > 0)  # the one at that instant as well
            least = max(least, accepted / span)
            if self._may_be_full(depth, then, before, (accepted + 1) / span):
                full = max(full, (accepted + 1) / span)
        most = math.inf
        for place, (then, before) in enumerate(anchors):
            least = max(least, (count - before - 1) / (at - then + JITTER))
            most = min(most, (count - before + len(anchors) - place) / max(1e-3, at - then))
        if full:  # it may have been: then only that bounds the rate; or not, and the anchors do
            most = max(full, most) if anchors else full
            anchors.clear()
        anchors.append((at, count))
        return Bounds(depth, least, most)

    def _disproves(self, then: float, before: int, count: int, at: float) -> bool:
        """Whether what was accepted since the last refusal is more than that made possible at any depth."""
        most = max(bounds.most for bounds in self._bounds[-1][1])
        return (count - before - 1) / (at - then + JITTER) > most * DISPROOF

    def _may_be_full(self, depth: float, then: float, count: int, rate: float) -> bool:
        """Whether a bucket of this rate can have been full at an instant since it was last empty."""
        if self._last is None:
            return True
        at, before = self._last
        # Less than one was left then, and the request at that instant found it full.
        return then > at and rate * (then - at - depth) + 2.0 >= count - before


def _all(bounds: tuple[Bounds, ...]) -> Bounds | None:
    """Several bounds of one depth as one; None where they exclude each other."""
    least, most = max(one.least for one in bounds), min(one.most for one in bounds)
    return Bounds(bounds[0].depth, least, max(least, most)) if least <= most * TOLERANCE else None
