"""One row of the output, and the names of its columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

PREFIX = "flatout_"
"""Put in front of a column's name that the input has already."""

FIXED_TYPES = {
    "error": "string",
    "finish_reason": "string",
    "model": "string",
    "input_tokens": "int64",
    "output_tokens": "int64",
    "cost": "double",
    "attempts": "int64",
    "seconds": "double",
    "provider_seconds": "double",
    "queued_seconds": "double",
    "target": "string",
    "cached": "bool",
    "repaired": "bool",
    "raw_answer": "string",
}
"""The answer's columns except ``answer`` itself, with their Parquet types."""


class AnsweredRow(Struct, frozen=True, kw_only=True):
    """One row of the output. An unknown value is None, and is written as null or an empty cell.

    Attributes:
        columns: the input's own.
        answer: the text, or the parsed object if an output schema was given.
        error: why there is no answer, in the form of `named_error`.
        cost: US dollars.
        attempts: how many times the call was tried.
        seconds: from the call's start, queueing included, to its end.
        provider_seconds: how long its last attempt took.
        queued_seconds: how much of ``seconds`` no attempt was on the wire.
        target: which target of a route answered, or was tried last.
        cached: whether the answer comes from a cache.
        repaired: whether the parsed object comes from an answer that was not valid JSON as it stood.
        raw_answer: the model's text, if it could not be used.
    """

    columns: Mapping[str, Any]
    answer: Any = None
    error: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    attempts: int | None = None
    seconds: float | None = None
    provider_seconds: float | None = None
    queued_seconds: float | None = None
    target: str | None = None
    cached: bool | None = None
    repaired: bool | None = None
    raw_answer: str | None = None


ALL_COLUMNS = AnsweredRow.__struct_fields__[1:]
"""The columns that a run may add, in order. ``target``, ``cached``, ``repaired`` and ``raw_answer`` appear only if they
have something to say.
"""

ANSWER_COLUMNS = ALL_COLUMNS[:-4]
"""The columns that every run adds."""

Rows = Callable[[], Iterable[AnsweredRow]]
"""Returns a fresh iterator over the output's rows, the same each time."""


def named_error(name: str, message: str) -> str:
    """An error's class and message on one line: ``RateLimited: too fast``."""
    return f"{name}: {' '.join(message.split())}".rstrip(": ")


def answer_names(columns: Collection[str], fields: Sequence[str] = ANSWER_COLUMNS) -> dict[str, str]:
    """The name of each field beside these columns: with ``flatout_`` in front if the name is taken."""
    names = {}
    for name in fields:
        free = name
        while free in columns:
            free = PREFIX + free
        names[name] = free
    return names
