"""A target that limits how many requests are in flight, and says so by refusing all others.

Such a limit shows itself by always being met with as many in flight, whatever the rate. It is exact: as many as were in
flight when a request was refused are always taken. So that many are sent, and one more now and then.
"""

from __future__ import annotations

import math
from collections import deque

SURE = 5.0
"""Logarithm of the odds, for a number in flight against a rate, from which on that is believed."""

LIKELY = 2.5
"""The same, from which on it is likely enough to look for no other cause."""

AT_TOP = 0.8
"""The share of refusals that come at the very number, or nearly, where that is the limit. Others are strays."""

ABOUT, RECENT = 0.1, 100
"""The share by which a number in flight may differ and be about the same; and answers that are remembered."""

ALARM, WRONG, MADE_UP = 4.0, 8.0, 0.15
"""Refusals below the limit that lower it, of which every request that was taken makes up for this share."""

OFTEN, SOON = 3, 400
"""Times that a limit may be lowered, each within so many requests of the last. More often, and it is no limit."""

STAND, LONGEST_STAND = 32, 4_096
"""Requests from a refusal to the next try with more in flight; doubled each time that is refused, up to so many."""

TRIED = 8
"""Answers without a refusal after which a try has succeeded. The next one then tries twice as many more."""


class Signs:
    """Whether it is a number in flight at which a target refuses.

    Where it is, nearly all refusals come with as many in flight as are ever taken. Where it is a rate, they come with
    as many in flight as other requests have. The odds of the two are followed, refusal by refusal.
    """

    __slots__ = ("_odds", "_sure", "_taken")

    def __init__(self) -> None:
        self._taken: deque[int] = deque(maxlen=RECENT)  # how many were in flight when requests were taken
        self._odds = 0.0
        self._sure = SURE

    @property
    def likely(self) -> bool:
        """Whether it is, likely enough to look for no other cause."""
        return self._odds > LIKELY

    def taken(self, in_flight: int) -> None:
        """A request was answered that was sent with so many others in flight."""
        self._taken.append(in_flight)

    def refused(self, in_flight: int) -> int:
        """A request was refused that was sent with so many others in flight. Returns how many are taken at once; 0 when
        that seems to be no limit.
        """
        taken = self._taken
        most = max(taken, default=0)
        room = 1.0 + ABOUT * most
        if in_flight > most + 2.0 * room:  # the answers from before are not there yet
            return 0
        share = (sum(each > most - room for each in taken) + 1) / (len(taken) + 2)
        at_top = in_flight > most - room
        self._odds = max(-SURE, self._odds + math.log(AT_TOP / share if at_top else (1.0 - AT_TOP) / (1.0 - share)))
        return most + 1 if self._odds >= self._sure else 0

    def were_wrong(self) -> None:
        """It was no number in flight."""
        self._sure *= 2.0
        self._odds = 0.0


class Slots:
    """How many requests may be in flight.

    Args:
        limit: how many were when one was refused.
        sent: how many requests were sent so far.

    Attributes:
        limit: how many may be in flight now.
    """

    __slots__ = (
        "_base",
        "_ended",
        "_last",
        "_least",
        "_lowered",
        "_lowered_at",
        "_run",
        "_stand",
        "_step",
        "_strays",
        "_try_at",
        "limit",
    )

    def __init__(self, limit: int, sent: int) -> None:
        self.limit = self._base = limit
        self._run, self._strays, self._last, self._least = 0.0, 0.0, sent, limit
        self._step, self._stand, self._try_at = 1, STAND, sent + STAND
        self._lowered, self._lowered_at = 0, sent
        self._ended = 0  # answers since a try began

    def __repr__(self) -> str:
        return f"Slots({self.limit})"

    def sent(self, mark: int, in_flight: int) -> None:
        """A request goes, with so many others in flight."""
        if self.limit == self._base and mark >= self._try_at and in_flight + 1 >= self.limit:
            self.limit = self._base + self._step
            self._ended = 0

    def taken(self) -> None:
        """A request was answered."""
        self._ended += 1
        if self.limit > self._base and self._ended >= TRIED:
            self._base = self.limit
            self._step *= 2
            self._stand = STAND

    def refused(self, mark: int, in_flight: int) -> bool:
        """A request was refused that was sent with so many others in flight. Returns whether it is no such limit."""
        if self.limit > self._base and in_flight >= self._base:
            self._stand = min(LONGEST_STAND, 2 * self._stand)
            self._hold(self._base, mark)
            return False
        if mark <= self._last:
            return False
        made_up = MADE_UP * (mark - self._last - 1)
        self._last = mark
        self._run, self._strays = max(0.0, self._run - made_up), max(0.0, self._strays - made_up)
        if in_flight < (1.0 - 2.0 * ABOUT) * self._base:
            self._strays += 1.0
            return self._strays >= WRONG
        self._least = in_flight if self._run == 0.0 else min(self._least, in_flight)
        self._run += 1.0
        if self._run < ALARM:
            return False
        self._lowered = self._lowered + 1 if mark < self._lowered_at + SOON else 1
        self._lowered_at = mark
        self._hold(max(1, self._least), mark)
        return self._lowered > OFTEN

    def _hold(self, limit: int, mark: int) -> None:
        self.limit = self._base = limit
        self._step, self._run, self._strays, self._last = 1, 0.0, 0.0, mark
        self._try_at = mark + self._stand
