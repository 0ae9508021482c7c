"""How long answers take: those that were observed, and the slower ones that a larger number of calls will meet.

The end of a job is decided by its slowest calls. Among a thousand calls some are slower than all of a sample of fifty.
So beyond the slowest that was observed, times are taken to be as those of a log-normal distribution, which fits the
times of services well, with the mean and the spread that the logarithms of the observed times have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from flatout.values.quantiles import quantile

SLICES = 32
"""Parts into which the time before the last call is cut, to find when all calls are over."""

RARE = 1e-4
"""The share of calls that may have been sent before that time, and still be the last to end."""

_LEAST = 1e-4  # seconds; nothing answers in less
_QUANTILE = NormalDist().inv_cdf


class Latency:
    """The times of one model's answers.

    Args:
        observed: seconds of the calls that were observed, at least one.
    """

    __slots__ = ("_mean", "_ordered", "_spread")

    def __init__(self, observed: Sequence[float]) -> None:
        self._ordered = sorted(max(_LEAST, seconds) for seconds in observed)
        logs = [math.log(seconds) for seconds in self._ordered]
        self._mean = sum(logs) / len(logs)
        self._spread = math.sqrt(sum((log - self._mean) ** 2 for log in logs) / max(1, len(logs) - 1))

    def quantile(self, share: float) -> float:
        """The seconds that a share of all calls stay below."""
        share = max(0.0, min(1.0 - 1e-12, share))
        if share * (len(self._ordered) + 1) < len(self._ordered):
            return quantile(self._ordered, share)
        return max(self._ordered[-1], math.exp(self._mean + self._spread * _QUANTILE(share)))

    def slowest(self, calls: float, drawn: float) -> float:
        """The time of the slowest of ``calls`` calls; ``drawn`` is a random number from 0 to below 1."""
        return self.quantile(max(drawn, 1e-12) ** (1.0 / max(calls, 1e-9)))

    def after_the_last(self, per_second: float, calls: int, draws: Sequence[float]) -> float:
        """Seconds from the sending of the last call until all are answered.

        Args:
            per_second: how many calls went per second before that,
            calls: and how many altogether.
            draws: `SLICES` random numbers, and one more.
        """
        step = self.quantile(1.0 - RARE) / SLICES
        end, left = self.quantile(draws[-1]), calls - 1.0
        for number, drawn in enumerate(draws[:-1]):
            if left <= 0.0:
                break
            some = min(left, per_second * step)
            left -= some
            sent = 0.5 * min(step, some / per_second) + step * number  # before the last call
            end = max(end, self.slowest(some, drawn) - sent)
        return end
