"""Finds the rate of a target that tells no limit: climb until it refuses, measure what it accepts, stay just below.

What is accepted between refusals proves what a bucket refills, and how deep it may be: see `flatout.policies.evidence`.
A provider that counts by the minute shows itself by a long wait. Refusals that are no limit's are told from those that
are by `flatout.policies.strays`; when more is tried, and how much more, is decided by `flatout.policies.ascent`.
"""

from __future__ import annotations

import math

from .accepted import MINUTE, Accepted
from .ascent import BOLD_STEP, SOON, Ascent, Phase
from .evidence import Bounds, Evidence
from .gcra import Gcra
from .strays import EBB, FASTER, Doubt

START = 5.0
FIRST_GAP = 1.05
"""Seconds between the first request and the second: sixty a minute may be enforced as one a second, and the first opens
a connection and arrives late by that."""

SIXTY = 1.0
"""Requests per second to go on with if the third is refused. It is the one usual limit between what two accepted ones
and a refused one prove."""

BURST = 0.05
BELOW = 0.985
SLOWEST, FASTEST = 1.0 / 60.0, 1e5

LONGEST_DEBT = 60.0
"""Seconds that what was sent at a higher rate may be made up for at a lower one: no limit remembers more."""

WINDOWED = 3.0
"""A wait of so many seconds says that the provider counts by windows of time."""

SHALLOW = 0.92
"""The share of what a bucket of one second would refill to go on with after the first refusal."""

LONGEST_LOOK = 2.0
"""Seconds after which one request goes to see whether a refusal without a time still holds."""
PATIENT = 10
"""Of so many requests accepted before, a second refusal running says that a minute is used up."""

CERTAIN, UNUSED = 30, 0.9
"""Of fewer accepted in a minute, two refusals running may have been chance: it takes three, and more is tried soon.
Where less than this share of a minute's limit was accepted, that limit did not refuse."""

FEW = 10.0 / 60.0
"""Of less than so many accepted per second in the last minute nothing is concluded: there was little to accept."""

CLOSE = 1.08
"""When all depths that a bucket may have allow rates no further apart than this, the rate is known."""

WIDE = 4.0
"""When they are no further apart than this, a bucket that is not shallow is taken for one that holds a minute's worth,
as those of the big providers do. That costs no more refusals; if it was wrong, more is tried in time."""

PROOF = 3
"""So many refusals more, if they are half of what was sent before the first was heard of, prove that it was the
limit's."""

EXPECTED = 1.01
"""Above this share of what was known to be borne, a refusal is no surprise."""

DEEPEST_CUT, DEEPEST_FALL = 0.5, 0.25
"""One refusal lowers a found rate to no less than this: what was accepted lately is little, too, when little was asked;
and one that is not found yet."""

AT_ONCE, HASTY = 5, 0.7
"""A found rate that is refused again before so many were accepted falls to this share of itself at least."""

HELD = 20.0
"""So many requests after a refusal that is borne, before more is tried: a limit would refuse another of them."""


class RateSearch:
    """The requests per second of one target, as far as they are known by trying.

    Args:
        now: the present.
        rate: requests per second to begin with.
        found: whether that was found before, and needs to be refined alone.
        ceiling: the most that limits allow that are known, whatever is found.
    """

    __slots__ = (
        "_ascent",
        "_base",
        "_blocked",
        "_borne",
        "_ceiling",
        "_cut_at",
        "_doubt",
        "_evidence",
        "_exposed",
        "_followers",
        "_full",
        "_gcra",
        "_limit",
        "_log",
        "_looks",
        "_proved",
        "_refused",
        "_safe",
        "_sent",
        "_started",
        "_untested",
        "_windowed",
    )

    def __init__(self, now: float, rate: float = START, *, found: bool = False, ceiling: float = math.inf) -> None:
        self._gcra = Gcra(rate, max(BURST, 1.0 / rate), now - 1.0)
        self._ascent = Ascent("refine" if found else "climb", rate, now)
        self._log = Accepted(now)
        self._evidence = Evidence(self._log)
        self._doubt = Doubt()
        self._ceiling = ceiling
        self._sent = 0
        self._refused = 0
        self._started = now
        self._base = (now, 0, 0)  # when the limit was last used up, and what was sent and refused by then
        self._cut_at = now
        self._followers = self._exposed = 0  # refusals of what was sent before the last cut; and how many there may be
        self._proved = False  # whether so many of them were refused that it was the limit
        self._full: float | None = None  # the rate to come back to after an ebb
        self._borne: tuple[int, float] | None = None  # accepted by the last one that its call bore alone, and when
        self._untested: tuple[Phase, float, float] = ("climb", rate, 0.0)  # how it was before refusals were tested
        self._safe = 0.0  # the rate that was known to be borne, by the last refusal
        self._blocked: tuple[float, float] | None = None  # since when nothing is accepted, and the rate before it
        self._looks = 0  # how often running a single request that went to see was refused
        self._windowed = False
        self._limit = 0.0  # requests per second that such a window allows

    def __repr__(self) -> str:
        return f"RateSearch({self.rate:.4g}/s, {self._ascent.phase}{', by windows' * self._windowed})"

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self._gcra.rate

    @property
    def found(self) -> bool:
        """Whether the target's limit was met."""
        return self._refused > 0 and self._ascent.phase in ("refine", "settled")

    @property
    def mark(self) -> int:
        """Requests sent so far; hand it back with `refused`."""
        return self._sent

    def ready_at(self) -> float:
        """When the next request may go."""
        return self._gcra.ready_at(1.0)

    def take(self, now: float) -> None:
        """A request goes."""
        self._gcra.take(1.0, now)
        self._sent += 1
        if self._sent == 1 and self._ascent.phase == "climb":
            self._started = now
            self._base = (now, 0, 0)
            self._gcra.tat = now + max(FIRST_GAP, self._gcra.burst)
            self._ascent.rest(self.rate, 1, now + FIRST_GAP, again=True)
        self._log.note(now, self._sent - self._refused)
        self._set(self._ascent.grow(self.rate, self._sent, now), now)
        if self._doubt.strays or self._full is not None:
            self._ebb(now)

    def resume(self, at: float) -> None:
        """Nothing goes before an instant."""
        self._gcra.tat = max(self._gcra.tat, at + self._gcra.burst)
        self._ascent.rest(self.rate, self._sent, at)

    def begin(self, now: float) -> None:
        """Go on from now, whatever `resume` said."""
        self._gcra.tat = now + self._gcra.burst

    def accepted(self, sent: float, now: float) -> None:
        """A request was answered."""
        if self._blocked is None or sent <= self._cut_at:
            return
        since, rate = self._blocked
        self._blocked, looks, self._looks = None, self._looks, 0
        if looks and sent - since >= WINDOWED and rate * MINUTE >= CERTAIN and not self._windowed:
            self._settle_by_windows(rate, now)
            self.resume(sent + self._log.replay(sent, self.rate))

    def alone(self, mark: int, sent: float, retry_after: float | None, now: float) -> float | None:
        """A request was refused: the seconds that it is to wait by itself; None when that concerns the rate, and
        `refused` is to hear of it.

        Args:
            mark: `mark` after the request went.
            sent: when it went.
            retry_after: seconds that the provider asked to wait.
            now: the present.
        """
        if not mark or sent < self._cut_at:
            return None
        if not self._doubt.strays and (self._windowed or self._ascent.tries):
            return None
        wait = self._doubt.alone(mark, retry_after)
        if wait is not None:
            self._refused += 1
            if not self._doubt.strays:
                self._borne = (mark - self._refused, sent)
                self._ascent.rest(self.rate, self._sent, now, calls=HELD)
        return wait

    def refused(self, mark: int, sent: float, retry_after: float | None, now: float) -> float:
        """A request was refused; one cut answers all refusals of requests sent before it. Arguments as for `alone`.

        Returns:
            Seconds to wait; never fewer than the provider asked for.
        """
        told = retry_after or 0.0
        if not mark:  # it went before there was a search
            return told
        self._refused += 1
        if sent < self._cut_at:
            self._followers += 1
            self._proved = self._proved or self._followers >= max(PROOF, self._exposed / 2)
            return told
        self._cut_at, self._followers, self._exposed = now, 0, self._sent - mark
        self._believe(mark, sent, now)
        accepted = mark - self._base[1] - (self._refused - self._base[2])
        if self._blocked is not None and accepted <= 0:  # patience is called for, not a lower rate
            self._looks += 1
            if self._tests(self.rate, mark, sent, now):
                return told
            if retry_after is None and not self._windowed:
                return self._minute_s_end(now)
            return told + self._looks * min(told, WINDOWED)  # where refusals are charged, what is told is too little
        possible = self._evidence.refused(mark - self._refused, sent)
        if self._evidence.disproved and not self._windowed:
            self._doubt.disproved()
        if not self._ascent.tries and self._tests(max(self.rate, possible[0].most), mark, sent, now):
            return told
        return self._conclude(possible, accepted, mark, sent, retry_after, now)

    def _believe(self, mark: int, sent: float, now: float) -> None:
        """A refusal is the limit's, and so was one that was borne shortly before; if it was heard of in its order, for
        evidence goes by the order in which requests were sent.
        """
        self._full = None
        if self._doubt.believed(mark):
            self._ascent.phase, rate, self._ascent.clean = self._untested
            self._set(rate, now)
        borne, self._borne = self._borne, None
        if borne is not None and borne[1] < sent:
            self._evidence.refused(*borne)

    def _ebb(self, now: float) -> None:
        """Go at half the pace for a moment, where strays are borne: see `flatout.policies.strays.EBB`."""
        ebbs = self._doubt.ebbs(self._sent)
        if ebbs and self._full is None:
            self._full = self.rate
            self._set(self.rate / 2.0, now)
            self._ascent.rest(self.rate, self._sent, now, calls=EBB, again=True)
        elif not ebbs and self._full is not None:
            rate, self._full = self._full, None
            if self._doubt.strays:
                self._set(rate, now)
            else:  # it was a limit
                self._restart("refine", self.rate, now)

    def _tests(self, most: float, mark: int, sent: float, now: float) -> bool:
        """Where cut upon cut has not made an end of refusals: send so much that a limit would show itself."""
        if most * FASTER > self._ceiling or not self._doubt.cut(mark, self._refused, proved=self._proved):
            return False
        self._untested = (self._ascent.phase, self.rate, self._ascent.clean)
        self._windowed, self._blocked, self._looks = False, None, 0
        self._base = (sent, mark, self._refused)
        self._restart("climb", max(START, most * self._doubt.factor), now)
        self._ascent.rest(self.rate, self._sent, now, calls=self._doubt.requests)
        return True

    def _conclude(
        self,
        possible: list[Bounds],
        accepted: int,
        mark: int,
        sent: float,
        retry_after: float | None,
        now: float,
    ) -> float:
        """Lower the rate to what is possible. Returns the seconds to wait."""
        told = retry_after or 0.0
        rate = self._log.rate(mark - self._refused, sent)
        self._blocked = self._blocked or (sent, rate)
        if self._windowed and retry_after is None and rate < UNUSED * self._limit:
            self._windowed = False  # it is not the minute that refuses
            self._ascent.phase, self._ascent.clean = "settled", 0.0
        if self._windowed:
            return self._used_up(mark, rate, sent, retry_after, now)
        if told >= WINDOWED and rate >= FEW:
            window = min(MINUTE, sent - self._started + told)  # a first one ends so long after the first request
            few = rate * MINUTE < CERTAIN
            self._settle_by_windows(max(rate * MINUTE / window, 1.0 / told), now, SOON if few else None)
            return told + (self._log.replay(now + told, self.rate) if window > MINUTE / 2.0 else 0.0)
        at, self._base = self._base[0], (sent, mark, self._refused)
        rate, climbed = self.rate, self._ascent.phase == "climb"
        self._cut(possible, accepted, sent - at, told, now)
        if retry_after is not None or not climbed:
            return told
        # What any bucket refills by then, unless it holds more than a minute's worth.
        return min(LONGEST_LOOK, 1.1 / possible[-1].least) if accepted >= PATIENT else 2.0 / rate

    def _cut(self, possible: list[Bounds], accepted: int, seconds: float, told: float, now: float) -> None:
        """Lower the rate, by what was accepted since the limit was last used up."""
        ascent, rate = self._ascent, self.rate
        settled, clean = ascent.phase == "settled", ascent.clean
        least, most, deepest = possible[0].least, min(possible[0].most, rate), possible[-1].least
        if ascent.phase == "climb" and accepted <= 0:  # others had used it up: that says nothing of the limit
            ascent.rest(rate, self._sent, now, again=True)
            return
        if ascent.phase == "climb":
            self._restart("refine", _guess(accepted, seconds, told) if accepted < 3 else SHALLOW * least, now)
        elif ascent.tries:
            self._set(max(min(clean, most * BELOW), rate * DEEPEST_CUT), now)
            ascent.settle_again(self.rate, self._sent, now)
        elif clean:
            self._settle(min(clean, most * BELOW), now)
        elif most <= CLOSE * deepest:
            unexpected = settled and rate <= self._safe * EXPECTED  # it may have been a refusal without a reason
            lower = (deepest + most) / 2.0 * BELOW
            self._settle(max(lower, rate * DEEPEST_CUT) if settled else lower, now, SOON if unexpected else None)
        elif most < WIDE * deepest and self._sent - self._refused >= CERTAIN:
            self._settle(deepest * BELOW, now)  # a bucket that is not shallow holds a minute's worth in all likelihood
            ascent.step = BOLD_STEP
        else:
            self._restart("measure", max((deepest * most) ** 0.5, rate * DEEPEST_FALL), now)
        if settled and ascent.phase == "settled" and accepted < AT_ONCE:
            self._set(min(self.rate, HASTY * rate), now)
        self._safe = deepest

    def _used_up(self, mark: int, rate: float, sent: float, retry_after: float | None, now: float) -> float:
        """A window is used up. Returns the seconds until it is over."""
        if retry_after is None:
            limit = min(rate, self._limit * 1.02)
            wait = self._log.since(mark - self._refused - limit * MINUTE) + MINUTE - now
        else:  # half a second, because seconds are told as whole ones, rounded up
            limit = self._log.rate(mark - self._refused, sent, MINUTE - max(0.0, retry_after - 0.5)) * (
                1.0 - max(0.0, retry_after - 0.5) / MINUTE
            )
            wait = retry_after
        self._limit = limit
        self._settle(max(limit * BELOW, self.rate * DEEPEST_CUT), now)
        return max(0.0, wait)

    def _minute_s_end(self, now: float) -> float:
        """Seconds until the minute that began with the first request is over, if that many were accepted in it."""
        wait = self._started + MINUTE - now
        accepted = self._sent - self._refused
        if wait <= 0 or accepted < PATIENT:
            return 0.0
        if accepted < CERTAIN and self._looks < 2:
            return LONGEST_LOOK
        rate = self._blocked[1] if self._blocked is not None else self.rate
        self._settle_by_windows(rate, now, None if accepted >= CERTAIN else SOON)
        return wait + self._log.replay(now + wait, self.rate)

    def _settle_by_windows(self, limit: float, now: float, calls: float | None = None) -> None:
        self._windowed, self._limit = True, limit
        self._settle(limit * BELOW, now, calls)

    def _settle(self, rate: float, now: float, calls: float | None = None) -> None:
        self._set(rate, now)
        self._ascent.settle(self.rate, self._sent, now, calls=calls, proved=self._windowed or self._proved)

    def _restart(self, phase: Phase, rate: float, now: float) -> None:
        self._set(rate, now)
        self._ascent.restart(phase, self.rate, self._sent, now)

    def _set(self, rate: float, now: float) -> None:
        gcra = self._gcra
        if rate != gcra.rate:
            gcra.set_rate(min(max(rate, SLOWEST), FASTEST), now)
            gcra.burst = max(BURST, 1.0 / gcra.rate)
            gcra.tat = min(gcra.tat, now + LONGEST_DEBT + gcra.burst)


def _guess(accepted: int, seconds: float, told: float) -> float:
    """The rate to go on with after a refusal before which next to nothing was accepted."""
    least = accepted / max(1e-9, seconds + max(told, seconds))
    return max(least, SIXTY * BELOW) if accepted == 2 else least
