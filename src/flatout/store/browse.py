"""Look through the items of a run file: pages of them in short, and those that match. Whole items stay in the file.

Nothing here reads more than a bounded number of rows at once, except `Browser.highest`: so a million rows are looked
through like ten, while the run goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

from .queries import queries
from .reader import LAST, RunReader
from .rows import BegunAttempt, ItemState

Kind = Literal["all", "failed", "truncated", "mismatch", "retried"]
"""Which rows: all; without an answer; cut off at the token limit; with an answer that does not fit the schema; those
that took several attempts."""

Figure = Literal["provider", "seconds", "cost", "attempts"]
"""A figure to sort by: the seconds of the last attempt, those of the whole row, US dollars, attempts."""

LENGTH = 400
"""Characters of a question and an answer that a `Short` holds."""

_CHUNK = 5_000
"""Rows that are compared at once."""


class Short(Struct, frozen=True):
    """An item in short. The fields are those of `flatout.store.Item`.

    Attributes:
        question: the beginning of the prompt, or of the last message.
        words: the beginning of the error's message, or of the answer.
    """

    index: int
    id: str | None
    state: ItemState
    attempts: int
    seconds: float | None
    provider_seconds: float | None
    cost: float | None
    error: str | None
    finish_reason: str | None
    question: str
    words: str


class Wanted(Struct, frozen=True, kw_only=True):
    """Which items are looked for.

    Attributes:
        kind: see `Kind`.
        error: the class of the error; None for any.
        text: what the id, the question, the answer or the error contains; ASCII letters match in either case.
        column: a column of the input, or a field of the parsed answer; None for any.
        value: its value.
    """

    kind: Kind = "all"
    error: str | None = None
    text: str | None = None
    column: str | None = None
    value: str | None = None

    def parameters(self) -> dict[str, Any]:
        """The parameters of the statements."""
        escaped = None if self.text is None else msgspec.json.encode(self.text).decode()[1:-1]  # as JSON holds it
        return {
            "kind": self.kind,
            "error": self.error,
            "text": self.text,
            "escaped": escaped,
            "column": self.column,
            "value": self.value,
        }


class Browser:
    """Looks through the items of a run file.

    Args:
        reader: the run file. One of an earlier version has no course, and no provider's seconds.
    """

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader
        known = queries("browse")
        absent = {name: sql.replace("provider_seconds", "NULL") for name, sql in known.items()}
        self._sql = absent if reader.course is None else known

    def page(self, first: int, last: int) -> list[Short]:
        """The items from one index to another, both included."""
        given = {"first": first, "last": last, "length": LENGTH, "most": last - first + 1}
        return [Short(*row) for row in self._reader.select(self._sql["shorts"], given)]

    def shorts(self, indices: list[int]) -> list[Short]:
        """The items with some indices, in their order. Those that are not finished are left out."""
        return [short for index in indices for short in self.page(index, index)]

    def matching(self, wanted: Wanted, first: int = 0) -> Iterator[list[int]]:
        """The indices of the items that match, in order: a list for each few thousand items, which may be empty."""
        return (indices for _, indices in self.chunks(wanted, first))

    def chunks(self, wanted: Wanted, first: int = 0) -> Iterator[tuple[int, list[int]]]:
        """The lists of `matching`, each with the index of the last item that was looked at."""
        while True:
            ((last,),) = self._reader.select(self._sql["chunk_end"], (first, _CHUNK))
            if last is None:
                return
            yield last, self._found(wanted, first, last, _CHUNK)
            first = last + 1

    def highest(self, by: Figure, wanted: Wanted, most: int, *, lowest: bool = False) -> list[int]:
        """The indices of the items that match with the highest figures, or the lowest ones. Reads all items."""
        return self._found(wanted, 0, LAST, most, by, -1 if lowest else 1)

    def _found(
        self, wanted: Wanted, first: int, last: int, most: int, by: Figure | None = None, turn: int = 1
    ) -> list[int]:
        given = {**wanted.parameters(), "first": first, "last": last, "most": most, "by": by, "turn": turn}
        return [index for index, _ in self._reader.select(self._sql["matching"], given)]

    def in_flight(self, most: int, *, dead: bool = False) -> list[BegunAttempt]:
        """The attempts in flight, the oldest first. Of a run whose process died: all that may be paid for nothing."""
        sql = self._sql["in_flight"]
        if not self._reader.knows_failed:
            sql = sql.replace("failed", "0")
        return [BegunAttempt(*row) for row in self._reader.select(sql, {"most": most, "dead": dead})]

    def retries(self) -> Iterator[tuple[float, str]]:
        """When each attempt began that followed a failed one, and the class of that one's error."""
        last = 0
        while rows := self._reader.select(self._sql["retries"], (last, _CHUNK)):
            yield from ((began, error) for _, began, error in rows)
            last = rows[-1][0]
