"""The phase at a limit that others use too: they also search for it, and none knows of the others.

The others take what one program leaves. So a program that holds just below what was accepted lately only shrinks, while
the others grow into its share. Shares become equal if every program grows by the same part per second and gives up a
part of its rate at a refusal: the program that sends more is refused more often.

To one program such refusals look like strays, because they hardly depend on its own rate. Two things tell them apart:
`twins`; and a second try at the first rate, which is refused no more often than lower rates if nobody else is there.
"""

from __future__ import annotations

import math

from .known import ALARM, LONGEST, SLOWEST, STAND, Known, Phase, Refusal
from .shut import Shut
from .twins import Twins

GROWTH = 1.0 / 240.0
"""The part of itself by which a rate grows in a second. So shares become equal within minutes."""

SLOW = 1.0 / 960.0
"""The growth of a low rate."""

GIVE_WAY = 0.25
"""The part of a rate that is given up at a refusal."""

REST = 5.0
"""Seconds from such a refusal until the next one counts: meanwhile the others give way too."""

REFUSED = 0.02
"""The largest share of refusals that is acceptable. Growth is slower where it would cost more."""

QUIET = 150.0
"""Seconds without a refusal after which a rate grows faster and faster: the others have left."""

SAME = 0.04
"""The part by which two rates may differ and still count as the same."""

TIMES = 5
"""Refusals in a row at the same rate that show that nobody else uses the limit."""

FALLS = 4.0
"""When a rate has fallen by this factor, the first rate is tried again. If that is refused hardly more often than the
lower rates, no limit refuses."""

LEAST = 32
"""Least requests of that test."""

CHANCE = 3.0
"""Refusals that the test allows beyond twice the share at the lower rates."""

SOONEST = 20.0
"""Least seconds until that test, so that the others give way first."""


class Company:
    """The rate of one program among several.

    Args:
        rate: requests per second to begin with.
        least: the lowest rate.
        sent: requests sent so far.
        now: the present.

    Attributes:
        rate: requests per second.
        limit: what the limit seems to be, once ``over``.
        strays: the share of requests that no limit refuses, once that is known.
        over: whether nobody else seems to use the limit.
        twins: judges refusals by requests that go two at a time.
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
        self._share = 0.0  # the share of refusals at the lower rates
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
        """A request was refused."""
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
        """Begin anew at a rate, and forget what earlier rates showed."""
        self._top, self._began = top, now
        self._tests = False
        self._refused, self._since, self._cut = 0, sent, sent
        self.twins = Twins(sent)

    def _growth(self, now: float) -> float:
        """The part of itself by which the rate grows in a second."""
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
        """Test whether the first rate is refused more often than the lower ones since."""
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
    """Send this program's share.

    Args:
        known: what the search knows.
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
