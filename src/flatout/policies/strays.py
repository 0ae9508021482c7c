"""Refusals that have nothing to do with our speed: how they are told from those that do, and how many are borne.

Some providers and gateways send a 429 now and then whatever the rate. To slow everybody down for each of them would
bring a run to a crawl; to overlook real ones would storm a limit. A limit refuses more of what is sent faster, and
strays do not. So one refusal among many answers is borne; and when cut upon cut has not made an end of them, more is
sent for a moment, and the share that is refused then tells: see `Doubt`.
"""

from __future__ import annotations

STRAY, LONGEST_STRAY = 2.0, 60.0
"""Most seconds that a 429 may name to be its call's own affair; and the same where they are known to be strays."""

CONFIRMED = 3.0
FORGIVEN, FORGIVEN_UNKNOWN = 1.0 / 12.0, 1.0 / 30.0
"""Below a limit that the user gave, a 429 is its call's own affair until there are this many more of them than one in
12 answers; one in 30, if that limit is of calls in flight, and says nothing of the rate. At the beginning of a known
rate one is enough."""

LONE, ONE, CONFIRMED_LONE = 1.0 / 150.0, 1.0, 1.5
"""Where no limit is known, a 429 is borne after 75 requests without one. A target that took so many at once takes
hundreds in ten minutes at the least, of which the second refusal that a real limit then sends is one. A second one any
sooner is believed. Each belief that is disproved doubles what is borne, up to `MOST_LONE`."""

MOST_LONE = 0.5

CUTS, PROVED, LATELY, MOST_REFUSED = 2, 4, 400, 0.8
"""More cuts than this within so many requests, none of which a look upward brought about, are put to the test; unless a
larger share than this was refused, for no more can be told by it. When a test fails, the next one wants twice as many
cuts; and so many times more where heaps of refusals prove a limit."""

TIMES, MORE, MOST_ALLOWED = 1.2, 0.08, 0.85
"""The share of refusals that passes: so many times what it was before the test, and so much more, but never above the
last."""

FASTER, TEST = 2.0, 10.0
"""What is sent in a test is so many times what the limit may be at most, and the test takes so many requests; both
divided by the share that is not allowed to be refused. So a limit would refuse half as much again as is allowed."""

FIRST_EBB, EBB, SEEN, FELL, MANY = 100, 50, 3.5, 4.0, 0.02
"""So many requests after a test that was passed, and then after twice as many each time, some go at half the pace: so
many at the least, and enough for so many refusals. If they are fewer by the factor after that, a limit was taken for
strays: of what is sent slower it refuses less. That costs no refusals, but few per cent of the pace; where less than
the share named last is refused, it is not worth it."""

REMEMBERED, RARE = 400, 0.005
"""Requests after which half of what is known of strays is forgotten. Where there were fewer than this share, refusals
are believed again."""

FIRST_PAUSE = 0.5
"""Seconds that a refused call waits when it was not told how long."""


class Tolerance:
    """How many refusals are borne before they are everybody's affair.

    Args:
        forgiven: of how many refusals an answer makes up for.
        refusals: how many there are to begin with.
        confirmed: how many are everybody's affair.
    """

    __slots__ = ("_refusals", "confirmed", "forgiven")

    def __init__(self, forgiven: float, refusals: float = 0.0, confirmed: float = CONFIRMED) -> None:
        self.forgiven = forgiven
        self.confirmed = confirmed
        self._refusals = refusals

    def answered(self, calls: int = 1) -> None:
        """Calls were answered."""
        self._refusals = max(0.0, self._refusals - self.forgiven * calls)

    def answer_all(self, left: float = 0.0) -> None:
        """The refusals so far have been answered, by a lower rate; so many are left."""
        self._refusals = left

    def alone(self, retry_after: float | None, longest: float = STRAY) -> float | None:
        """A call was refused: the seconds that it is to wait by itself; None when that is everybody's affair."""
        self._refusals += 1.0
        wait = FIRST_PAUSE if retry_after is None else retry_after
        return wait if self._refusals < self.confirmed and wait <= longest else None


class Doubt:
    """Doubts refusals where no limit is known: bears lone ones, and puts many to the test.

    Requests are named by how many had been sent, themselves included. What was sent before one that was refused, and
    was not refused itself, is held to be accepted: a refusal comes sooner than an answer.

    Attributes:
        strays: whether refusals are held to be strays: they are being tested, or have passed.
        factor: how many times what a limit may be at most is to be sent in a test.
        requests: how many requests a test takes.
    """

    __slots__ = (
        "_accepted",
        "_cuts",
        "_cuts_before",
        "_ebb_at",
        "_ebb_from",
        "_ebb_gap",
        "_ebbed",
        "_heard",
        "_since",
        "_strays",
        "_tested",
        "_tolerance",
        "factor",
        "requests",
        "strays",
    )

    def __init__(self) -> None:
        self.strays = False
        self.factor = self.requests = 0.0
        self._tolerance = Tolerance(LONE, ONE, CONFIRMED_LONE)
        self._cuts, self._cuts_before = 0, CUTS  # so many, and so many before they are tested
        self._since = (0, 0)  # what was sent and refused by the first of them
        self._tested: int | None = None  # what was sent when the test began, while it goes on
        self._heard = 0  # the last request that was refused
        self._strays = self._accepted = 0
        self._ebb_at, self._ebb_gap = 0, FIRST_EBB  # what is to be sent before the pace changes
        self._ebb_from: int | None = None  # what was sent when it fell
        self._ebbed = 0  # refusals of what was sent since

    def alone(self, sent: int, retry_after: float | None) -> float | None:
        """A request was refused: the seconds that it is to wait by itself; None when that concerns the rate."""
        self._hear(sent)
        wait = self._tolerance.alone(retry_after, LONGEST_STRAY if self.strays else STRAY)
        if wait is not None and self.strays:
            self._strays += 1
            self._ebbed += self._ebb_from is not None and sent > self._ebb_from
            if self._tested is None:
                self._allow()
        return wait

    def ebbs(self, sent: int) -> bool:
        """Whether what is sent next is to go at half the pace, so many having been sent."""
        if self.strays and sent >= self._ebb_at and not self._testing(sent):
            if self._ebb_from is not None:
                expected = (sent - self._ebb_from) * self._share
                self._ebb_from, self._ebb_at = None, sent + self._ebb_gap
                self._ebb_gap *= 2
                if self._ebbed * FELL < expected:
                    self._begin()
            elif self._share >= MANY:
                self._ebb_from, self._ebbed = sent, 0
                self._ebb_at = sent + max(EBB, int(SEEN / self._share))
        return self._ebb_from is not None

    def disproved(self) -> None:
        """A refusal that was believed turned out to have nothing to do with the rate."""
        if not self.strays:
            self._tolerance.forgiven = min(MOST_LONE, 2.0 * self._tolerance.forgiven)

    def believed(self, sent: int) -> bool:
        """A refusal is believed. Whether a test has failed by it."""
        failed = self._testing(sent)
        if failed:
            self._cuts_before *= 2
            self._begin()
        else:
            self._tolerance.answer_all(0.0 if self.strays else ONE)
        self._tested = self._ebb_from = None
        return failed

    def cut(self, sent: int, refused: int, *, proved: bool = False) -> bool:
        """The rate is to be cut, after so many requests and refusals. Whether to put that to the test instead, although
        a limit may seem to be proved.
        """
        if not self._cuts or sent - self._since[0] > LATELY * self._cuts_before / CUTS:
            self._cuts, self._since = 0, (sent, refused)
        self._cuts += 1
        requests, refusals = sent - self._since[0], refused - self._since[1]
        enough = self._cuts_before * (PROVED if proved else 1)
        if self.strays or self._cuts <= enough or refusals > MOST_REFUSED * requests:
            return False
        self.strays = True
        self._tested = sent
        self._strays, self._accepted = refusals, requests - refusals
        self._tolerance = Tolerance(0.0)
        self._allow()
        self._ebb_gap = FIRST_EBB
        self._ebb_at = sent + int(self.requests) + FIRST_EBB
        return True

    @property
    def _share(self) -> float:
        """The share of what was sent lately that was refused."""
        return self._strays / max(1, self._strays + self._accepted)

    def _hear(self, sent: int) -> None:
        if self._tested is not None and not self._testing(sent):  # it has passed
            self._tested = None
            self._allow()
        accepted = max(0, sent - self._heard - 1)
        self._heard = max(self._heard, sent)
        self._accepted += accepted
        self._tolerance.answered(accepted)
        if self.strays and self._accepted >= REMEMBERED:
            if self._strays < RARE * self._accepted:
                self._begin()
            self._accepted, self._strays = self._accepted // 2, self._strays // 2

    def _testing(self, sent: int) -> bool:
        return self._tested is not None and sent - self._tested < self.requests

    def _begin(self) -> None:
        """Refusals are believed, until that is disproved anew."""
        self.strays = False
        self._cuts = 0
        self._ebb_from = None
        self._tolerance = Tolerance(LONE, ONE, CONFIRMED_LONE)

    def _allow(self) -> None:
        """Bear the share of refusals that there was so far, and a little more; once they have passed, for longer."""
        share = min(MOST_ALLOWED, TIMES * self._share + MORE)
        self.factor, self.requests = FASTER / (1.0 - share), TEST / (1.0 - share)
        self._tolerance.forgiven = share / (1.0 - share)
        self._tolerance.confirmed = (2.0 if self._tested is None else 1.0) * CONFIRMED / (1.0 - share)
