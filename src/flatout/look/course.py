"""The course of a run as one picture: the stretches of all its processes, put together second by second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from flatout.store import RunReader
from flatout.store.course import Happening, Stretch
from flatout.values.quantiles import counted_quantile


class Course:
    """The course of one run. Call `refresh` to read what is new.

    Attributes:
        targets: what each target did, by its name, in order of time.
        happenings: what happened, in order of time.
    """

    def __init__(self) -> None:
        self.targets: dict[str, list[Stretch]] = {}
        self.happenings: list[Happening] = []
        self._stretch = self._happening = 0  # the numbers of those read last

    @classmethod
    def of(cls, stretches: Iterable[Stretch], happenings: Iterable[Happening] = ()) -> Self:
        """The course that some stretches and happenings make."""
        course = cls()
        for stretch in stretches:
            course._add(stretch)
        course.happenings += happenings
        return course

    def refresh(self, reader: RunReader) -> None:
        """Read what was written since the last time. An older run file has no course."""
        if reader.course is None:
            return
        for number, stretch in reader.course.stretches(self._stretch):
            self._stretch = number
            self._add(stretch)
        for number, happening in reader.course.happenings(self._happening):
            self._happening = number
            self.happenings.append(happening)

    def whole(self) -> list[Stretch]:
        """The stretches of all targets together; their ``target`` is "" and they name no limits."""
        found: dict[float, Stretch] = {}
        for stretches in self.targets.values():
            for stretch in stretches:
                bare = replace(stretch, target="", allows={}, pace=None)
                known = found.get(stretch.began_at)
                found[stretch.began_at] = bare if known is None else together(known, bare)
        return [found[at] for at in sorted(found)]

    def _add(self, stretch: Stretch) -> None:
        """Add a stretch to its target's. Stretches of other processes at the same time are added up."""
        known = self.targets.setdefault(stretch.target, [])
        place = len(known)
        while place and known[place - 1].began_at > stretch.began_at:
            place -= 1
        if place and known[place - 1].began_at == stretch.began_at:
            known[place - 1] = together(known[place - 1], stretch)
        else:
            known.insert(place, stretch)


def together(one: Stretch, other: Stretch) -> Stretch:
    """What two processes, or two targets, did in the same stretch of time.

    Their limits are not added: processes of one machine share them. The latencies are those of both, weighted by
    their answers for the median; the 95th percentile is the larger one.
    """
    return replace(
        one,
        seconds=max(one.seconds, other.seconds),
        sent=one.sent + other.sent,
        answered=one.answered + other.answered,
        refused=one.refused + other.refused,
        failed=one.failed + other.failed,
        in_flight=one.in_flight + other.in_flight,
        waiting=one.waiting + other.waiting,
        held=_longest(one.held, other.held),
        allows={**one.allows, **other.allows},
        pace=_added(one.pace, other.pace),
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cost=one.cost + other.cost,
        latency_p50=_mean(one, other),
        latency_p95=max((each for each in (one.latency_p95, other.latency_p95) if each is not None), default=None),
    )


def _longest(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The seconds by cause for which at least one of two queues was held, at least."""
    return {cause: max(one.get(cause, 0.0), other.get(cause, 0.0)) for cause in {**one, **other}}


def _added(one: float | None, other: float | None) -> float | None:
    return (one or 0.0) + (other or 0.0) if one is not None or other is not None else None


def _mean(one: Stretch, other: Stretch) -> float | None:
    known = [(each.latency_p50, max(1, each.answered)) for each in (one, other) if each.latency_p50 is not None]
    return sum(seconds * weight for seconds, weight in known) / sum(weight for _, weight in known) if known else None


def at_work(happenings: Iterable[Happening], stretches: Iterable[Stretch], now: float | None) -> float | None:
    """The seconds in which a process was at work on a run; None if its file does not say.

    Args:
        happenings: what happened, in order of time.
        stretches: what was recorded. A process that was killed was at work until the last of its stretches.
        now: Unix time, of a run that goes on; None of any other.
    """
    turns = [each for each in happenings if each.kind in ("begin", "end")]
    ends = sorted(each.began_at + each.seconds for each in stretches)
    worked = 0.0
    for turn, after in zip(turns, [*turns[1:], None], strict=False):
        if turn.kind == "begin":
            until = now if after is None else after.at if after.kind == "end" else None
            if until is None:
                until = max((end for end in ends if after is None or end <= after.at), default=turn.at)
            worked += max(0.0, until - turn.at)
    return worked or None


class Rates(Struct, frozen=True):
    """What a target did per second over some stretches.

    Attributes:
        seconds: their length together.
        sent, answered, refused, failed: attempts per second.
        tokens: of prompts and answers, per second.
        held: the share of the time for which the queue was held, by cause, 0 to 1.
        in_flight: the mean number of attempts on the wire.
    """

    seconds: float
    sent: float
    answered: float
    refused: float
    failed: float
    tokens: float
    held: Mapping[str, float]
    in_flight: float


def rates(stretches: Sequence[Stretch]) -> Rates | None:
    """The rates over some stretches of one target; None if there are none."""
    seconds = sum(each.seconds for each in stretches)
    if not seconds:
        return None
    causes = {cause for each in stretches for cause in each.held}
    return Rates(
        seconds=seconds,
        sent=sum(each.sent for each in stretches) / seconds,
        answered=sum(each.answered for each in stretches) / seconds,
        refused=sum(each.refused for each in stretches) / seconds,
        failed=sum(each.failed for each in stretches) / seconds,
        tokens=sum(each.input_tokens + each.output_tokens for each in stretches) / seconds,
        held={cause: min(1.0, sum(each.held.get(cause, 0.0) for each in stretches) / seconds) for cause in causes},
        in_flight=sum(each.in_flight * each.seconds for each in stretches) / seconds,
    )


_SLOWEST = 0.1
"""The share of a stretch's answers for which its 95th percentile stands; the median stands for the others."""


def latency(stretches: Sequence[Stretch], share: float) -> float | None:
    """Seconds within which a share of the answers came, 0 to 1, about; None if none came.

    A stretch holds the median and the 95th percentile of its answers, and not each of them.
    """
    found: list[tuple[float, float]] = []
    for each in stretches:
        if each.latency_p50 is not None and each.latency_p95 is not None:
            answered = max(1, each.answered)
            found += [(each.latency_p50, (1 - _SLOWEST) * answered), (each.latency_p95, _SLOWEST * answered)]
    return counted_quantile(found, share)
