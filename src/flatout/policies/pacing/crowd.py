"""How many calls may be in flight at a server that says that it has no capacity for more (503, 529).

Nothing bounds them until it says so. A server that is full takes up to a number of calls, and pushes back all others:
that number is what was in flight, so a little less is sent from then on, and more again while nothing is pushed back.
Where others are taken meanwhile with more in flight, it is not the number: some say 503 now and then, whatever it is.
"""

from __future__ import annotations

from .aimd import Aimd
from .tokens import Need

FULL, FADES = 4.0, 0.9
"""Push-backs that say that a server is full, and what one counts after each call that was sent since. So five that come
one after the other do, and a tenth of all calls, whatever is in flight, hardly ever."""

SOON, FEWER = 50, 0.9
"""Calls after a cut within which a full server is not found full again with fewer in flight than this share of what it
took before."""

TAKEN = 8
"""Calls that were sent among those that were pushed back, with more in flight, and taken: then it is not the number."""

DEAF, DEAFEST = 400, 3_200
"""Calls for which push-backs are overlooked after a cut that was of no use; twice as many each time, up to so many."""

QUICK = 2.0
"""Seconds within which a server that is full says so. What fails later was taken before, and is no measure of it."""


class Crowd:
    """The push-backs of one server.

    Args:
        aimd: what bounds the calls in flight.
    """

    __slots__ = (
        "_count",
        "_cut",
        "_deaf_until",
        "_deafness",
        "_first",
        "_full",
        "_last",
        "_least",
        "_taken",
        "_tested",
        "aimd",
    )

    def __init__(self, aimd: Aimd) -> None:
        self.aimd = aimd
        self._full, self._last = 0.0, 0  # how full it seems, and the last call that was pushed back
        self._first = self._least = self._count = 0  # the first of them, and the fewest and most in flight with them
        self._taken = 0  # how many were taken among them
        self._tested: tuple[int, int] | None = None  # such a first and fewest, as they were at the last cut
        self._cut = -SOON  # the call, by its number, at which there was the last cut
        self._deaf_until, self._deafness = 0, DEAF

    def __repr__(self) -> str:
        return f"Crowd({self.aimd!r})"

    def pushed_back(self, need: Need, in_flight: int, sent: float, now: float) -> bool:
        """A call was pushed back.

        Args:
            need: the call's need, as it was admitted.
            in_flight: how many are in flight without it.
            sent: when it was sent.
            now: the present.

        Returns:
            Whether there is another reason than the number in flight, as far as is known.
        """
        if need.number <= self._deaf_until:
            return True
        if sent < self.aimd.cut_at:
            return False
        self._full *= FADES ** max(0, need.number - self._last)
        if self._full < 0.5:
            self._first, self._least, self._count = need.number, need.at, 0
        self._least = min(self._least, need.at)
        self._count = max(self._count, need.at if now - sent <= QUICK else in_flight + 1)
        self._full += 1.0
        self._last = max(need.number, self._last)
        if self._full < FULL:
            return True
        count, self._full, self._count = self._count, 0.0, 0
        return not self._cuts(need.number, count, sent, now)

    def answered(self, need: Need, now: float) -> None:
        """A call was answered. It shows a cut to be of no use, if it was sent as the others were, and was taken."""
        if self._tested is None or not self._tested[0] < need.number < self._cut or need.at <= self._tested[1]:
            return
        self._taken += 1
        if self._taken >= TAKEN:
            self._overlook(self._cut, now)

    def take_back(self, now: float) -> None:
        """The last cut was for nothing."""
        self.aimd.take_back(now)

    def _cuts(self, number: int, count: int, sent: float, now: float) -> bool:
        """Have fewer in flight; or as many as before, where fewer are no help. Returns which."""
        if number - self._cut > SOON or count >= FEWER * self.aimd.ceiling:
            self._cut = number
            self._tested, self._taken = (self._first, self._least), 0
            self.aimd.pushed_back(sent, now, count)
            return True
        self._overlook(number, now)
        return False

    def _overlook(self, number: int, now: float) -> None:
        self._tested = None
        self.aimd.take_back(now)
        self._deaf_until = number + self._deafness
        self._deafness = min(DEAFEST, 2 * self._deafness)
