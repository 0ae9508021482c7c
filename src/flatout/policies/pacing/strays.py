"""How many refusals below a given limit to bear before they concern all calls.

Some providers and gateways send a 429 now and then, whatever the rate. If each of these strays slowed all calls down, a
run would crawl; if real refusals were ignored, it would storm a limit. So one refusal among many answers concerns its
call alone. Where no limit is given, `flatout.policies.pacing.unknown` tells the two apart by trying.
"""

from __future__ import annotations

from flatout.values import Limits

CONFIRMED = 3.0
"""Refusals, less those that answers made up for, that concern all calls. At the beginning of a known rate one is
enough."""

FORGIVEN = 1.0 / 12.0
"""Refusals that one answer makes up for, below a given rate."""

FORGIVEN_UNKNOWN = 1.0 / 30.0
"""Refusals that one answer makes up for, if only a number in flight is given: that says nothing of the rate."""

FIRST_PAUSE = 0.5
"""Seconds that a refused call waits if the provider names no time."""


def own_wait(retry_after: float | None) -> float:
    """Seconds that a refused call waits alone."""
    return FIRST_PAUSE if retry_after is None else retry_after


def tolerance(limits: Limits, *, paced: bool) -> Tolerance | None:
    """Bears refusals below the limits that the user gave; None where none is given.

    Args:
        limits: what the user gave.
        paced: whether that includes a rate. Then one refusal is enough at the beginning.
    """
    if paced:
        return Tolerance(FORGIVEN, CONFIRMED - 1.0)
    return Tolerance(FORGIVEN_UNKNOWN) if limits.concurrency is not None else None


class Tolerance:
    """Counts refusals until they concern all calls.

    Args:
        forgiven: refusals that one answer makes up for.
        refusals: the count to begin with.
    """

    __slots__ = ("_forgiven", "_refusals")

    def __init__(self, forgiven: float, refusals: float = 0.0) -> None:
        self._forgiven = forgiven
        self._refusals = refusals

    def answered(self) -> None:
        """A call was answered."""
        self._refusals = max(0.0, self._refusals - self._forgiven)

    def alone(self, retry_after: float | None) -> float | None:
        """A call was refused. Returns the seconds that it waits alone; None when its refusal concerns all calls."""
        self._refusals += 1.0
        return own_wait(retry_after) if self._refusals < CONFIRMED else None
