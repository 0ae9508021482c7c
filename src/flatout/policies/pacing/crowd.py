"""How many calls may be in flight at a server that says that it has no capacity for more (503, 529).

Nothing bounds them before that. A full server takes a number of calls and pushes back all others. That number is what
was in flight, so from then on a little less is sent, and more again while nothing is pushed back. But if the server
takes other calls meanwhile with more in flight, the number is not the reason: some servers answer 503 now and then.
"""

from __future__ import annotations

from .aimd import Aimd
from .tokens import Need

FULL = 4.0
"""Push-backs, faded by `FADES`, that show that a server is full. Five in a row do. Where a tenth of all calls is
pushed back at random, they hardly ever do."""

FADES = 0.9
"""The factor by which a push-back counts less with each call sent since."""

SOON = 50
"""Calls after a cut within which a second cut must make sense; see `FEWER`."""

FEWER = 0.9
"""A second cut soon after the first makes no sense below this share of what the server took before."""

TAKEN = 8
"""Answered calls that show that the number in flight is not the reason: they were sent among those pushed back, with
more in flight."""

DEAF = 400
"""Calls for which push-backs are ignored after a cut that was no help. This doubles each time."""

DEAFEST = 3_200
"""Most calls for which they are ignored."""

QUICK = 2.0
"""Seconds within which a full server says so. A call that fails later had been taken, so it does not measure this."""


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
        self._full, self._last = 0.0, 0  # faded push-backs, and the last call that was pushed back
        self._first = self._least = self._count = 0  # the first of them; the fewest and the most in flight with them
        self._taken = 0  # calls that the server took among them
        self._tested: tuple[int, int] | None = None  # ``_first`` and ``_least`` at the last cut
        self._cut = -SOON  # the number of the call that caused the last cut
        self._deaf_until, self._deafness = 0, DEAF

    def __repr__(self) -> str:
        return f"Crowd({self.aimd!r})"

    def pushed_back(self, need: Need, in_flight: int, sent: float, now: float) -> bool:
        """A call was pushed back.

        Args:
            need: the call's need, as it was admitted.
            in_flight: how many other calls are in flight.
            sent: when it was sent.
            now: the present.

        Returns:
            Whether the reason seems to be another than the number in flight.
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
        """A call was answered. If it was sent among those that were pushed back, the cut seems to be no help."""
        if self._tested is None or not self._tested[0] < need.number < self._cut or need.at <= self._tested[1]:
            return
        self._taken += 1
        if self._taken >= TAKEN:
            self._overlook(self._cut, now)

    def take_back(self, now: float) -> None:
        """Undo the last cut: it had no reason."""
        self.aimd.take_back(now)

    def _cuts(self, number: int, count: int, sent: float, now: float) -> bool:
        """Cut the number in flight, or undo the last cut if fewer were no help. Returns whether it cut."""
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
