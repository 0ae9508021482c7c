"""A limit that others use too: they search for it as well, and nobody knows of the others.

What one of them leaves, the others take. So a program that holds just below what was accepted lately only shrinks,
while the others grow into its share. Shares become equal when all grow by the same part, and each gives way by a part
at a refusal: the program that sends more is refused more often.

Seen from one program, such refusals look like strays, for they hardly depend on its own rate. Two things tell them
apart: `twins`, and that a rate that was given up for nothing is refused no more often when it is tried again.
"""

from __future__ import annotations

import math

from .known import ALARM, LONGEST, SLOWEST, STAND, Known, Phase, Refusal
from .shut import Shut
from .twins import Twins

GROWTH, SLOW = 1.0 / 240.0, 1.0 / 960.0
"""The parts by which a rate grows in a second, and by which a low one does. So shares become equal within minutes."""

GIVE_WAY, REST = 0.25, 5.0
"""The part of a rate that is given up at a refusal; and seconds until the next one counts: the others give way too."""

REFUSED = 0.02
"""The share of refusals that is too many. Growth is slower where it would cost more than that."""

QUIET = 150.0
"""Seconds without a refusal from which on a rate grows faster and faster: others have left."""

SAME, TIMES = 0.04, 5
"""The part by which rates may differ and be the same, and refusals in a row at the same rate that show that nobody else
uses the limit."""

FALLS, LEAST, CHANCE = 4.0, 32, 3.0
"""A rate that has fallen to so small a part is tried again as it was, for so many requests at least. If no more than
twice as many are refused, and these few, it is no limit that refuses."""

SOONEST = 20.0
"""Seconds until then, in which the others give way, too."""


class Company:
    """The rate of one of several.

    Args:
        rate: requests per second to begin with.
        least: the fewest.
        sent: requests sent so far.
        now: the present.

    Attributes:
        rate: requests per second.
        limit: what the limit seems to be, once it is over.
        strays: the share of requests that are refused for nothing, once that is known.
        over: whether nobody else seems to be there.
        twins: its requests go two at a time.
    """

    __slots__ = (
        "_began",
        "_cut",
        "_cut_at",
        "_grown",
        "_least",
        "_refused",
        "_same",
        "_share",
        "_since",
        "_tests",
        "_top",
        "limit",
        "over",
        "rate",
        "strays",
        "twins",
    )

    def __init__(self, rate: float, least: float, sent: int, now: float) -> None:
        self.rate = self.limit = rate
        self._least = least
        self.strays, self.over = 0.0, False
        self._same = 0
        self._share = 0.0  # of refusals, at the lower rates
        self._grown, self._cut_at = now, now - REST
        self._begin(rate, sent, now)

    def pace(self, sent: int, now: float, ceiling: float) -> None:
        """A request goes."""
        if not self._tests:
            seconds = min(10.0, now - self._grown)
            self.rate = min(ceiling, self.rate * math.exp(self._growth(now) * seconds))
        elif sent - self._since >= max(LEAST, CHANCE / self._share):
            self._end_test(sent, now, strays=self.twins.doubtful)
        self._grown = now

    def refused(self, mark: int, sent: int, now: float) -> None:
        """A request was refused, and as many had been sent by then."""
        self.twins.refused(mark)
        if mark <= self._cut:
            return
        self._refused += 1
        if self._tests:
            if self._refused > CHANCE + 2.0 * self._share * (sent - self._since):
                self._end_test(sent, now, strays=False)
        elif now - self._cut_at >= REST:
            self._give_way(sent, now)

    def _begin(self, top: float, sent: int, now: float) -> None:
        """Go on from a rate, and remember nothing of others."""
        self._top, self._began = top, now
        self._tests = False
        self._refused, self._since, self._cut = 0, sent, sent
        self.twins = Twins(sent)

    def _growth(self, now: float) -> float:
        """The part by which the rate grows in a second."""
        growth = max(SLOW, min(GROWTH, REFUSED * GIVE_WAY * self.rate))
        return growth * max(1.0, (now - self._cut_at) / QUIET)

    def _give_way(self, sent: int, now: float) -> None:
        self._same = self._same + 1 if abs(self.rate / self.limit - 1.0) <= SAME else 0
        self.limit = self.rate
        self.over = self._same >= TIMES
        self._cut, self._cut_at = sent, now
        self.rate = max(self._least, self._top / FALLS, self.rate * (1.0 - GIVE_WAY))
        if self.rate * FALLS <= self._top and now - self._began >= SOONEST:
            self._test(sent)

    def _test(self, sent: int) -> None:
        """Try whether the first rate is refused more often than those since."""
        self._share = self._refused / max(1, sent - self._since)
        self._tests = True
        self._refused, self._since = 0, sent
        self.rate = self._top

    def _end_test(self, sent: int, now: float, *, strays: bool) -> None:
        if strays:
            self.over, self.limit, self.strays = True, self._top, self._share
        self.rate = self._top / FALLS
        self._begin(self.rate, sent, now)


class Among(Phase):
    """Send one's share.

    Args:
        known: what is known.
        rate: requests per second to begin with.
        now: the present.
    """

    def __init__(self, known: Known, rate: float, now: float) -> None:
        super().__init__(known)
        self.rate = rate
        self._company = Company(rate, SLOWEST, known.ledger.sent, now)

    @property
    def twins(self) -> Twins:
        return self._company.twins

    def take(self, now: float) -> Phase | None:
        known, company = self.known, self._company
        company.pace(known.ledger.sent, now, known.ceiling)
        self.rate = company.rate
        if not company.over:
            return self
        known.suspicion.drop(known.ledger.sent)
        known.limit, known.stand = company.limit, STAND
        if company.strays:
            known.bear(LONGEST * company.strays, LONGEST)
        return None

    def refused(self, refusal: Refusal) -> Phase | Shut:
        known = self.known
        self._company.refused(refusal.mark, known.ledger.sent, refusal.now)
        return self.shut(refusal) if known.run > ALARM else self
