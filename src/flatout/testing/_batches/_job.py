"""One batch as a function of time: its rows, its phases, and which of its rows are finished when."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from msgspec import Struct

Kind = Literal["chat", "messages", "responses", "embeddings"]
"""What the rows of a batch are, for the live model."""

Phase = Literal["validating", "failed", "running", "finalizing", "ended", "expired", "cancelling", "cancelled"]
OVER: frozenset[Phase] = frozenset({"failed", "ended", "expired", "cancelled"})


class Row(Struct, frozen=True, gc=False):
    """One request of a batch: its name among the results, and the body that the live endpoint would get."""

    key: str | None
    body: bytes


class Problem(Struct, frozen=True, gc=False):
    """Why a batch fails in its validation. ``line`` counts from 1; None if it is not a line, or is not named."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Answered(Struct, frozen=True, gc=False):
    """What became of one row; ``status`` is 0 if it was not run."""

    row: Row
    place: int
    status: int = 0
    body: bytes = b""


class Job(Struct, kw_only=True):
    """A batch.

    Attributes:
        id: its name.
        organisation: whose it is.
        told: what its creator said about it, for the format that describes it.
        kind: what its rows are.
        model: the model of its rows; "" if they have several.
        rows: its rows; empty once it is over.
        count: how many it has, or had.
        tokens: prompt tokens of all its rows; 0 if nobody counts them.
        problems: why it fails in its validation; empty if it does not.
        line: writes what became of a row as a line, and names the file that it belongs to; "" for none.
        wall: Unix seconds of its creation.
        created, validated, expires: when it was or will be created, validated and given up, in the model's seconds. A
            batch that waits in the queue is not validated before its turn.
        takes: seconds from its validation until its last row is answered.
        finalizing, cancelling: how long that takes.
        cancelled: when somebody asked to cancel it; None if nobody has.
        settled: whether the results are written.
        deleted: whether its owner has deleted it.
        files: the names of its files of results.
        good, bad, prompt_tokens, output_tokens: how many of its rows have an answer and how many an error, and the
            tokens of the answers.
    """

    id: str
    organisation: str
    told: dict[str, Any]
    kind: Kind
    model: str
    rows: list[Row]
    count: int
    tokens: int
    problems: Sequence[Problem]
    line: Callable[[Job, Answered], tuple[str, bytes]]
    wall: float
    created: float
    validated: float
    expires: float
    takes: float
    finalizing: float
    cancelling: float
    cancelled: float | None = None
    settled: bool = False
    deleted: bool = False
    files: dict[str, str] = {}
    good: int = 0
    bad: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def finished(self) -> float:
        """When its last row is answered, unless it ends before."""
        return self.validated + self.takes

    def phase(self, now: float) -> Phase:
        """What happens to it now."""
        if self.cancelled is not None:
            return "cancelled" if now >= self.cancelled + self.cancelling else "cancelling"
        if now < min(self.validated, self.expires):
            return "validating"
        if self.problems:
            return "failed"
        if self.finished >= self.expires:
            return "expired" if now >= self.expires else "running"
        if now < self.finished:
            return "running"
        return "finalizing" if now < self.finished + self.finalizing else "ended"

    def over_at(self) -> float:
        """When it is over, as far as that is known."""
        if self.cancelled is not None:
            return self.cancelled + self.cancelling
        if self.problems:
            return self.validated
        return self.expires if self.finished >= self.expires else self.finished + self.finalizing

    def done(self, now: float) -> int:
        """How many of its rows are finished."""
        until = min(now, self.expires, math.inf if self.cancelled is None else self.cancelled)
        if self.problems or until <= self.validated:
            return 0
        return self.count if until >= self.finished else int(self.count * (until - self.validated) / self.takes)

    def unix(self, at: float) -> int:
        """Unix seconds of a time of the model."""
        return int(self.wall + at - self.created)
