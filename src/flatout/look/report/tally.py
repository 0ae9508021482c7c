"""One pass over the rows of a run: every sum that a report needs, in constant memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from flatout.durable.records import is_cached
from flatout.store import Item

from .clock import Clock
from .sums import Histogram

MOST_CLASSES = 8
"""The most classes of errors with a curve of their own."""

MOST_GROUPS = 30
"""The most models or samples with figures of their own."""

_waits = msgspec.json.Decoder(dict[str, float]).decode


class Group(Struct):
    """The sums of one model, or of one sample of it."""

    answered: int = 0
    failed: int = 0
    cost: float = 0.0
    unknown_costs: int = 0
    output_tokens: int = 0
    seconds: Histogram = msgspec.field(default_factory=Histogram)


class Tally:
    """The sums over a run's rows.

    Args:
        clock: the time axis.

    Attributes:
        seconds: whole seconds of each answered row, queueing included.
        provider: seconds of its last attempt.
        lengths: characters of each answer.
        attempts: rows by their number of attempts.
        waits: seconds by cause, of all rows.
        errors: failed rows by class.
        errors_over_time: failed rows in each slot, by class; further classes are "others".
        retries_over_time: attempts that followed a failed one in each slot, by the class of its error.
        cost_over_time: dollars of the rows that ended in each slot.
        answered_over_time, finished_over_time: rows in each slot.
        repaired: answered rows whose output was recovered from not quite valid JSON.
        groups: sums by model.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds, self.provider, self.lengths = Histogram(), Histogram(), Histogram()
        self.attempts: Counter[int] = Counter()
        self.waits: dict[str, float] = {}
        self.errors: Counter[str] = Counter()
        self.errors_over_time: dict[str, list[int]] = {}
        self.retries_over_time: dict[str, list[int]] = {}
        self.cost_over_time = [0.0] * clock.slots
        self.answered_over_time = [0] * clock.slots
        self.repaired = 0
        self.groups: dict[str, Group] = {}

    def add(self, item: Item, group: str | None = None) -> None:
        """Add one row, to its group if it has one, else to its model's."""
        slot = self._clock.slot(item.finished_at)
        self.cost_over_time[slot] += item.cost or 0.0
        self.attempts[item.attempts] += 1
        for cause, seconds in waits_of(item).items():
            self.waits[cause] = self.waits.get(cause, 0.0) + seconds
        if item.state == "answered":
            self._answered(item, slot)
        else:
            self._failed(item, slot)
        self._group(item, group or item.model or "")

    def add_retry(self, at: float, error: str) -> None:
        """Add an attempt that followed a failed one: when it began, and the class of that one's error."""
        self._count(self.retries_over_time, error, self._clock.slot(at))

    def _answered(self, item: Item, slot: int) -> None:
        self.answered_over_time[slot] += 1
        self.repaired += item.repaired
        if said := item.answer or item.output:
            self.lengths.add(len(said))
        if not is_cached(item):
            if item.seconds is not None:
                self.seconds.add(item.seconds)
            if item.provider_seconds is not None:
                self.provider.add(item.provider_seconds)

    def _failed(self, item: Item, slot: int) -> None:
        error = item.error or "CallError"
        self.errors[error if error in self.errors or len(self.errors) < MOST_GROUPS else "others"] += 1
        self._count(self.errors_over_time, error, slot)

    def _count(self, counts: dict[str, list[int]], error: str, slot: int) -> None:
        if error not in counts and len(counts) >= MOST_CLASSES:
            error = "others"
        counts.setdefault(error, [0] * self._clock.slots)[slot] += 1

    def _group(self, item: Item, name: str) -> None:
        if name not in self.groups and len(self.groups) >= MOST_GROUPS:
            name = "others"
        group = self.groups.setdefault(name, Group())
        if item.state == "answered":
            group.answered += 1
            if item.provider_seconds is not None or item.seconds is not None:
                group.seconds.add(item.provider_seconds or item.seconds or 0.0)
        else:
            group.failed += 1
        group.cost += item.cost or 0.0
        group.unknown_costs += item.cost is None and item.state != "unsent"
        group.output_tokens += item.output_tokens or 0


def waits_of(item: Item) -> Mapping[str, float]:
    """Where a row's seconds went, by cause."""
    try:
        return _waits(item.waits) if item.waits else {}
    except msgspec.MsgspecError:
        return {}
