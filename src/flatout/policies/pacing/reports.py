"""What each worker of a team says of itself, for those who look. It rides along in the exchanges of `leases`.

A report has the worker's sums since its start, and beside them those that the keeper is known to have heard. So the
sums of the whole team are right, although messages are lost, and workers die or come back after they were forgotten.
The keeper has one report for each worker that it counts.

The script in Redis is this, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from .leases import Keeper, Worker


class Sums(Struct, array_like=True, frozen=True):
    """What calls came to.

    Attributes:
        answered: calls that ended with an answer.
        failed: calls that were sent, and ended with an error. Cancelled ones are in neither.
        input_tokens, output_tokens: as far as the provider counted them.
        uncounted: calls whose tokens are not known, or not all of them.
        cost: US dollars, as far as they are known.
        unpriced: calls whose cost is not known, or not all of it.
    """

    answered: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    uncounted: int = 0
    cost: float = 0.0
    unpriced: int = 0


class Report(Struct, array_like=True, frozen=True):
    """What one worker says of one target.

    Attributes:
        sums: since its start.
        heard: those of them that the keeper has surely heard.
        target: the target's name.
        name: the worker's name, for people: its host and process.
        sent, input_tokens, output_tokens: requests and tokens per second, in the last minute.
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
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    in_flight: int = 0
    waiting: int = 0
    binds: str = ""
    binding: float = 0.0
    allows: Mapping[str, float] = {}
    pace: float | None = None
    rising: bool = False


class Summed(Struct, array_like=True, frozen=True):
    """The sums of all workers of a target, also of those that have gone, since an instant by the keeper's clock."""

    since: float
    sums: Sums
    target: str


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
        since, sums = (clock, Sums()) if self.summed is None else (self.summed.since, self.summed.sums)
        parts = zip(astuple(sums), astuple(report.sums), astuple(before), strict=True)
        self.summed = Summed(since, Sums(*(whole + now - then for whole, now, then in parts)), report.target)
        self.by_worker[worker] = report
