"""Refusals below a limit that was given: how many are borne before they are everybody's affair.

Some providers and gateways send a 429 now and then whatever the rate. To slow everybody down for each of them would
bring a run to a crawl; to overlook real ones would storm a limit. So one refusal among many answers is its call's own.
Where no limit is given, `flatout.policies.pacing.unknown` tells the two apart by trying.
"""

from __future__ import annotations

from flatout.values import Limits

CONFIRMED = 3.0
FORGIVEN, FORGIVEN_UNKNOWN = 1.0 / 12.0, 1.0 / 30.0
"""Below a limit that the user gave, a 429 is its call's own affair until there are this many more of them than one in
12 answers; one in 30, if that limit is of calls in flight, and says nothing of the rate. At the beginning of a known
rate one is enough."""

FIRST_PAUSE = 0.5
"""Seconds that a refused call waits when it was not told how long."""


def own_wait(retry_after: float | None) -> float:
    """Seconds that a refused call waits by itself."""
    return FIRST_PAUSE if retry_after is None else retry_after


def tolerance(limits: Limits, *, paced: bool) -> Tolerance | None:
    """How many refusals are borne below the limits that the user gave; None where there are none.

    Args:
        limits: what the user gave.
        paced: whether that includes a rate. Then one refusal is enough at the beginning.
    """
    if paced:
        return Tolerance(FORGIVEN, CONFIRMED - 1.0)
    return Tolerance(FORGIVEN_UNKNOWN) if limits.concurrency is not None else None


class Tolerance:
    """How many refusals are borne before they are everybody's affair.

    Args:
        forgiven: of how many refusals an answer makes up for.
        refusals: how many there are to begin with.
    """

    __slots__ = ("_forgiven", "_refusals")

    def __init__(self, forgiven: float, refusals: float = 0.0) -> None:
        self._forgiven = forgiven
        self._refusals = refusals

    def answered(self) -> None:
        """A call was answered."""
        self._refusals = max(0.0, self._refusals - self._forgiven)

    def alone(self, retry_after: float | None) -> float | None:
        """A call was refused: the seconds that it is to wait by itself; None when that is everybody's affair."""
        self._refusals += 1.0
        return own_wait(retry_after) if self._refusals < CONFIRMED else None
