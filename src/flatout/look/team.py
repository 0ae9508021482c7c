"""What the workers are doing that share limits on several machines: read where they share them, changing nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from flatout.cluster.links import link_to
from flatout.errors import ConfigError
from flatout.policies.pacing.leases import ACTIVE
from flatout.policies.pacing.reports import Report, Second, Seen, Sums
from flatout.policies.pacing.turns import Worker
from flatout.values.place import Place

from .view import MINUTE, NAMES, units

LATE = 1.0
"""Seconds by which a worker's last report may be older than its last word: it makes one a second."""


class WorkerNow(Struct, frozen=True, kw_only=True):
    """One worker.

    Attributes:
        name: its host and process.
        share: its part of what all send, 0 to 1; None while nobody sends.
        sent: requests per second, in the last minute, or since it began.
        in_flight: its requests on the wire.
        waiting: its calls that wait.
        heard: seconds since it was heard.
        binds: what its calls wait for most of the time, a key of `flatout.events.WAITS`; "" if nothing holds them.
    """

    name: str
    share: float | None
    sent: float
    in_flight: int
    waiting: int
    heard: float
    binds: str


class LimitNow(Struct, frozen=True, kw_only=True):
    """One limit in force.

    Attributes:
        name: its name in `flatout.Limits`.
        limit: how much it allows: per minute or day, or at once.
        used: the share of it that the last minute used (the time since the team began, if that is shorter), or that is
            used now of ``concurrency``, 0 to 1; None of a limit per day, and in the first seconds.
        told: whether the provider tells it.
    """

    name: str
    limit: float
    used: float | None
    told: bool


class SumsNow(Struct, frozen=True, kw_only=True):
    """What the calls of all workers came to, also of those that have gone.

    Attributes:
        since: since when they are counted; Unix time.
        answered: calls that ended with an answer.
        failed: calls that were sent, and ended with an error. Cancelled ones are in neither.
        input_tokens, output_tokens: as far as they are known; None if none is.
        uncounted: calls whose tokens are not known, or not all of them.
        cost: US dollars, as far as they are known; None if none is.
        unpriced: calls whose cost is not known, or not all of it.
    """

    since: float
    answered: int
    failed: int
    input_tokens: int | None
    output_tokens: int | None
    uncounted: int
    cost: float | None
    unpriced: int


class TargetNow(Struct, frozen=True, kw_only=True):
    """One target whose limits are shared.

    Attributes:
        target: its name.
        sent: requests per second of all workers, also of those that have gone, in the last minute, or since they began.
        limits: those in force.
        binds: what most calls wait for; "" if nothing holds them.
        since: since when; Unix time.
        paused: seconds for which nobody may send.
        pace: requests per second, while the limit is searched for; None if there is no search.
        rising: whether that search has not met the limit yet.
        sums: what the calls came to.
        workers: those that were heard lately, the busiest first.
    """

    target: str
    sent: float
    limits: Sequence[LimitNow]
    binds: str
    since: float | None
    paused: float
    pace: float | None
    rising: bool
    sums: SumsNow
    workers: Sequence[WorkerNow]


class TeamNow(Struct, frozen=True, kw_only=True):
    """All that a team shares, at one moment.

    Attributes:
        place: where.
        at: when; Unix time.
        targets: the targets, by name.
    """

    place: str
    at: float
    targets: Sequence[TargetNow]


class NobodyThere(ConfigError):
    """Nobody has shared limits at a place lately. Somebody may begin to."""


def look_at_team(place: Place) -> TeamNow:
    """Look what a team is doing. Blocks.

    Raises:
        ConfigError: the place is not there.
        NobodyThere: nobody has shared limits there in the last day.
    """
    seen = link_to(place).look()
    if not seen:
        raise NobodyThere(f"nobody has shared limits at {place} in the last day, with this version of flatout")
    now = time.time()
    targets = sorted((_target(each, now) for each in seen), key=lambda each: each.target)
    return TeamNow(place=str(place), at=now, targets=targets)


def _target(seen: Seen, now: float) -> TargetNow:
    keeper = seen.keeper
    present = max(keeper.last, seen.clock + keeper.offset)
    there = [
        (each, seen.reports[each.name], present - each.seen)
        for each in keeper.workers
        if each.name in seen.reports and present - each.seen < ACTIVE
    ]
    reports = [report for _, report, _ in there]
    seconds, lately = seen.summed.window(_told_until(seen, present), int(MINUTE))
    binds, since = _what_binds(there)
    paces = [report.pace for report in reports if report.pace is not None]
    return TargetNow(
        target=seen.summed.target,
        sent=lately.sent / max(seconds, 1.0),
        limits=_limits(seen, reports, seconds, lately),
        binds=binds,
        since=now - since if binds else None,
        paused=max(0.0, keeper.paused - present),
        pace=max(paces, default=None),
        rising=any(report.rising for report in reports),
        sums=_sums(seen.summed.sums, now - (seen.clock - seen.summed.since)),
        workers=_workers(there),
    )


def _told_until(seen: Seen, present: float) -> float:
    """Until when all workers have told what they sent, by the keeper's clock. One that died does not tell any more."""
    told = [each.seen - LATE for each in seen.keeper.workers if present - each.seen < ACTIVE]
    return min(told, default=present) - seen.keeper.offset


def _sums(sums: Sums, since: float) -> SumsNow:
    counted = bool(sums.input_tokens or sums.output_tokens or not sums.uncounted)
    return SumsNow(
        since=since,
        answered=sums.answered,
        failed=sums.failed,
        input_tokens=sums.input_tokens if counted else None,
        output_tokens=sums.output_tokens if counted else None,
        uncounted=sums.uncounted,
        cost=sums.cost if sums.cost or not sums.unpriced else None,
        unpriced=sums.unpriced,
    )


def _workers(there: Sequence[tuple[Worker, Report, float]]) -> list[WorkerNow]:
    """The workers, the busiest first."""
    sent = sum(report.sent for _, report, _ in there)
    return sorted((_worker(report, sent, heard) for _, report, heard in there), key=lambda each: -each.sent)


def _worker(report: Report, sent: float, heard: float) -> WorkerNow:
    return WorkerNow(
        name=report.name,
        share=report.sent / sent if sent else None,
        sent=report.sent,
        in_flight=report.in_flight,
        waiting=report.waiting,
        heard=max(0.0, heard),
        binds=report.binds,
    )


def _what_binds(there: Sequence[tuple[Worker, Report, float]]) -> tuple[str, float]:
    """The cause for which most calls wait, and the seconds for which it has held some worker's."""
    waiting = Counter[str]()
    for _, report, _ in there:
        if report.binds:
            waiting[report.binds] += report.waiting + 1
    if not waiting:
        return "", 0.0
    [(cause, _)] = waiting.most_common(1)
    return cause, max(report.binding + heard for _, report, heard in there if report.binds == cause)


def _limits(seen: Seen, reports: Sequence[Report], seconds: float, lately: Second) -> list[LimitNow]:
    """The smallest limit that a worker knows holds for all."""
    found: dict[str, float] = {}
    for report in reports:
        for name, limit in report.allows.items():
            found[name] = min(limit, found.get(name, limit))
    told = {each.name for each in seen.keeper.heard}

    def used(name: str, limit: float) -> float | None:
        if name == "concurrency":
            return sum(report.in_flight for report in reports) / limit
        if name not in NAMES or name == "rpd" or not seconds:
            return None
        used = units(name, lately.sent, lately.input_tokens, lately.output_tokens)
        return used / seconds * MINUTE / limit

    return [
        LimitNow(name=name, limit=limit, used=used(name, limit), told=name in told) for name, limit in found.items()
    ]
