"""Tells several models and samples apart, and counts how often their labels agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import msgspec

from flatout.store import Item

from .model import Cells

MOST_LABELS = 20
"""Different labels of a field; one with more is no label."""

_MOST_FIELDS = 6
_MOST_PAIRS = 6
_LONGEST = 60  # characters of a label
_ANSWER = "answer"

_decode = msgspec.json.Decoder().decode


def names_of(job: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the variants that each row of a run's input is asked in; none if there is one only."""
    models, samples = job.get("models") or [None], job.get("samples")
    if not isinstance(models, list) or not isinstance(samples, int | None) or not 1 < len(models) * (samples or 1) < 33:
        return ()
    pairs = [(model, sample) for model in models for sample in range(samples or 1)]
    return tuple(
        " · ".join(filter(None, (model and str(model), f"sample {sample}" if samples and samples > 1 else "")))
        for model, sample in pairs
    )


def labels_of(item: Item) -> Iterator[tuple[str, str]]:
    """The labels of an answered row: short values by the name of their field; ``answer`` for a plain text."""
    if item.state != "answered":
        return
    if item.output is None:
        if item.answer is not None and len(text := item.answer.strip()) <= _LONGEST:
            yield _ANSWER, text
        return
    try:
        output = _decode(item.output)
    except msgspec.MsgspecError:
        return
    fields = output.items() if isinstance(output, dict) else [(_ANSWER, output)]
    for name, value in fields:
        if isinstance(value, bool | int) or (isinstance(value, str) and len(value) <= _LONGEST):
            yield str(name), str(value).lower() if isinstance(value, bool) else str(value)


class Agreement:
    """Counts how often two answers to the same row say the same, by field.

    Args:
        names: the names of those who answer.

    Attributes:
        names: the same.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._pairs = list(combinations(range(len(names)), 2))[:_MOST_PAIRS]
        self._counts: dict[str, list[Counter[tuple[str, str]]]] = {}
        self._dropped: set[str] = set()
        self._row = -1
        self._labels: dict[int, dict[str, str]] = {}

    def add(self, row: int, who: int, item: Item) -> None:
        """Add one answer. Those to one row come one after the other."""
        if row != self._row:
            self._settle()
            self._row, self._labels = row, {}
        self._labels[who] = dict(labels_of(item))

    def compare(self, *labels: dict[str, str]) -> None:
        """Add the labels that everybody gave to one row."""
        self._settle()
        self._row, self._labels = -1, dict(enumerate(labels))

    def tables(self) -> tuple[Cells, ...]:
        """How often each pair agrees, and each pair's labels against each other."""
        self._settle()
        self._labels = {}
        return tuple(
            self._table(field, *pair, counts)
            for field, each in self._counts.items()
            for pair, counts in zip(self._pairs, each, strict=True)
            if len({label for labels in counts for label in labels}) > 1
        )

    def _settle(self) -> None:
        for number, (one, other) in enumerate(self._pairs):
            first, second = self._labels.get(one, {}), self._labels.get(other, {})
            for field in first:
                is_new = field not in self._counts
                if field not in second or field in self._dropped or (is_new and len(self._counts) >= _MOST_FIELDS):
                    continue
                counts = self._counts.setdefault(field, [Counter() for _ in self._pairs])[number]
                counts[first[field], second[field]] += 1
                if len({label for labels in counts for label in labels}) > MOST_LABELS:
                    self._dropped.add(field)
                    del self._counts[field]

    def _table(self, field: str, one: int, other: int, counts: Counter[tuple[str, str]]) -> Cells:
        names, total = self.names, sum(counts.values())
        same = sum(count for (first, second), count in counts.items() if first == second)
        sums: Counter[str] = Counter()
        for labels, count in counts.items():
            for label in labels:
                sums[label] += count
        order = [label for label, _ in sums.most_common()]
        return Cells(
            name=f"agreement_{field}_{one}_{other}",
            title=f"{field}: {names[one]} against {names[other]}",
            heads=("", *order),
            rows=tuple((label, *(counts[label, second] for second in order)) for label in order),
            shaded=True,
            note=f"They agree on {same:,} of {total:,} rows that both answered ({100 * same / total:.1f} %). "
            f"Down: {names[one]}. Across: {names[other]}.",
        )
