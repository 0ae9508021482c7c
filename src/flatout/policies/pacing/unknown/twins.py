"""Whether others use a limit too, or strays refuse what should not be refused.

Requests go two at a time while nothing tells: a limit that refuses a request refuses the next one too, if it comes at
once; strays seldom hit both.
"""

from __future__ import annotations

from collections import deque

BOTH, SECOND, FIRST, SURE = 1.8, 0.35, -1.2, 4.0
"""Logarithms of the odds that a limit refuses: of a refusal of both twins, of the second alone, of the first alone; and
the one that decides."""

FEW, SHALLOW = 10, 8
"""Refusals of one twin alone, at least and for each refusal of both, that show a limit that never takes two at once."""

TELLS = 2.5
"""Requests per second below which too little is refused to tell whether others use a limit."""

DEAF, DEAFER = 400, 4
"""Requests until twins are tried again where they showed no limit; and how many times as many after each time."""


class Twins:
    """Requests that go two at a time, to learn what refuses them: strays seldom hit both.

    Args:
        sent: requests sent so far.

    Attributes:
        odds: the logarithm of the odds that it is a limit.
    """

    __slots__ = ("_base", "_both", "_ones", "_period", "_refused", "odds")

    def __init__(self, sent: int) -> None:
        self._base = sent
        self._refused: deque[int] = deque(maxlen=16)  # the last ones
        self._ones = self._both = 0
        self._period = -1
        self.odds = 0.0

    def first(self, mark: int) -> bool:
        """Whether a request's twin is still to go."""
        return (mark - self._base) % 2 == 1

    @property
    def limit(self) -> bool:
        """Whether it is a limit, and not one that never takes two at once."""
        return self.odds >= SURE and self._both > 0

    @property
    def doubtful(self) -> bool:
        """Whether it is hardly a limit."""
        return self.odds < SURE / 2.0

    @property
    def paired(self) -> bool:
        """Whether they still go two at a time."""
        return self._ones <= FEW or self._both * SHALLOW > self._ones

    def refused(self, mark: int, period: int = -1) -> None:
        """A request was refused. Of twins that are refused in one period of an unchanged rate, one pair counts."""
        if mark <= self._base:
            return
        first = self.first(mark)
        if (mark + 1 if first else mark - 1) in self._refused:
            again = period == self._period and period >= 0
            self.odds += BOTH * (not again) - (SECOND if first else FIRST)  # instead of what the other one counted
            self._ones -= 1
            self._both += 1
            self._period = period
        else:
            self._refused.append(mark)
            self.odds += FIRST if first else SECOND
            self._ones += 1

    def useless(self) -> bool:
        """Whether it is no limit, or one that never takes two at once."""
        return self.odds <= -SURE / 2.0 or not self.paired


class Suspicion:
    """Whether others use the limit too.

    Attributes:
        twins: requests that go two at a time, while there is a suspicion.
    """

    __slots__ = ("_deaf", "_until", "twins")

    def __init__(self) -> None:
        self.twins: Twins | None = None
        self._deaf, self._until = DEAF, 0

    def refused(self, mark: int, sent: int, period: int) -> bool:
        """A request was refused that should not have been. Returns whether others use the limit, as far as is known."""
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
        """Whether nothing has looked like others so far."""
        return self.twins is None and self._deaf == DEAF

    def tells(self, rate: float) -> bool:
        """Whether refusals at a rate say anything."""
        return rate >= TELLS or self.twins is not None

    def drop(self, sent: int) -> None:
        """Nobody else uses it, or nothing tells. Suspect nothing for a while, and for longer each time."""
        self.twins = None
        self._until = sent + self._deaf
        self._deaf *= DEAFER
