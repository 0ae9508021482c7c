"""Adds up the counters of all workers, for a live line and a summary as of one process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from flatout.layers.limit import TargetNow
from flatout.progress._counters import Failure, Progress, PromptCacheUse
from flatout.store.course import TRIED, Stretch
from flatout.values.route import added

_SUMS = (
    *("cached", "saved", "cut_off", "input_tokens", "output_tokens", "retries", "throttled", "call_seconds"),
    *("in_flight", "waiting"),
)
_NOW = ("in_flight", "waiting")
_STATES = ("stopped", "paused", "down", "no_room", "crowded")


def add_up(parts: Sequence[Progress], into: Progress, *, divides: bool = False) -> None:
    """Set the counters of a run to the sum of its workers'. With ``divides``, each has a part of the concurrency.

    How many rows ended, and in which way, is left alone, and so is the money: the parent counts both itself.
    """
    for name in _SUMS:
        setattr(into, name, sum(getattr(part, name) for part in parts))
    for name in _STATES:
        setattr(into, name, {target: why for part in parts for target, why in getattr(part, name).items()})
    into.targets = _targets((part.targets for part in parts), divides)
    into.waits = _summed(part.waits for part in parts)
    into.prompt_cache = sum((part.prompt_cache for part in parts), PromptCacheUse())
    into.shares = added(*(part.shares for part in parts))
    into.failures = _failures(part.failures for part in parts)
    into.stood = max((part.stood for part in parts), default=0.0)  # outages and pauses are those of all
    into.searched = frozenset(cause for part in parts for cause in part.searched)
    into.hosted = all(part.hosted for part in parts)
    into.others_go = any(part.others_go for part in parts)
    capped = [part.in_flight if part.capped is None else part.capped for part in parts]
    into.capped = sum(capped) if any(part.capped is not None for part in parts) else None
    longest = (part.longest for part in parts if part.longest is not None)
    into.longest = max(longest, key=lambda each: each.seconds, default=None)
    busiest = max(parts, key=lambda part: part.waiting, default=Progress())
    into.holds, into.pace, into.rising = busiest.holds, busiest.pace, busiest.rising


def of_all(stretch: Stretch, most: int) -> Stretch:
    """A worker's stretch with the concurrency that all workers divide among them: it is the one that people give."""
    if "concurrency" not in stretch.allows or TRIED in stretch.allows:
        return stretch
    return replace(stretch, allows={**stretch.allows, "concurrency": float(most)})


def over(part: Progress) -> Progress:
    """The counters of a worker that is no more: what it did, without what it was doing."""
    for name in _NOW:
        setattr(part, name, 0)
    for name in (*_STATES, "targets"):
        setattr(part, name, {})
    part.longest = part.capped = None
    part.holds = ""
    return part


def _targets(all_targets: Iterable[dict[str, TargetNow]], divides: bool) -> dict[str, TargetNow]:
    """What the workers do at each target, together."""
    total: dict[str, TargetNow] = {}
    for targets in all_targets:
        for name, one in targets.items():
            known = total.get(name)
            total[name] = one if known is None else _both(known, one, divides)
    return total


def _both(one: TargetNow, other: TargetNow, divides: bool) -> TargetNow:
    busier = one if one.waiting >= other.waiting else other
    paces = [each.pace for each in (one, other) if each.pace is not None]
    limits = {**one.limits, **other.limits}
    if divides and "concurrency" in limits:
        limits["concurrency"] = sum(each.limits.get("concurrency", 0) for each in (one, other))
    return TargetNow(
        in_flight=one.in_flight + other.in_flight,
        waiting=one.waiting + other.waiting,
        holds=busier.holds,
        pace=sum(paces) if paces else None,
        limits=limits,
        shared=one.shared or other.shared,
    )


def _summed(all_waits: Iterable[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for waits in all_waits:
        for cause, seconds in waits.items():
            total[cause] = total.get(cause, 0.0) + seconds
    return total


def _failures(all_failures: Iterable[dict[str, Failure]]) -> dict[str, Failure]:
    """All failures by class, each with the example of the first row."""
    total: dict[str, Failure] = {}
    for failures in all_failures:
        for name, failure in failures.items():
            known = total.get(name)
            earlier = known if known is not None and (known.row or 0) <= (failure.row or 0) else failure
            others = Failure(0, "", None, "") if known is None else known
            total[name] = replace(earlier, count=failure.count + others.count, held=failure.held + others.held)
    return total


def parts(whole: int, most: int) -> list[int]:
    """A number, divided among ``most`` workers: each has at least 1."""
    return [max(1, whole // most + (number < whole % most)) for number in range(most)]
