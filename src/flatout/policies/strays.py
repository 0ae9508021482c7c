"""Refusals that have nothing to do with our speed: how they are told from those that do, and how many are borne.

Some providers and gateways send a 429 now and then whatever the rate. To slow everybody down for each of them would
bring a run to a crawl; to overlook real ones would storm a limit.
"""

from __future__ import annotations

STRAY, CONFIRMED = 2.0, 3.0
FORGIVEN, FORGIVEN_UNKNOWN = 1.0 / 12.0, 1.0 / 30.0
"""Below a limit that the user gave, a 429 that names no more seconds than this is its call's own affair, until there
are this many more of them than one in 12 answers; one in 30, if that limit is of calls in flight, and says nothing of
the rate. At the beginning of a known rate one is enough."""

SHARE = 1.0 / 4.0
"""Of what is sent beyond a limit, and still after cut upon cut, a larger share than this is refused. Where less is, it
is no limit that refuses; and from then on so many are borne."""

CUTS, LATELY = 3, 400
"""More cuts than this within so many requests, none of which a look upward brought about, are no coincidence."""

FIRST_PAUSE = 0.5
"""Seconds that a refused call waits when it was not told how long."""


class Tolerance:
    """How many refusals are borne before they are everybody's affair.

    Args:
        forgiven: of how many refusals an answer makes up for.
        refusals: how many there are to begin with.

    Attributes:
        forgiven: see above.
    """

    __slots__ = ("_refusals", "forgiven")

    def __init__(self, forgiven: float, refusals: float = 0.0) -> None:
        self.forgiven = forgiven
        self._refusals = refusals

    def answered(self) -> None:
        """A call was answered."""
        self._refusals = max(0.0, self._refusals - self.forgiven)

    def alone(self, retry_after: float | None) -> float | None:
        """A call was refused: the seconds that it is to wait by itself; None when that is everybody's affair."""
        self._refusals += 1.0
        wait = FIRST_PAUSE if retry_after is None else retry_after
        return wait if self._refusals < CONFIRMED and wait <= STRAY else None

    def answer_all(self) -> None:
        """The refusals so far have been answered, by a lower rate."""
        self._refusals = 0.0


class Uninvited:
    """Counts refusals of a rate that was found and not raised since."""

    __slots__ = ("_count", "_since")

    def __init__(self) -> None:
        self._count = 0
        self._since = (0, 0)  # what was sent and refused by the first of them

    def are_strays(self, sent: int, refused: int) -> bool:
        """One more, after so many requests and refusals in all. Whether cut after cut has changed nothing."""
        if not self._count or sent - self._since[0] > LATELY:
            self._count, self._since = 0, (sent, refused)
        self._count += 1
        first_sent, first_refused = self._since
        return self._count > CUTS and refused - first_refused < SHARE * (sent - first_sent)
