"""Which calls wait while another one fills a provider's prompt cache, and under which key each of them goes.

What a call writes to the cache can be read only once its answer has begun. So the first call of a group goes alone, and
the others follow when its answer begins. A group that is asked more often than one machine of the provider serves is
spread over several keys (lanes), and each of them has to be filled.
"""

from __future__ import annotations

import math
from collections import deque
from heapq import heappop, heappush
from typing import Literal, NamedTuple

MINUTE = 60.0

HOLD = 10.0
"""Seconds from the sending of the call that fills the cache after which nobody waits for it: its answer is slow."""

FAILURES = 2
"""Calls in a row that failed to fill the cache after which nobody waits for the next one."""

MISSES = 8
"""Answers in a row that should have been read from the cache, and were written once more, after which the group does
without: writing costs more than not caching."""


class Lane:
    """One key of a group, and the machine that it leads to.

    Attributes:
        number: its number, from 0; part of its key.
        until: until when what is cached there lasts; 0 if nothing is.
    """

    __slots__ = ("failed", "filled_by", "number", "sent", "until")

    def __init__(self, number: int, most: int | None) -> None:
        self.number = number
        self.until = 0.0
        self.failed = 0  # calls in a row that failed to fill it
        self.filled_by = math.inf  # when the call that fills it should have an answer; never while it is not sent
        self.sent: deque[float] = deque(maxlen=most or 1)

    def __repr__(self) -> str:
        return f"Lane({self.number}, until={self.until:.1f})"


class Go(NamedTuple):
    """A call goes on a lane; it may be the one that fills it."""

    lane: Lane
    fills: bool


class Warmth:
    """The lanes of one group. Times are the caller's clock.

    Args:
        lifetime: seconds that a cached beginning lasts after its last use.
        most: calls a minute for one lane; None for a single lane that takes all.

    Attributes:
        given_up: whether the cache was filled again and again and never read.
    """

    __slots__ = ("_filling", "_full", "_lanes", "_lifetime", "_missed", "_most", "_open", "given_up")

    def __init__(self, lifetime: float, most: int | None) -> None:
        self._lifetime = lifetime
        self._most = most
        self._lanes: list[Lane] = []
        self._open: list[int] = []  # a heap of the lanes that take a call; the lowest goes first, and others may rest
        self._full: list[tuple[float, int]] = []  # a heap of those that do not, by when they will
        self._filling: list[Lane] = []  # the lanes that a call fills now, which are in neither heap
        self._missed = 0
        self.given_up = False

    def __repr__(self) -> str:
        return f"Warmth({len(self._lanes)} lanes, {len(self._filling)} being filled)"

    @property
    def new(self) -> bool:
        """Whether no call has gone yet."""
        return not self._lanes

    def turn(self, now: float, waiting: int) -> Go | Literal["wait", "without"]:
        """What a call does: it goes, it waits for one that fills the cache, or it goes without the cache because that
        one takes too long.

        Args:
            now: the time.
            waiting: how many calls of the group wait already.
        """
        lane = self._next(now)
        if lane is not None and lane.until > now:
            self._use(lane, now)
            return Go(lane, fills=False)
        soon = sum(each.filled_by > now and each.failed < FAILURES for each in self._filling)
        if soon and (self._most is None or waiting < soon * (self._most - 1)):
            return "wait"
        if soon < len(self._filling):
            return "without"
        return Go(self._fill(lane or self._add(), now), fills=True)

    def sent(self, lane: Lane, now: float) -> float:
        """The call that fills a lane is sent. Returns when nobody waits for it any longer."""
        lane.filled_by = now + HOLD
        return lane.filled_by

    def begun(self, lane: Lane, now: float, *, fills: bool) -> None:
        """The answer to a call on a lane has begun. From now on, what is cached there lasts again."""
        lane.until = now + self._lifetime
        lane.failed = 0
        if fills:
            self._put_back(lane, now)

    def failed(self, lane: Lane, now: float) -> None:
        """The call that was to fill a lane got no answer."""
        lane.failed += 1
        self._put_back(lane, now)

    def told(self, *, read: bool, wrote: bool) -> None:
        """Note whether a call on a filled lane read from the cache, or wrote once more."""
        self._missed = self._missed + 1 if wrote and not read else 0
        self.given_up = self.given_up or self._missed >= MISSES

    def _next(self, now: float) -> Lane | None:
        """The first lane that takes a call."""
        while self._full and self._full[0][0] <= now:
            heappush(self._open, heappop(self._full)[1])
        return self._lanes[self._open[0]] if self._open else None

    def _add(self) -> Lane:
        lane = Lane(len(self._lanes), self._most)
        self._lanes.append(lane)
        return lane

    def _fill(self, lane: Lane, now: float) -> Lane:
        if self._open and self._open[0] == lane.number:
            heappop(self._open)
        lane.filled_by = math.inf
        lane.sent.append(now)
        self._filling.append(lane)
        return lane

    def _use(self, lane: Lane, now: float) -> None:
        lane.sent.append(now)
        if (at := self._ready_at(lane)) > now:
            heappop(self._open)
            heappush(self._full, (at, lane.number))

    def _put_back(self, lane: Lane, now: float) -> None:
        self._filling.remove(lane)
        at = self._ready_at(lane)
        if at > now:
            heappush(self._full, (at, lane.number))
        else:
            heappush(self._open, lane.number)

    def _ready_at(self, lane: Lane) -> float:
        """When a lane takes another call: it takes at most `_most` in any minute."""
        if self._most is None or len(lane.sent) < self._most:
            return -math.inf
        return lane.sent[0] + MINUTE
