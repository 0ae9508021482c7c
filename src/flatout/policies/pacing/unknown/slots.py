"""A target that limits how many requests are in flight, and refuses all others.

Such a limit refuses always at the same number in flight, whatever the rate. It is exact: the target always takes as
many as were in flight when it refused a request. So that many are sent, and now and then one more to try.
"""

from __future__ import annotations

import math
from collections import deque

SURE = 5.0
"""Logarithm of the odds, of a limit on requests in flight against one on the rate, that is taken as proof."""

LIKELY = 2.5
"""The logarithm of these odds above which no other cause is looked for."""

AT_TOP = 0.8
"""The share of refusals that come at about the limit, if there is such a limit. The others are strays."""

ABOUT = 0.1
"""The share by which two numbers in flight may differ and still count as about the same."""

RECENT = 100
"""Answers that are remembered."""

ALARM = 4.0
"""Refusals just below the limit that lower it."""

WRONG = 8.0
"""Refusals far below the limit that show that there is no such limit."""

MADE_UP = 0.15
"""Refusals that each request between them makes up for."""

OFTEN = 3
"""Times that the limit may be lowered soon after the last time. If it has to be lowered more often, it is no limit."""

SOON = 400
"""Requests within which that is soon."""

STAND = 32
"""Requests from a refusal to the next try with more in flight. This doubles each time that the try is refused."""

LONGEST_STAND = 4_096
"""Most requests until the next try."""

TRIED = 8
"""Answers without a refusal after which a try has succeeded. The next one then tries twice as many more."""


class Signs:
    """Judges whether a target limits requests in flight.

    If it does, nearly all refusals come with as many in flight as it ever takes. If it limits the rate, refusals come
    at any number in flight, like answers. Each refusal changes the odds of the two.
    """

    __slots__ = ("_odds", "_sure", "_taken")

    def __init__(self) -> None:
        self._taken: deque[int] = deque(maxlen=RECENT)  # requests in flight when accepted ones were sent
        self._odds = 0.0
        self._sure = SURE

    @property
    def likely(self) -> bool:
        """Whether such a limit is likely enough to look for no other cause."""
        return self._odds > LIKELY

    def taken(self, in_flight: int) -> None:
        """A request was answered that was sent with this many others in flight."""
        self._taken.append(in_flight)

    def refused(self, in_flight: int) -> int:
        """A request with this many others in flight was refused. Returns the limit; 0 while there seems to be none."""
        taken = self._taken
        most = max(taken, default=0)
        room = 1.0 + ABOUT * most
        if in_flight > most + 2.0 * room:  # answers to the requests before it are still to come
            return 0
        share = (sum(each > most - room for each in taken) + 1) / (len(taken) + 2)
        at_top = in_flight > most - room
        self._odds = max(-SURE, self._odds + math.log(AT_TOP / share if at_top else (1.0 - AT_TOP) / (1.0 - share)))
        return most + 1 if self._odds >= self._sure else 0

    def were_wrong(self) -> None:
        """There was no such limit: ask for stronger signs the next time."""
        self._sure *= 2.0
        self._odds = 0.0


class Slots:
    """A limit on requests in flight.

    Args:
        limit: how many were in flight when one was refused.
        sent: requests sent so far.

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
        """A request goes, with this many others in flight."""
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
        """A request sent with this many others in flight was refused. Returns whether there is no such limit."""
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
