"""How many requests are in flight to one target, and whether one more may be.

Up to five bounds hold at once. Programs that share a bound share the count.

- the user's, or that of another program;
- `aimd`: the number that is adapted to a server of one's own;
- `slots`: a limit that turned out to be on requests in flight;
- `backlog`: what keeps the line short at a server that lets calls wait;
- `crowd`: what a server without capacity was seen to take.
"""

from __future__ import annotations

import math

from .aimd import Aimd
from .backlog import Backlog
from .crowd import Crowd
from .discovery import IN_FLIGHT, Discovery
from .sharing import Members
from .tokens import Need


class InFlight:
    """The requests in flight.

    Args:
        concurrency: how many the user allows; None when not given.
        discovery: the search that is at work.
        bounded: whether a limit per time bounds them, too.
        backlog: keeps the line short at the server; None if limits do that.
        members: the programs that share the limits.

    Attributes:
        own: how many this program has.
    """

    __slots__ = ("_backlog", "_concurrency", "_crowd", "_discovery", "_given", "_members", "_most", "own")

    def __init__(
        self,
        concurrency: int | None,
        discovery: Discovery,
        *,
        bounded: bool,
        backlog: Backlog | None = None,
        members: Members | None = None,
    ) -> None:
        self.own = 0
        self._concurrency = concurrency
        self._discovery = discovery
        self._most = concurrency or (math.inf if bounded else IN_FLIGHT)
        self._backlog = backlog
        self._members = members
        self._given = math.inf  # what another program was given
        self._crowd: Crowd | None = None  # from the first push-back on

    @property
    def count(self) -> int:
        """How many requests are in flight: of all programs, where a bound holds for all together."""
        if self._members is not None and self._are_shared:
            return int(self._members.in_flight)
        return self.own

    def has_room(self, now: float) -> bool:
        """Whether one more request may be in flight."""
        return self._fits(now) and (self._backlog is None or self.own + 1 <= self._backlog.limit)

    @property
    def most(self) -> float | None:
        """The tightest bound; None when there is none."""
        search = self._discovery.search
        slots = search.slots if search is not None else None
        given = min(self._most, self._given)
        bounds = (self._discovery.aimd, self._backlog, slots, self._crowd.aimd if self._crowd is not None else None)
        most = min(given if each is None else each.limit for each in bounds)
        return most if most != math.inf else None

    def sent(self, need: Need, now: float) -> None:
        """A request goes."""
        self.own += 1
        if self._members is not None:
            self._members.sent(now)
        need.at = self.count
        if self._backlog is not None:
            self._backlog.sent(need)

    def answered(self, need: Need, seconds: float, now: float) -> None:
        """A request was answered after this many seconds."""
        aimd, crowd = self._discovery.aimd, self._crowd
        if aimd is not None:
            aimd.answered(self.count, seconds, now)
        if crowd is not None:
            crowd.answered(need, now)
            if crowd.aimd is not aimd:
                crowd.aimd.answered(self.own, seconds, now)
        if self._backlog is not None:
            self._backlog.answered(need, seconds)
        self._end()

    def ended(self, need: Need) -> None:
        """A request is over without an answer."""
        self._end()
        if self._backlog is not None:
            self._backlog.over(need)

    def pushed_back(self, need: Need, sent: float, now: float) -> bool:
        """A request that is over met a server without capacity. Returns whether fewer in flight would be no help."""
        if self._crowd is None:
            most = min(self._most, IN_FLIGHT)
            self._crowd = Crowd(self._discovery.aimd or Aimd(sent, most, limit=most))
        return self._crowd.pushed_back(need, self.count, sent, now)

    def catch_up(self) -> bool:
        """Follow what other programs were given. Returns whether they were given a number now, and were not before."""
        before = self._given
        if self._members is not None:
            self._given = self._members.given
        return self._given < before == math.inf

    def take_back(self, now: float) -> None:
        """Undo what recent push-backs changed: the server was down, and not full."""
        if self._crowd is not None:
            self._crowd.take_back(now)

    def scale(self, share: float) -> None:
        """Change the bounds that are given to a share of them, with nothing in flight."""
        self.own = 0
        self._most = max(1.0, self._most * share)
        if self._concurrency is not None:
            self._concurrency = max(1, round(self._concurrency * share))

    def change(self, concurrency: int | None, *, bounded: bool, backlog: Backlog | None) -> None:
        """The user gives another number, or none. What is in flight stays; no request goes until it fits.

        Args:
            concurrency: how many the user allows; None when not given.
            bounded: whether a limit per time bounds them, too.
            backlog: keeps the line short at the server; None if limits do that.
        """
        self._concurrency = concurrency
        self._most = concurrency or (math.inf if bounded else IN_FLIGHT)
        self._backlog = backlog
        self._crowd = None  # what the server was seen to take was seen within the old number

    def unbind(self) -> None:
        """A limit per time became known: keep only the user's bound."""
        self._backlog = None
        self._most = self._concurrency or math.inf

    @property
    def _are_shared(self) -> bool:
        """Whether a bound holds for all programs together."""
        return self._concurrency is not None or self._given < math.inf or self._discovery.adapts_together

    def _fits(self, now: float) -> bool:
        discovery, crowd = self._discovery, self._crowd
        count = self.own if self._members is None else self.count
        most = self._most if discovery.aimd is None else discovery.aimd.limit
        if crowd is not None and count + 1 > crowd.aimd.limit:
            return False
        if self._members is None:
            return count + 1 <= most
        most, search = min(most, self._given), discovery.search
        slots = search.slots if search is not None else None
        if search is not None and slots is not None:
            most = min(most, count + slots.limit - search.in_flight)
        if slots is None and not self._are_shared:
            return count + 1 <= most
        return self._fits_among(self._members, most, count, now)

    def _fits_among(self, members: Members, most: float, count: float, now: float) -> bool:
        """Whether this program may take one of the free places. Those of programs that died become free later."""
        if members.fits(most, count, now):
            return True
        for _ in range(members.bury(now)):
            if self._discovery.search is not None:
                self._discovery.search.over()
        return False

    def _end(self) -> None:
        self.own -= 1
        if self._members is not None:
            self._members.ended()
