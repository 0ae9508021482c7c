"""Keeps the line short at a server that lets calls wait instead of refusing them.

Such a server never says that it is full. With more calls in flight each takes longer, and the server answers no more of
them. Two signs together show it:

- *Order.* The server takes calls in the order in which they came. So a call overtakes only calls that are at work.
  Where none waits, a short answer overtakes about half of the calls in flight.
- *Time.* A call that waited takes longer than the best time. Without this sign, a server whose answers all take equally
  long would look the same, since no call overtakes another there.

Each sign estimates the calls at work; the larger estimate counts. A bound of twice as many keeps every slot busy.
"""

from __future__ import annotations

from bisect import bisect_left

from .tokens import Need

START = 64
"""Calls in flight before the first answer."""

AHEAD = 8.0
"""Calls in flight per call at work, while no line shows."""

ENOUGH = 2.0
"""Calls in flight per call at work, at a server with a line."""

LONG = 3.0
"""Calls in flight per call at work from which on the line is too long."""

SURE = 32
"""Answers in a row after too long a line that shorten it."""

RECENT = 8
"""Answers over which their time is averaged."""

FIRST = 4
"""The first answers, none of which alone counts as the best time; only their average does."""

JUDGED = 24
"""Answers to calls sent after the line was shortened, by which that is judged."""

SAME = 0.8
"""If answers still take more than this share of their former time, shortening the line was no help."""

SHORTEST = 1e-6
"""Least seconds that an answer counts as, to avoid dividing by 0."""


class Backlog:
    """How many calls may be in flight at a server that may let them wait.

    Args:
        most: never more than this.
        limit: how many at the beginning.

    Attributes:
        limit: how many may be in flight.
    """

    __slots__ = (
        "_answers",
        "_at",
        "_before",
        "_best",
        "_in_flight",
        "_judged",
        "_line",
        "_long",
        "_most",
        "_seconds",
        "_sent",
        "_working",
        "limit",
    )

    def __init__(self, most: float, limit: float = START) -> None:
        self.limit = min(limit, most)
        self._most = most
        self._sent = 0
        self._in_flight: list[int] = []  # calls, by their place in the order of sending
        self._answers = 0
        self._at = 0.0  # average calls in flight when the calls answered lately were sent
        self._seconds = self._best = 0.0  # how long answers take lately, and took at best
        self._long, self._working = 0, 0.0  # answers in a row after too long a line, and most calls at work meanwhile
        self._line = False  # whether there seems to be a line
        # When the line was shortened: the last call, the calls in flight, and how long answers took.
        self._before: tuple[int, int, float] | None = None
        self._judged = 0  # answers since that

    def __repr__(self) -> str:
        return f"Backlog({self.limit:.0f} in flight{', a line' * self._line})"

    def sent(self, need: Need) -> None:
        """A call goes."""
        self._sent += 1
        need.place = self._sent
        self._in_flight.append(self._sent)

    def over(self, need: Need) -> int:
        """A call has ended. Returns how many calls sent before it are still in flight."""
        at = bisect_left(self._in_flight, need.place)
        if at < len(self._in_flight) and self._in_flight[at] == need.place:  # else it was sent before this began
            del self._in_flight[at]
        return at

    def answered(self, need: Need, seconds: float) -> None:
        """A call was answered after this many seconds."""
        earlier = self.over(need)
        self._average(need.at, seconds)
        working = max(earlier + 1.0, self._at * self._best / self._seconds)
        if min(need.at, len(self._in_flight)) <= LONG * working:
            self._long, self._working = 0, 0.0
        else:
            self._long += 1
            self._working = max(self._working, working)
            if self._long >= SURE:
                self._shorten(need.at)
        if (most := (ENOUGH if self._line else AHEAD) * working) > self.limit:
            self.limit = min(self._most, most)
            self._line = self._line and most < self._most
        if self._before is not None:
            self._judge(need)

    def _average(self, in_flight: int, seconds: float) -> None:
        """Average how long answers take. The very first answer may be the shortest of many, so it is no best time."""
        self._answers += 1
        share = 1.0 / min(RECENT, self._answers)
        self._at += share * (in_flight - self._at)
        self._seconds += share * (max(SHORTEST, seconds) - self._seconds)
        self._best = min(self._best, self._seconds) if self._answers > FIRST else self._seconds

    def _shorten(self, in_flight: int) -> None:
        """Too many calls stand in line: allow fewer."""
        self.limit = max(1.0, min(self.limit, ENOUGH * self._working))
        self._line = True
        if self._before is None or in_flight >= self._before[1]:
            self._before, self._judged = (self._sent, in_flight, self._seconds), 0
        self._long, self._working = 0, 0.0

    def _judge(self, need: Need) -> None:
        """Judge whether answers are quicker with fewer in flight. If not, there was no line: answers became slower."""
        assert self._before is not None
        last, in_flight, seconds = self._before
        if need.place <= last or 2 * need.at > in_flight:
            return
        self._judged += 1
        if self._judged < JUDGED:
            return
        if self._seconds > SAME * seconds:
            self._best = self._seconds
        self._before = None
