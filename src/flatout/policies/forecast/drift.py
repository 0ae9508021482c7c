"""Renews a forecast while its job runs, and says once when the job leaves the range.

The calls that are over may be no fair sample: an input may be sorted by length, and short answers come first. So what
they cost is compared with what the forecast expected of these very calls. If they cost a third more, the others are
expected to cost a third more, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from flatout.values.plan import Range

ENOUGH = 50
"""Calls that must be over before their costs say anything."""

SURE = 2.0
"""Standard errors by which the renewed forecast must lie beyond the range."""

SLACK = 10.0
"""Seconds by which a job may take longer than the range before that is news."""

PART = 0.25
"""The share of the expected time, or of the calls, after which something may be said of time."""


class CostDrift:
    """Compares costs with their forecast.

    Args:
        forecast: US dollars for all calls together.
    """

    __slots__ = ("_actual", "_count", "_expected", "_forecast", "_said", "_squares")

    def __init__(self, forecast: Range) -> None:
        self._forecast = forecast
        self._count = 0
        self._actual = self._expected = self._squares = 0.0
        self._said = False

    @property
    def renewed(self) -> float:
        """US dollars for all calls together, as far as can be told by now."""
        return self._forecast.p50 * (self._actual / self._expected if self._expected > 0.0 else 1.0)

    def heard(self, expected: float, cost: float) -> float | None:
        """A call is over.

        Args:
            expected: what it was expected to cost.
            cost: what it cost.

        Returns:
            The renewed forecast, once, if it has left the range; None otherwise.
        """
        self._count += 1
        self._actual += cost
        self._expected += expected
        self._squares += (cost - expected) ** 2
        if self._said or self._count < ENOUGH or self._expected <= 0.0:
            return None
        renewed = self.renewed
        error = SURE * self._forecast.p50 / self._expected * math.sqrt(self._squares)
        self._said = renewed - error > self._forecast.p90 or renewed + error < self._forecast.p10
        return renewed if self._said else None


class TimeDrift:
    """Compares the time with its forecast. Only a job that takes longer is news.

    The time in which no call could go does not count. No plan foresees an outage, or a pause by a person.

    Args:
        forecast: seconds for all calls.
        calls: how many there are.
        stood: says for how many seconds no call could go so far. It is asked only before there is news.

    Attributes:
        stood: what it said last.
    """

    __slots__ = ("_calls", "_forecast", "_said", "_stands", "stood")

    def __init__(self, forecast: Range, calls: int, stood: Callable[[], float] = lambda: 0.0) -> None:
        self._forecast = forecast
        self._calls = calls
        self._stands = stood
        self._said = False
        self.stood = 0.0

    def heard(self, over: int, elapsed: float) -> float | None:
        """Hear how many calls are over after ``elapsed`` seconds.

        Returns:
            The renewed forecast in seconds, once, if it has left the range; None otherwise.
        """
        if self._said or over < PART * self._calls or self._news(over, elapsed) is None:
            return None
        self.stood = self._stands()
        renewed = self._news(over, elapsed)
        self._said = renewed is not None
        return renewed

    def _news(self, over: int, elapsed: float) -> float | None:
        """The renewed forecast, if it has left the range."""
        went = elapsed - self.stood
        renewed = went * self._calls / over
        late = renewed > self._forecast.p90 + SLACK and went > PART * max(renewed, self._forecast.p50)
        return renewed if late else None
