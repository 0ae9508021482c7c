"""Tries, once, how much of a known limit may go at once, where neither user nor provider says it.

A provider that counts by the minute takes a whole minute's calls at once; one that counts by the second does not. So
the trial sends more than is earned, a few calls at a time. A refusal comes within a tenth of a second, so the provider
refuses only these few. The minute that begins with the first call still gets no more than the limit: calls that went
ahead are missing at its end. The next run remembers how much the provider took, and sends that at once.
"""

from __future__ import annotations

import math

from .gcra import BURST, Steady

TRIED = 2.0
"""Seconds of a rate that are tried ahead before the first answer. Its headers may show another limit than the given."""

MINUTE = 60.0
"""Seconds over which most limits count, and in which calls that went ahead are earned."""

SURE = 0.9
"""A refusal shows how deep a bucket is. This share of it goes at once the next time."""

LOT = 5
"""Calls of the usual cost that are tried at once."""

APART = 0.02
"""Seconds between calls that are tried after those. Five go until a refusal arrives."""

SPARE = 0.3
"""Seconds of a rate, and at least one unit, that stay in a bucket that is spent ahead. The first calls open connections
and arrive late; until then the bucket is full and its refill is lost."""

SHARE = 1.02
"""If headers name more than SHARE times the given limit, the user gave a share of it. A share is spent evenly."""

FULL = 0.95
"""Where headers name no reset, a remaining amount above this share of the limit counts as a whole minute's."""


def at_once(burst: float) -> float:
    """Seconds of a rate that go at once where the user gave that number; a little less, for connections that open."""
    return min(burst, max(BURST, burst - SPARE))


class Trial(Steady):
    """A GCRA that admits more than is earned, until the first minute is over or something ends it.

    Args:
        rate: units per second.
        burst: seconds of the rate that may go at once when the trial is over.
        now: the present.
        depth: seconds of the rate that an earlier run could take ahead.
        idle: seconds since everything that it sent was earned.
        tries: whether to try more than that.
        at_once: whether ``depth`` goes at once, and not a few calls at a time.

    Attributes:
        burst: seconds of the rate that may go at once.
        open: whether the trial still tries more.
        depth: seconds of the rate that the provider took ahead.
        since: `taken` when everything was earned for the last time. How far ahead earlier calls went is not known.
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
        "since",
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
        self._spent = now  # when all calls so far are earned, including those that the GCRA forgave
        self._last = now  # when the last call went
        self._next = -math.inf  # the theoretical arrival time of calls that are tried ahead
        self._until = math.inf  # when the first minute is over
        self.since = 0.0
        self._calls, self._usual = 0, 0.0  # the calls so far, and what they cost on average

    @property
    def runs(self) -> bool:
        """Whether the first call went, and the first minute is not known to be over."""
        return self._until < math.inf

    @property
    def owes(self) -> float:
        """Seconds from the last call until all calls so far are earned."""
        return max(0.0, self._spent - self._last)

    def answered(self, ahead: float) -> None:
        """A call that went ``ahead`` seconds early was answered, and the answer said nothing of the limit."""
        if self.open:
            self.depth = max(self.depth, ahead)
            self._most = MINUTE

    def refused(self, ahead: float, now: float) -> None:
        """A call that went ``ahead`` seconds early was refused: that is the bucket's depth, and it is empty now."""
        self.depth = min(SURE * ahead, max(0.0, ahead - max(SPARE, 1.0 / self.rate)))
        self.begin(now)

    def forget(self) -> None:
        """The next run cannot take ahead what this one took."""
        self.depth = 0.0

    def end(self) -> None:
        """Spend evenly from now on, once the calls that went ahead are earned."""
        if self.open or self.runs:
            self.open = False
            self.burst = self._evenly
            self._until = math.inf

    def begin(self, at: float) -> None:
        """Spend evenly from now on. Calls that went ahead are missing at the end of the first minute, not at once."""
        self.open = False
        self.burst = self._evenly
        super().begin(at)

    def change(self, rate: float, burst: float, now: float) -> None:
        """Change the rate. Calls that went ahead are still missing at the end of the first minute."""
        if self.runs and (self.open or self.burst > self._evenly):
            self.begin(now)
        self._spent = now + min(MINUTE, (self._spent - now) * self.rate / rate) if self._spent > now else self._spent
        self._evenly = burst
        super().change(rate, burst, now)

    def give(self, cost: float) -> None:
        self._spent -= cost / self.rate
        super().give(cost)

    def ready_at(self, cost: float) -> float:
        """When a cost may be admitted: once it is earned, or earlier when its turn to be tried comes."""
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

    def take(self, cost: float, now: float, *, waited: bool = False) -> None:
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
        if now > self.tat:
            self.since = self.taken
        self._last = now
        self._spent = max(self._spent, now) + cost / self.rate
        super().take(cost, now, waited=waited)
