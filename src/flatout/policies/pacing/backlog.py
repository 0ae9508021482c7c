"""Keeps the line short at a server that lets calls wait instead of refusing them.

Such a server never says that it is full. The more is in flight, the longer each call takes, and no more are answered.
Two signs show it, and both must be there:

- *Order.* The server takes calls in the order in which they came. So a call overtakes none but those that are at work.
  Where nothing waits, a short answer overtakes about half of what is in flight.
- *Time.* A call that has waited takes longer than calls did at best. This tells the server from one where all answers
  take equally long, so that none overtakes any.

The larger of the two is how many are at work. A bound of twice as many keeps every slot busy.
"""

from __future__ import annotations

from bisect import bisect_left

from .tokens import Need

START, AHEAD = 64, 8.0
"""Calls in flight before any was answered; and how many times what is seen at work, until a line is seen."""

ENOUGH, LONG = 2.0, 3.0
"""How many times what is at work is in flight at a server with a line; and from which on the line is too long."""

SURE = 32
"""Answers one after the other that have stood in too long a line before it is shortened."""

RECENT, FIRST = 8, 4
"""Answers over which their time is averaged; and the first ones, of which only the average may be the best."""

JUDGED, SAME = 24, 0.8
"""Answers of calls that were sent after the line was shortened, by which that is judged; and the share of their
time before that is no less time."""

SHORTEST = 1e-6
"""Seconds that an answer takes at least."""


class Backlog:
    """How many calls may be in flight at a server that may let them wait.

    Args:
        most: never more than this.
        limit: what to begin with.

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
        self._at = 0.0  # calls in flight when those were sent that are answered now
        self._seconds = self._best = 0.0  # how long these take, and such took at best
        self._long, self._working = 0, 0.0  # answers in a row after too long a line, and the most at work with them
        self._line = False  # whether there is a line, as far as is known
        # The last call before the line was shortened, how many were in flight then, and how long answers took.
        self._before: tuple[int, int, float] | None = None
        self._judged = 0  # answers since

    def __repr__(self) -> str:
        return f"Backlog({self.limit:.0f} in flight{', a line' * self._line})"

    def sent(self, need: Need) -> None:
        """A call goes."""
        self._sent += 1
        need.place = self._sent
        self._in_flight.append(self._sent)

    def over(self, need: Need) -> int:
        """A call has ended. Returns how many that were sent before it have not."""
        at = bisect_left(self._in_flight, need.place)
        del self._in_flight[at]
        return at

    def answered(self, need: Need, seconds: float) -> None:
        """A call was answered, after so many seconds."""
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
        """Average how long answers take. The very first may be the shortest of many, and no measure of the best."""
        self._answers += 1
        share = 1.0 / min(RECENT, self._answers)
        self._at += share * (in_flight - self._at)
        self._seconds += share * (max(SHORTEST, seconds) - self._seconds)
        self._best = min(self._best, self._seconds) if self._answers > FIRST else self._seconds

    def _shorten(self, in_flight: int) -> None:
        """Too many stand in line."""
        self.limit = max(1.0, min(self.limit, ENOUGH * self._working))
        self._line = True
        if self._before is None or in_flight >= self._before[1]:
            self._before, self._judged = (self._sent, in_flight, self._seconds), 0
        self._long, self._working = 0, 0.0

    def _judge(self, need: Need) -> None:
        """Whether answers are quicker since fewer are in flight. If not, there was no line: they take longer now."""
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
