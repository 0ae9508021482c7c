"""One target's trials of how much of each known limit may go before it is earned (see `ahead`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from .ahead import LOT, TRIED, Trial
from .axis import Axis, MakeGcra
from .gcra import Steady
from .tokens import Need

NO_DEPTHS: Mapping[str, float] = MappingProxyType({})
"""What earlier runs found, if there were none."""


class Trials:
    """The trials of one target's limits.

    Args:
        even: whether nothing is tried.
        depths: seconds of each limit's rate that earlier runs could take ahead.
        idle: seconds since everything that they sent was earned.

    Attributes:
        even: whether the next run should try nothing: a trial was refused, or runs remember nothing.
    """

    __slots__ = ("_depths", "_idle", "_refused_at", "_unheard", "even")

    def __init__(self, even: bool, depths: Mapping[str, float] = NO_DEPTHS, idle: float = math.inf) -> None:
        self.even = even
        self._depths = dict(depths)
        self._idle = idle
        self._refused_at = -math.inf  # when a trial ended; what was sent before may still be refused for it
        self._unheard = LOT  # refusals that it may still explain

    def gcra(self, name: str) -> MakeGcra | None:
        """What makes the GCRA that tries one limit; None if there is nothing to try and nothing known."""
        counts = name == "rpm"  # the cost of a call is known, and when it is charged
        depth = self._depths.get(name, 0.0)
        if self.even and not (depth and counts):
            return None
        return partial(Trial, depth=depth, idle=self._idle, tries=not self.even, at_once=counts)

    def answered(self, axes: Mapping[str, Axis], need: Need, sent: float) -> None:
        """A call was answered: note how far ahead it went, where that is tried."""
        for name, cost in need.costs.items():
            if name in axes and axes[name] is need.axes[name] and (trial := axes[name].trial) is not None:
                trial.answered(axes[name].ahead(need.marks[name], cost, sent))

    def refused(self, axes: Mapping[str, Axis], need: Need, sent: float, now: float, *, short: bool) -> bool:
        """A call was refused. Returns whether that answers what was tried, and not the pace.

        Args:
            axes: the limits that are known.
            need: the call's need, as it was admitted.
            sent: when the call was sent.
            now: the present.
            short: whether the call has to wait so briefly that a bucket may just be empty.
        """
        paced = [axis.gcra for axis in axes.values() if short and isinstance(axis.gcra, Steady)]
        if sum(each.explains(sent, now) for each in paced):  # each of them has to hear of it
            return True
        for name, axis in axes.items():
            if (trial := axis.trial) is None:
                continue
            if trial.open:
                trial.refused(axis.ahead(need.marks[name], need.costs[name], sent) if short else 0.0, now)
                self.even, self._refused_at = True, now
            elif sent > self._refused_at:
                self.even = True
                trial.forget()  # the bucket refills otherwise, or was not full
        explained = sent <= self._refused_at
        self._unheard -= explained
        tried = explained and self._unheard >= 0
        self.even = self.even or tried
        return tried

    def ended(self, now: float) -> None:
        """Headers have ended a trial. What was sent before may still be refused for it."""
        self._refused_at = now

    def found(self, axes: Mapping[str, Axis]) -> tuple[dict[str, float], float]:
        """For the next run: seconds of each limit that went ahead, and seconds until everything sent is earned."""
        trials = {name: axis.gcra for name, axis in axes.items() if isinstance(axis.gcra, Trial)}
        least = 0.0 if self.even else TRIED  # fewer without a refusal show nothing: a window may refuse them later
        depths = {name: trial.depth for name, trial in trials.items() if trial.depth > least}
        return depths, max((trial.owes for trial in trials.values()), default=0.0)
