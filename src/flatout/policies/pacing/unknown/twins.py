"""Tells whether others use a limit too, or whether refusals are strays.

While that is open, requests go two at a time. A limit that refuses one of them refuses the next too, which comes at
once; strays seldom hit both.
"""

from __future__ import annotations

from collections import deque

BOTH = 1.8
"""The logarithm of the odds, that a limit refuses, after a refusal of both twins."""

SECOND = 0.35
"""The logarithm of these odds after a refusal of the second twin alone."""

FIRST = -1.2
"""The logarithm of these odds after a refusal of the first twin alone."""

SURE = 4.0
"""The logarithm of the odds that decides."""

FEW = 10
"""Refusals of one twin alone that a limit may have, before `SHALLOW` counts."""

SHALLOW = 8
"""Refusals of one twin alone, for each refusal of both, that show a limit that never takes two requests at once."""

TELLS = 2.5
"""Requests per second below which refusals are too few to tell whether others use a limit."""

DEAF = 400
"""Requests until twins are tried again where they showed no limit."""

DEAFER = 4
"""The factor by which that grows each time."""


class Twins:
    """Judges refusals of requests that go two at a time.

    Args:
        sent: requests sent so far.

    Attributes:
        odds: the logarithm of the odds that a limit refuses.
    """

    __slots__ = ("_base", "_both", "_ones", "_period", "_refused", "odds")

    def __init__(self, sent: int) -> None:
        self._base = sent
        self._refused: deque[int] = deque(maxlen=16)  # marks of the last refused requests
        self._ones = self._both = 0
        self._period = -1
        self.odds = 0.0

    def first(self, mark: int) -> bool:
        """Whether a request is the first of two."""
        return (mark - self._base) % 2 == 1

    @property
    def limit(self) -> bool:
        """Whether a limit refuses that can take two at once."""
        return self.odds >= SURE and self._both > 0

    @property
    def doubtful(self) -> bool:
        """Whether a limit is unlikely."""
        return self.odds < SURE / 2.0

    @property
    def paired(self) -> bool:
        """Whether requests still go two at a time."""
        return self._ones <= FEW or self._both * SHALLOW > self._ones

    def refused(self, mark: int, period: int = -1) -> None:
        """A request was refused. Of pairs that are refused in one period of an unchanged rate, only one counts."""
        if mark <= self._base:
            return
        first = self.first(mark)
        if (mark + 1 if first else mark - 1) in self._refused:
            again = period == self._period and period >= 0
            self.odds += BOTH * (not again) - (SECOND if first else FIRST)  # and take back what the other twin counted
            self._ones -= 1
            self._both += 1
            self._period = period
        else:
            self._refused.append(mark)
            self.odds += FIRST if first else SECOND
            self._ones += 1

    def useless(self) -> bool:
        """Whether no limit refuses, or one that never takes two at once."""
        return self.odds <= -SURE / 2.0 or not self.paired


class Suspicion:
    """The suspicion that others use the limit too.

    Attributes:
        twins: judges requests that go two at a time; None while nothing is suspected.
    """

    __slots__ = ("_deaf", "_until", "twins")

    def __init__(self) -> None:
        self.twins: Twins | None = None
        self._deaf, self._until = DEAF, 0

    def refused(self, mark: int, sent: int, period: int) -> bool:
        """A request was refused below the limit. Returns whether others seem to use the limit."""
        if sent < self._until:
            return False
        if self.twins is None:
            self.twins = Twins(sent)
        self.twins.refused(mark, period)
        if self.twins.limit:
            self.twins = None
            return True
        if self.twins.useless():
            self.drop(sent)
        return False

    @property
    def never(self) -> bool:
        """Whether nothing was ever suspected."""
        return self.twins is None and self._deaf == DEAF

    def tells(self, rate: float) -> bool:
        """Whether refusals at a rate say anything."""
        return rate >= TELLS or self.twins is not None

    def drop(self, sent: int) -> None:
        """Others do not use the limit, or nothing tells. Suspect nothing for a while, and for longer each time."""
        self.twins = None
        self._until = sent + self._deaf
        self._deaf *= DEAFER
