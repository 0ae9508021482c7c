"""How long the calls that are left will take: the targets' own pacers let imagined calls go, on an imagined clock.

Limits act together, and bursts, pauses and searches come in between: no division tells the time. So a copy of the
pacer, with all that it has learnt by now, is asked when each call may go. Nothing waits: a call takes microseconds.
Where several targets stand for a model, a call goes to the first that takes it soonest.

A million calls need not be imagined. Where limits are known, each imagined call stands for many: with a hundredth of
the calls and a hundredth of each limit, a job takes as long. Only its end differs, because more calls have slower ones
among them; see `latency`. Where the limit is unknown, or on the calls in flight, the job is imagined until it is
steady, and the rest goes at that pace.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Need
from flatout.values import Usage

from .latency import SLICES, Latency
from .totals import Draw, Rest

ROOM = 8
"""Fewest calls in flight that a scaled limit on them keeps."""

STEADY = 0.5
"""The share of the imagined calls after which the pace counts as steady."""

_SILENT: dict[str, str] = {}  # an answer without headers


class Wall(NamedTuple):
    """How long a job takes.

    Attributes:
        seconds: from its first call to its last answer.
        held: seconds in which the next call waited, by cause.
    """

    seconds: float
    held: dict[str, float]


class _Imagined(NamedTuple):
    """A call of the imagined job."""

    need: Need
    usage: Usage
    seconds: float


class Job:
    """The calls that are left, as they may be: drawn from what was observed.

    Args:
        rests: the strata; each has rows that are left, and observed calls.
        draw: gives random numbers.
    """

    def __init__(self, rests: Sequence[Rest], draw: Draw) -> None:
        self._rests = [rest for rest in rests if rest.rows]
        self._draw = draw
        self._until = list(accumulate(rest.rows for rest in self._rests))
        self._per_size = [_per_size(rest) for rest in self._rests]
        self._output = [sum(each.output for each in rest.observed) / len(rest.observed) for rest in self._rests]
        self.latency = Latency([each.seconds for rest in self._rests for each in rest.observed])
        self.calls = self._until[-1] if self._until else 0

    def call(self) -> _Imagined:
        """One of the calls."""
        draw = self._draw
        place = self._place(draw() * self.calls)
        rest = self._rests[place]
        one = rest.observed[int(draw() * len(rest.observed))]
        size = rest.sizes[int(draw() * len(rest.sizes))] if rest.sizes else one.size
        tokens = max(1.0, size * self._per_size[place])
        need = Need(tokens, self._output[place], one.max_tokens)
        return _Imagined(need, Usage(input_tokens=round(tokens), output_tokens=round(one.output)), one.seconds)

    def ends(self) -> list[float]:
        """Random numbers for `Latency.after_the_last`."""
        return [self._draw() for _ in range(SLICES + 1)]

    def _place(self, at: float) -> int:
        return next(place for place, until in enumerate(self._until) if at < until)


def wall(pacers: Sequence[Pacer], job: Job, now: float, most: int) -> Wall:
    """How long a job takes.

    Args:
        pacers: that of each target, as they are now, in the order in which calls go to them. They are not changed.
        job: the calls.
        now: the time, on the pacer's clock.
        most: the most calls to imagine.
    """
    calls = min(job.calls, most)
    each = min(_stands_for(pacer, job.calls / calls) for pacer in pacers)
    run = _Run([pacer.scaled(1.0 / each) for pacer in pacers], now)
    half = calls * STEADY
    half_at = now
    for number in range(calls):
        run.send(job.call())
        if number < half:
            half_at = run.now
    last = run.now
    left = job.calls / each - calls  # those that are neither imagined nor stood for
    if left > 0.5:
        last += left * (last - half_at) / max(1.0, calls - half)
    per_second = job.calls / max(last - now, 1e-9)
    return Wall(last - now + job.latency.after_the_last(per_second, job.calls, job.ends()), run.held)


def _stands_for(pacer: Pacer, wanted: float) -> float:
    """How many calls each imagined one stands for: as many as wanted, if the limits can be scaled so far."""
    if pacer.search is not None or pacer.aimd is not None:
        return 1.0
    concurrency = pacer.limits.concurrency
    return wanted if concurrency is None else max(1.0, min(wanted, concurrency / ROOM))


class _Run:
    """Imagined calls on their way.

    Attributes:
        now: the imagined time.
        held: seconds in which the next call waited, by cause.
    """

    def __init__(self, pacers: Sequence[Pacer], now: float) -> None:
        self.now = now
        self.held: dict[str, float] = {}
        self._pacers = pacers
        self._number = 0
        self._open: list[tuple[float, int, float, _Imagined, Pacer]] = []  # when each will end

    def send(self, call: _Imagined) -> None:
        """Let time pass until the call may go."""
        self._catch_up()
        while (ready := self._first(call.need))[0] > self.now:
            later = min(ready[0], self._open[0][0] if self._open else math.inf)
            if later == math.inf:
                break  # nothing would ever let it go; the pacer itself would let it fail
            self.held[ready[1]] = self.held.get(ready[1], 0.0) + later - self.now
            self.now = later
            self._catch_up()
        pacer = ready[2]
        pacer.admit(call.need, self.now)
        self._number += 1
        heapq.heappush(self._open, (self.now + call.seconds, self._number, self.now, call, pacer))

    def _first(self, need: Need) -> tuple[float, str, Pacer]:
        """When a call may go, what holds it, and to which target it goes: the first that takes it soonest."""
        pacer, *others = self._pacers
        at, cause = pacer.ready_at(need, self.now)
        for other in others:
            if at <= self.now:
                break
            if (ready := other.ready_at(need, self.now))[0] < at:
                (at, cause), pacer = ready, other
        return at, cause, pacer

    def _catch_up(self) -> None:
        """Answer the calls that are over by now."""
        while self._open and self._open[0][0] <= self.now:
            end, _, sent, call, pacer = heapq.heappop(self._open)
            pacer.answered(call.need, call.usage, _SILENT, sent, end, end)


def _per_size(rest: Rest) -> float:
    """Input tokens per unit of size, corrected by how far the sizes of some rows are from those of all."""
    ratio = sum(each.input for each in rest.observed) / (sum(each.size for each in rest.observed) or 1.0)
    if not rest.sizes:
        return ratio
    return ratio * (rest.size / rest.rows) / (sum(rest.sizes) / len(rest.sizes) or 1.0)
