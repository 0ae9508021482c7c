"""The faults of a simulated provider, and their probabilities."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from msgspec import Struct

from flatout.errors import ConfigError


class Faults(Struct, frozen=True, kw_only=True):
    """The probability, from 0 to 1, that a request meets each fault.

    All but ``invalid`` and ``schema`` are drawn for each request.

    Args:
        rate_limited: a 429 although no limit was reached.
        server_error: a 500.
        overloaded: a 503.
        reset: the connection is closed before the first byte of an answer.
        hang: no answer, ever; the connection stays open.
        truncated: the body ends before its Content-Length; a stream ends in its middle, without ``[DONE]``.
        stall: the answer stops in its middle, and the connection stays open.
        malformed: a whole 200 answer that is not valid JSON; in a stream, one such event.
        late_error: an error object after the status 200; in a stream, it replaces the answer's second half.
        empty: a 200 answer without text, or without vectors.
        invalid: a 400, drawn for each prompt and not for each request: the same prompt fails every time. One such text
            fails a whole request for embeddings.
        schema: an answer, or a tool's arguments, of the wrong types, if the request has a schema for them. It is drawn
            for each conversation, so a reask draws anew.

    Raises:
        ConfigError: a value is not a probability, or those drawn for each request add up to more than 1.
    """

    rate_limited: float = 0.0
    server_error: float = 0.0
    overloaded: float = 0.0
    reset: float = 0.0
    hang: float = 0.0
    truncated: float = 0.0
    malformed: float = 0.0
    empty: float = 0.0
    invalid: float = 0.0
    stall: float = 0.0
    late_error: float = 0.0
    schema: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"the fault {name} is a probability from 0 to 1, not {getattr(self, name)!r}")
        if sum(getattr(self, name) for name in DRAWN) > 1:
            raise ConfigError("the faults' probabilities add up to more than 1")


DRAWN = tuple(name for name in Faults.__struct_fields__ if name not in ("invalid", "schema"))
"""The faults that are drawn for each request."""


class FaultTable:
    """Picks one of the drawn faults of `Faults` from a single random number."""

    __slots__ = ("_ends",)

    def __init__(self, faults: Faults) -> None:
        self._ends: list[float] = list(accumulate(getattr(faults, name) for name in DRAWN))

    def __bool__(self) -> bool:
        return bool(self._ends[-1])

    def pick(self, draw: float) -> str:
        """The fault at a draw from [0, 1); "" for none."""
        place = bisect_right(self._ends, draw)
        return DRAWN[place] if place < len(DRAWN) else ""
