"""Chooses the rows of a sample: at random, but from short and from long prompts in the right numbers.

A job's money is in its long prompts, its number of calls in the short ones. So rows are put into strata by the length
of their prompts, and each stratum gets a part of the sample, half by its rows and half by its text.

Rows stream past once, and their number is not known before. Each row has a *mark* that depends on its place alone, and
the rows with the lowest marks are the sample (bottom-k sampling; Cohen and Kaplan 2007). So the same job has the same
sample each time, and a sample that is continued never asks a row twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from math import log2
from typing import Generic, TypeVar

from msgspec import Struct

STEPS = 2
"""Strata for each doubling of the length, before those with few rows are joined."""

LEAST = 5
"""Rows that every stratum's part of the sample has at least. With fewer, their spread says nothing."""

RowT = TypeVar("RowT")

_MASK = (1 << 64) - 1


def mark_of(place: int) -> int:
    """A row's mark: 64 bits that look random (the finalizer of SplitMix64; Steele, Lea and Flood 2014)."""
    z = (place + 1) * 0x9E3779B97F4A7C15 & _MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
    return z ^ z >> 31


class Entry(Struct, Generic[RowT], frozen=True, gc=False):
    """A row that may be in the sample.

    Attributes:
        mark: its mark.
        index: its place in the job.
        size: the length of its prompt, in tokens as far as they can be told before it is asked.
        row: the row itself.
    """

    mark: int
    index: int
    size: float
    row: RowT


class Stratum(Generic[RowT]):
    """Rows whose prompts are of about the same length.

    Attributes:
        rows: how many there are.
        size: the sum of their sizes.
        done: how many of them have a result,
        done_size: and the sum of the sizes of those.
        entries: the rows with the lowest marks, in the order of these.
        share: how many of them are the sample.
    """

    __slots__ = ("_heap", "_most", "done", "done_size", "rows", "share", "size")

    def __init__(self, most: int) -> None:
        self.rows = self.done = self.share = 0
        self.size = self.done_size = 0.0
        self._most = most
        self._heap: list[tuple[int, int, Entry[RowT]]] = []  # the highest mark first

    def __repr__(self) -> str:
        return f"Stratum(rows={self.rows}, done={self.done}, share={self.share})"

    def add(self, entry: Entry[RowT], *, done: bool) -> None:
        """Add a row."""
        self.rows += 1
        self.size += entry.size
        if done:
            self.done += 1
            self.done_size += entry.size
        self._keep(entry)

    def join(self, other: Stratum[RowT]) -> None:
        """Take in all rows of another stratum."""
        self.rows += other.rows
        self.size += other.size
        self.done += other.done
        self.done_size += other.done_size
        for _, _, entry in other._heap:
            self._keep(entry)

    @property
    def entries(self) -> list[Entry[RowT]]:
        return [entry for _, _, entry in sorted(self._heap, reverse=True)]

    @property
    def sample(self) -> list[Entry[RowT]]:
        """The rows of the sample."""
        return self.entries[: self.share]

    def _keep(self, entry: Entry[RowT]) -> None:
        kept = (-entry.mark, -entry.index, entry)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, kept)
        elif kept > self._heap[0]:
            heapq.heapreplace(self._heap, kept)


class Strata(Generic[RowT]):
    """The rows of one model, by the lengths of their prompts.

    Args:
        most: the most rows that the sample can have.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bins: dict[int, Stratum[RowT]] = {}

    def of(self, size: float) -> Stratum[RowT]:
        """The stratum of a row's size."""
        place = int(STEPS * log2(size + 1.0))
        found = self._bins.get(place)
        if found is None:
            found = self._bins[place] = Stratum(self._most)
        return found

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(each.rows for each in self._bins.values())

    @property
    def size(self) -> float:
        """The sum of their sizes."""
        return sum(each.size for each in self._bins.values())

    @property
    def done(self) -> int:
        """How many have a result."""
        return sum(each.done for each in self._bins.values())

    def split(self, sample: int) -> list[Stratum[RowT]]:
        """The strata, from short to long, each with its share of a sample of this many rows."""
        rows, size = self.rows, self.size or 1.0
        parts = self._joined([(each, sample * (each.rows / rows + each.size / size) / 2) for each in self._sorted()])
        return _shared_out(parts, sample)

    def _sorted(self) -> list[Stratum[RowT]]:
        return [each for _, each in sorted(self._bins.items())]

    def _joined(self, parts: Sequence[tuple[Stratum[RowT], float]]) -> list[tuple[Stratum[RowT], float]]:
        """Neighbours joined until each has a large enough part of the sample."""
        found: list[tuple[Stratum[RowT], float]] = []
        open_: Stratum[RowT] = Stratum(self._most)
        share = 0.0
        for each, part in parts:
            open_.join(each)
            share += part
            if share >= LEAST and open_.rows >= LEAST:
                found.append((open_, share))
                open_, share = Stratum(self._most), 0.0
        if open_.rows and found:
            last, before = found.pop()
            last.join(open_)
            found.append((last, before + share))
        elif open_.rows:
            found.append((open_, share))
        return found


def _shared_out(parts: Sequence[tuple[Stratum[RowT], float]], sample: int) -> list[Stratum[RowT]]:
    """Give each stratum its share, in whole rows, and at most all that it has."""
    left, weight = sample, sum(share for _, share in parts)
    for stratum, share in sorted(parts, key=lambda part: part[0].rows / max(part[1], 1e-9)):  # the scarcest first
        stratum.share = min(stratum.rows, round(left * share / weight) if weight else 0)
        left -= stratum.share
        weight -= share
    return [stratum for stratum, _ in parts]
