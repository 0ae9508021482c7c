"""What each worker of a team says of itself, for those who look. It rides along in the exchanges of `leases`.

A report has the worker's sums since its start, and beside them those that the keeper is known to have heard. So the
sums of the whole team are right, although messages are lost, and workers die or come back after they were forgotten.
The keeper has one report for each worker that it counts.

Two reports of a worker tell what it sent between them. The keeper spreads that evenly over its own seconds. So it knows
what all workers sent together in each of the last, also those that have gone.

The script in Redis is this, too.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from .leases import Keeper
from .turns import Worker

KEPT = 90
"""Seconds for which the keeper remembers how much was sent in each of them."""


class Sums(Struct, array_like=True, frozen=True):
    """What calls came to.

    Attributes:
        answered: calls that ended with an answer.
        failed: calls that were sent, and ended with an error. Cancelled ones are in neither.
        input_tokens, output_tokens: as far as the provider counted them.
        uncounted: calls whose tokens are not known, or not all of them.
        cost: US dollars, as far as they are known.
        unpriced: calls whose cost is not known, or not all of it.
        sent: requests that began.
        seconds: that the worker was there.
    """

    answered: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    uncounted: int = 0
    cost: float = 0.0
    unpriced: int = 0
    sent: int = 0
    seconds: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*map(operator.add, astuple(self), astuple(other)))

    def __sub__(self, other: Sums) -> Sums:
        return Sums(*map(operator.sub, astuple(self), astuple(other)))


class Report(Struct, array_like=True, frozen=True):
    """What one worker says of one target.

    Attributes:
        sums: since its start.
        heard: those of them that the keeper has surely heard.
        target: the target's name.
        name: the worker's name, for people: its host and process.
        sent: requests per second, in the last minute.
        in_flight: requests on the wire.
        waiting: calls that wait.
        binds: what they wait for, a key of `flatout.events.WAITS`; "" if nothing holds them for most of the time.
        binding: seconds for which that has held them.
        allows: the limits in force, by their names in `flatout.Limits`, except those that each worker finds by itself.
        pace: requests per second, while the limit is searched for; None if there is no search.
        rising: whether that search has not met the limit yet.
    """

    sums: Sums
    heard: Sums
    target: str
    name: str
    sent: float = 0.0
    in_flight: int = 0
    waiting: int = 0
    binds: str = ""
    binding: float = 0.0
    allows: Mapping[str, float] = {}
    pace: float | None = None
    rising: bool = False


class Second(Struct, array_like=True, frozen=True):
    """What all workers sent in one second of the keeper's clock, and the tokens of the calls that ended in it."""

    at: int = -1
    sent: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0


class Summed(Struct, array_like=True, frozen=True):
    """The sums of all workers of a target, also of those that have gone, since an instant by the keeper's clock.

    Attributes:
        lately: a ring of the last seconds in which a worker was there; each has the place ``at % KEPT``.
    """

    since: float
    sums: Sums
    target: str
    lately: tuple[Second, ...] = (Second(),) * KEPT

    def window(self, end: float, seconds: int) -> tuple[float, Second]:
        """What was sent in a time up to an instant by the keeper's clock, in whole seconds.

        Args:
            end: the instant.
            seconds: how long the time is at most; the keeper must still know it: see `KEPT`.

        Returns:
            How many seconds it is: fewer if no worker was there before. And the sums over them.
        """
        last = math.floor(end)
        there = [each for each in self.lately if last - seconds - 1 <= each.at < last]
        if not there:
            return 0.0, Second(last)
        begin = min(each.at for each in there) + 1  # nobody was there for the whole of the first
        parts = [(each.sent, each.input_tokens, each.output_tokens) for each in there if each.at >= begin]
        return float(last - begin), Second(last, *map(sum, zip(*parts, strict=True)))


class Seen(Struct, array_like=True, frozen=True):
    """One target, as the keeper knows it.

    Attributes:
        clock: the keeper's clock at the look.
        keeper: what its workers share.
        summed: what their calls came to.
        reports: what each of them says, by its name at the keeper.
    """

    clock: float
    keeper: Keeper
    summed: Summed
    reports: Mapping[str, Report]


_decode = msgspec.msgpack.Decoder(Report).decode


class Reports:
    """The reports of one target's workers, as the keeper has them."""

    def __init__(self) -> None:
        self.by_worker: dict[str, Report] = {}
        self.summed: Summed | None = None

    def hear(self, worker: str, report: bytes, workers: Sequence[Worker], clock: float) -> None:
        """Hear a worker, after an exchange with the keeper that no later one has overtaken.

        Args:
            worker: its name at the keeper.
            report: what the worker says of itself; empty if nothing new.
            workers: those that the keeper counts now.
            clock: the keeper's clock.
        """
        if report:
            self._add(worker, _decode(report), clock)
        there = {each.name for each in workers}
        self.by_worker = {name: each for name, each in self.by_worker.items() if name in there}

    def seen(self, clock: float, keeper: Keeper) -> Seen:
        """What there is to see."""
        return Seen(clock, keeper, self.summed or Summed(clock, Sums(), ""), self.by_worker)

    def _add(self, worker: str, report: Report, clock: float) -> None:
        before = self.by_worker[worker].sums if worker in self.by_worker else report.heard
        known = self.summed or Summed(clock, Sums(), "")
        more = report.sums - before
        self.summed = Summed(known.since, known.sums + more, report.target, _spread(known.lately, more, clock))
        self.by_worker[worker] = report


def _spread(lately: tuple[Second, ...], more: Sums, clock: float) -> tuple[Second, ...]:
    """The ring with what a worker did in its last seconds, evenly over those."""
    if more.seconds <= 0.0:
        return lately
    ring, begin = list(lately), clock - min(more.seconds, KEPT - 1.0)
    for at in range(math.floor(begin), math.floor(clock) + 1):
        part = (min(clock, at + 1.0) - max(begin, at)) / more.seconds
        _, sent, input_tokens, output_tokens = astuple(ring[at % KEPT] if ring[at % KEPT].at == at else Second())
        ring[at % KEPT] = Second(
            at,
            sent + more.sent * part,
            input_tokens + more.input_tokens * part,
            output_tokens + more.output_tokens * part,
        )
    return tuple(ring)
