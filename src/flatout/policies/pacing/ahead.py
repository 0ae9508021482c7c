"""How a known limit is spent ahead where nobody tells how much may go at once: it is tried, once.

A provider that counts by the minute takes a whole minute's calls at once; one that counts by the second does not. So
more goes than is earned, a few calls at a time. A refusal comes within a tenth of a second, so no more than these few
are refused. The minute that begins with the first call gets no more than the limit: what went ahead of it is missing at
its end. What was taken so is remembered, and goes at once the next time.
"""

from __future__ import annotations

import math

from .gcra import BURST, Steady

TRIED = 2.0
"""Seconds of a rate that are tried ahead before the first answer: it may tell of a limit that is another."""

MINUTE = 60.0
"""Seconds over which most limits count. What goes ahead is earned so many seconds after the first call."""

SURE = 0.9
"""The share of a bucket that was found by a refusal which goes at once the next time."""

LOT, APART = 5, 0.02
"""Calls that are tried at once, and the seconds between those that follow: five go until a refusal is heard of. Where
calls differ in what they cost, five times the usual cost is tried at once."""

SPARE = 0.3
"""Seconds of a rate, and at least one unit, that are left in a bucket that is spent ahead. What is spent opens
connections first and arrives late; until then the bucket is full, and what would refill is lost.
"""

SHARE = 1.02
"""Where headers tell more than so many times the given limit, a share was given. A share is spent evenly."""

FULL = 0.95
"""Where nothing tells when a limit resets: what is left above this share of it is a whole minute's."""


def at_once(burst: float) -> float:
    """Seconds of a rate that are let go at once where the user says how many may."""
    return min(burst, max(BURST, burst - SPARE))


class Trial(Steady):
    """A GCRA that lets more go than is earned, until the first minute is over or it is ended.

    Args:
        rate: units per second.
        burst: seconds of the rate that may go at once when the trial is over.
        now: the present.
        depth: seconds of the rate that an earlier run found to be taken ahead.
        idle: seconds since all that it sent was earned.
        tries: whether more than that is tried.
        at_once: whether what was taken goes at once, and not a few calls at a time.

    Attributes:
        burst: seconds of the rate that may go at once.
        open: whether more is tried.
        depth: seconds of the rate that were taken ahead.
    """

    __slots__ = (
        "_apart",
        "_calls",
        "_evenly",
        "_last",
        "_most",
        "_next",
        "_spent",
        "_until",
        "_usual",
        "depth",
        "open",
    )

    def __init__(
        self,
        rate: float,
        burst: float,
        now: float,
        *,
        depth: float = 0.0,
        idle: float = math.inf,
        tries: bool = True,
        at_once: bool = True,
    ) -> None:
        super().__init__(rate, max(burst, min(depth, idle)) if at_once else burst, now)
        self.tat = now
        self.open = tries and idle >= MINUTE
        self.depth = depth
        self._evenly = burst
        self._most = MINUTE if depth > TRIED else TRIED  # seconds of the rate that are tried ahead
        self._apart = APART
        self._spent = now  # when all that went is earned, whatever was forgiven
        self._last = now  # when the last call went
        self._next = -math.inf  # the theoretical arrival time of calls that are tried ahead
        self._until = math.inf  # when the first minute is over
        self._calls, self._usual = 0, 0.0  # the calls so far, and what they cost on average

    @property
    def runs(self) -> bool:
        """Whether it has begun, and the first minute is not known to be over."""
        return self._until < math.inf

    @property
    def owes(self) -> float:
        """Seconds from the last call on until all that went is earned."""
        return max(0.0, self._spent - self._last)

    def answered(self, ahead: float) -> None:
        """A call was answered that had been sent so many seconds ahead, and the answer told nothing of the limit."""
        if self.open:
            self.depth = max(self.depth, ahead)
            self._most = MINUTE

    def refused(self, ahead: float, now: float) -> None:
        """A call was refused that had been sent so many seconds ahead: the bucket is so deep, and empty now."""
        self.depth = min(SURE * ahead, max(0.0, ahead - max(SPARE, 1.0 / self.rate)))
        self.begin(now)

    def forget(self) -> None:
        """What was taken ahead will not be there the next time."""
        self.depth = 0.0

    def end(self) -> None:
        """Spend evenly from now on. What went ahead is earned first."""
        if self.open or self.runs:
            self.open = False
            self.burst = self._evenly
            self._until = math.inf

    def begin(self, at: float) -> None:
        """Go on evenly. What went ahead is made up for at the end of the first minute, and not at once."""
        self.open = False
        self.burst = self._evenly
        super().begin(at)

    def give(self, cost: float) -> None:
        self._spent -= cost / self.rate
        super().give(cost)

    def ready_at(self, cost: float) -> float:
        """When a cost may be admitted: as soon as it is earned, or ahead of that in its turn."""
        seconds = cost / self.rate
        earned = super().ready_at(cost)
        if self._spent + seconds > self._until:
            return max(earned, self._spent - max(0.0, self._evenly - seconds))
        if not self.open:
            return earned
        ahead = self.tat - self._most + seconds if seconds < self._most else self.tat
        lot = LOT if self._most == TRIED else 1
        room = lot - (cost / self._usual if self._usual else 1.0)
        turn = self._next - self._apart * room if room > 0 else self._next
        return min(earned, max(ahead, turn))

    def take(self, cost: float, now: float) -> None:
        """Admit a cost."""
        if self._calls == 0 and (self.open or self.burst > self._evenly):
            self._until = now + MINUTE
        self._calls += 1
        self._usual += (cost - self._usual) / self._calls
        if now >= self._until:
            self.end()
        elif self.open and cost and now < self.tat - max(0.0, self.burst - cost / self.rate):
            if self._most == MINUTE:
                earned = self.rate / self._usual  # calls a second
                self._apart = 1.0 / (earned + 1.0 / APART)
            self._next = max(self._next, now) + self._apart * cost / self._usual
        self._last = now
        self._spent = max(self._spent, now) + cost / self.rate
        super().take(cost, now)
