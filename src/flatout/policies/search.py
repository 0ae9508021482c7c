"""Finds the rate of a target that tells no limit: climb until it refuses, measure what it accepts, stay just below.

What is accepted between refusals proves what a bucket refills, and how deep it may be: see `flatout.policies.evidence`.
A provider that counts by the minute shows itself by a long wait.
"""

from __future__ import annotations

from typing import Literal

from .accepted import MINUTE, Accepted
from .evidence import Bounds, Evidence
from .gcra import Gcra
from .strays import Uninvited

START = 5.0
FIRST_GAP = 1.0
"""Seconds between the first request and the second: sixty a minute may be enforced as one a second."""

BURST = 0.05
BELOW = 0.985
SLOWEST = 1.0 / 60.0

WINDOWED = 3.0
"""A wait of so many seconds says that the provider counts by windows of time."""

Phase = Literal["climb", "measure", "refine", "settled"]

GROWTH: dict[Phase, float] = {"climb": 1.5, "measure": 1.35, "refine": 1.04}
INTERVAL: dict[Phase, tuple[float, float]] = {
    "climb": (0.3, 2.0),
    "measure": (0.3, 4.0),
    "refine": (1.0, 6.0),
    "settled": (12.0, 40.0),
}
LONGEST_STAND = 60.0
"""A rate stands for so many seconds, and for so many requests, before more is tried; but no longer than this."""

CLIMBED, LONGEST_CLIMB = 30.0, 2.0
"""Each step of the climb takes a second more for so many requests sent, but never more seconds than that. For what is
lent by a deep bucket is refused in the end, as many at once as are on their way by then."""

SHALLOW = 0.92
"""The share of what a bucket of one second would refill to go on with after the first refusal."""

LONGEST_LOOK = 2.0
"""Seconds after which one request goes to see whether a refusal without a time still holds."""
PATIENT = 10
"""Of so many requests accepted before, a second refusal running says that a minute is used up."""

REST, SHORTEST_REST, LONGEST_REST = 700.0, 45.0, 900.0
"""Likewise the calls after a refusal, once the rate is found, and the seconds they take. Where nothing has changed,
a search upward ends in a refusal; so there is one in 700 requests at most, half of the three in a thousand that are
held to be bearable."""

SOON, PATIENCE = 10.0, 4.0
"""But after a refusal that no look upward brought about, one is tried after so few; and after so many times more, each
time that it is refused. So a refusal without a reason costs little, and a real limit few looks."""

CERTAIN, UNUSED = 30, 0.9
"""Of fewer accepted in a minute, two refusals running may have been chance: more is tried soon. Where less than this
share of a minute's limit was accepted, that limit did not refuse."""

FEW = 10.0 / 60.0
"""Of less than so many accepted per second in the last minute nothing is concluded: there was little to accept."""

CLOSE = 1.08
"""When all depths that a bucket may have allow rates no further apart than this, the rate is known."""

WIDE = 4.0
"""When they are no further apart than this, a bucket that is not shallow is taken for one that holds a minute's worth,
as those of the big providers do. That costs no more refusals; if it was wrong, more is tried after `REST` calls."""

EXPECTED = 1.01
"""Above this share of what was known to be borne, a refusal is no surprise."""

DEEPEST_CUT, DEEPEST_FALL = 0.5, 0.25
"""One refusal lowers a found rate to no less than this: what was accepted lately is little, too, when little was asked;
and one that is not found yet."""

FIRST_STEP, SOON_STEP, BOLD, LAST_STEP = 0.005, 0.08, 0.2, 0.5
"""By how much more is tried then: the first step, the first when it is tried soon, the first where the rate is hardly
known (and after it, it is soon tried again if refused), and the largest."""


class RateSearch:
    """The requests per second of one target, as far as they are known by trying.

    Args:
        now: the present.
        rate: requests per second to begin with.
        found: whether that was found before, and needs to be refined alone.

    Attributes:
        strays: whether refusals come that have nothing to do with the rate: then one alone says nothing, see `stray`.
    """

    __slots__ = (
        "_base",
        "_blocked",
        "_calls",
        "_clean",
        "_cut_at",
        "_evidence",
        "_gcra",
        "_grow_at",
        "_grown_at",
        "_limit",
        "_log",
        "_looks",
        "_phase",
        "_refused",
        "_safe",
        "_sent",
        "_sent_then",
        "_started",
        "_step",
        "_uninvited",
        "_windowed",
        "strays",
    )

    def __init__(self, now: float, rate: float = START, *, found: bool = False) -> None:
        self._gcra = Gcra(rate, max(BURST, 1.0 / rate), now - 1.0)
        self._phase: Phase = "refine" if found else "climb"
        self._windowed = False
        self._limit = 0.0  # requests per second that such a window allows
        self._sent = 0
        self._refused = 0
        self._uninvited = Uninvited()
        self.strays = False
        self._calls = REST  # that are made before more is tried
        self._safe = 0.0  # the rate that was known to be borne, by the last refusal
        self._clean = 0.0  # the last rate that was used for a whole interval without a refusal
        self._started = now
        self._base = (now, 0, 0)  # when the limit was last used up, and what was sent and refused by then
        self._cut_at = now
        self._blocked: tuple[float, float] | None = None  # since when nothing is accepted, and the rate before it
        self._looks = 0  # how often running a single request that went to see was refused
        self._step = FIRST_STEP
        self._log = Accepted(now)
        self._evidence = Evidence(self._log)
        self._grown_at, self._sent_then = now, 0
        self._grow_at = now + self._interval()

    def __repr__(self) -> str:
        return f"RateSearch({self.rate:.4g}/s, {self._phase}{', by windows' * self._windowed})"

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self._gcra.rate

    @property
    def found(self) -> bool:
        """Whether the target's limit was met."""
        return self._refused > 0 and self._phase in ("refine", "settled")

    @property
    def mark(self) -> int:
        """Requests sent so far; hand it back with `refused`."""
        return self._sent

    @property
    def _unexpected(self) -> bool:
        """Whether a refusal now is against all that is known."""
        return self._phase == "settled" and not self._clean and self.rate <= self._safe * EXPECTED

    def ready_at(self) -> float:
        """When the next request may go."""
        return self._gcra.ready_at(1.0)

    def take(self, now: float) -> None:
        """A request goes."""
        self._gcra.take(1.0, now)
        self._sent += 1
        if self._sent == 1 and self._phase == "climb":
            self._started = now
            self._base = (now, 0, 0)
            self._gcra.tat = now + max(FIRST_GAP, self._gcra.burst)
            self._rest(now + FIRST_GAP, self._interval(), again=True)
        self._log.note(now, self._sent - self._refused)
        if now >= self._grow_at:
            self._grow(now)

    def resume(self, at: float) -> None:
        """Nothing goes before an instant."""
        self._gcra.tat = max(self._gcra.tat, at + self._gcra.burst)
        self._rest(at, self._interval())

    def begin(self, now: float) -> None:
        """Go on from now, whatever `resume` said."""
        self._gcra.tat = now + self._gcra.burst

    def accepted(self, sent: float, now: float) -> None:
        """A request was answered."""
        if self._blocked is None or sent <= self._cut_at:
            return
        since, rate = self._blocked
        self._blocked, looks, self._looks = None, self._looks, 0
        if looks and sent - since >= WINDOWED and rate >= FEW and not self._windowed:
            self._windowed, self._limit = True, rate
            self._settle(rate * BELOW, now)
            self.resume(sent + self._log.replay(sent, self.rate))

    def stray(self) -> None:
        """A request was refused, and that says nothing of the rate."""
        self._refused += 1

    def refused(self, mark: int, sent: float, retry_after: float | None, now: float) -> float:
        """A request was refused; one cut answers all refusals of requests sent before it.

        Args:
            mark: `mark` after the request went.
            sent: when it went.
            retry_after: seconds that the provider asked to wait.
            now: the present.

        Returns:
            Seconds to wait; never fewer than the provider asked for.
        """
        self._refused += 1
        told = retry_after or 0.0
        if sent < self._cut_at:
            return told
        self._cut_at = now
        accepted = mark - self._base[1] - (self._refused - self._base[2])
        if self._blocked is not None and accepted <= 0:  # patience is called for, not a lower rate
            self._looks += 1
            if retry_after is None and not self._windowed:
                return self._minute_s_end(now)
            return told + self._looks * min(told, WINDOWED)  # where refusals are charged, what is told is too little
        possible = self._evidence.refused(mark - self._refused, sent)
        if (self._unexpected or self._evidence.disproved) and self._uninvited.are_strays(mark, self._refused):
            self.strays, self._windowed, self._blocked, self._uninvited = True, False, None, Uninvited()
            self._base = (sent, mark, self._refused)
            self._restart("climb", self.rate, now)
            return told
        rate = self._log.rate(mark - self._refused, sent)
        self._blocked = self._blocked or (sent, rate)
        if self._windowed and retry_after is None and rate < UNUSED * self._limit:
            self._windowed, self._phase = False, "settled"  # it is not the minute that refuses
            self._clean = 0.0
        if self._windowed:
            return self._used_up(mark, rate, sent, retry_after, now)
        if told >= WINDOWED and rate >= FEW:
            self._windowed, self._limit = True, max(rate, 1.0 / told)
            self._settle(self._limit * BELOW, now)
            return told + self._log.replay(now + told, self.rate)
        at, self._base = self._base[0], (sent, mark, self._refused)
        rate = self.rate
        climbed = self._phase == "climb"
        self._cut(possible, accepted, sent - at, told, now)
        if retry_after is not None or not climbed:
            return told
        # What any bucket refills by then, unless it holds more than a minute's worth.
        return min(LONGEST_LOOK, 1.1 / possible[-1].least) if accepted >= PATIENT else 2.0 / rate

    def _cut(self, possible: list[Bounds], accepted: int, seconds: float, told: float, now: float) -> None:
        """Lower the rate, by what was accepted since the limit was last used up."""
        if self._phase == "climb" and accepted <= 0:  # others had used it up: that says nothing of the limit
            self._rest(now, self._interval(), again=True)
            return
        least, most = possible[0].least, min(possible[0].most, self.rate)
        deepest = possible[-1].least
        if self._phase == "climb":
            rate = self._guess(accepted, seconds, told) if accepted < 3 else SHALLOW * least
            self._restart("refine", rate, now)
        elif self._phase == "settled" and self._clean:
            step, calls = self._step, self._calls if self._step <= BOLD else SOON  # the limit is anywhere in between
            self._settle(max(min(self._clean, most * BELOW), self.rate * DEEPEST_CUT), now, calls * PATIENCE)
            self._step = max(FIRST_STEP, step / 8.0)  # a quarter of what was too much, for it was doubled since
        elif self._clean:
            self._settle(min(self._clean, most * BELOW), now)
        elif most <= CLOSE * deepest:
            calls = SOON if self._unexpected else REST  # it may have been a refusal without a reason
            rate = min(self.rate, (deepest + most) / 2.0) * BELOW
            self._settle(max(rate, self.rate * DEEPEST_CUT) if self._phase == "settled" else rate, now, calls)
        elif most < WIDE * deepest and self._sent - self._refused >= CERTAIN:
            self._settle(deepest * BELOW, now)  # a bucket that is not shallow holds a minute's worth in all likelihood
            self._step = BOLD
        else:
            self._restart("measure", max((deepest * most) ** 0.5, self.rate * DEEPEST_FALL), now)
        self._safe = deepest

    def _guess(self, accepted: int, seconds: float, told: float) -> float:
        """The rate to go on with after a refusal before which next to nothing was accepted."""
        least = accepted / max(1e-9, seconds + max(told, seconds))
        return max(least, 1.0 / FIRST_GAP) if accepted == 2 else least

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

    def _restart(self, phase: Phase, rate: float, now: float) -> None:
        self._phase = phase
        self._clean = 0.0
        self._set(rate, now)
        self._rest(now, self._interval(), again=True)

    def _settle(self, rate: float, now: float, calls: float = REST) -> None:
        self._phase = "settled"
        self._clean = 0.0
        self._step = FIRST_STEP if calls >= REST else SOON_STEP
        self._set(rate, now)
        self._calls = min(REST, calls)
        share = self._calls / REST
        longest = max(LONGEST_STAND, LONGEST_REST * share)
        self._rest(now, min(longest, max(SHORTEST_REST * share, self._calls / self.rate)), again=True)

    def _grow(self, now: float) -> None:
        """Try a little more, if what is allowed now was used."""
        used = self._sent - self._sent_then >= 0.7 * self.rate * (now - self._grown_at)
        rate = self.rate
        self._rest(now, self._interval())
        if not used:
            return
        self._clean = rate
        if self._phase == "settled":
            self._set(rate * (1.0 + self._step), now)
            self._step = min(LAST_STEP, self._step * 2.0)
            return
        self._set(rate * GROWTH[self._phase], now)

    def _rest(self, now: float, seconds: float, *, again: bool = False) -> None:
        """Try no more for some seconds."""
        if again or now + seconds > self._grow_at or now >= self._grow_at:
            self._grow_at = now + seconds
            self._grown_at, self._sent_then = now, self._sent

    def _interval(self) -> float:
        seconds, calls = INTERVAL[self._phase]
        if self._phase == "settled" and self._calls < calls:
            seconds, calls = 1.0, self._calls
        if self._phase == "climb":
            seconds = min(LONGEST_CLIMB, max(seconds, self._sent / CLIMBED))
        return max(seconds, min(calls / self.rate, LONGEST_STAND))

    def _minute_s_end(self, now: float) -> float:
        """Seconds until the minute that began with the first request is over, if that many were accepted in it."""
        wait = self._started + MINUTE - now
        if wait <= 0 or self._sent - self._refused < PATIENT:
            return 0.0
        self._windowed, self._limit = True, (self._blocked or (now, self.rate))[1]
        self._settle(self._limit * BELOW, now, REST if self._sent - self._refused >= CERTAIN else SOON)
        return wait + self._log.replay(now + wait, self.rate)

    def _set(self, rate: float, now: float) -> None:
        self._gcra.set_rate(max(rate, SLOWEST), now)
        self._gcra.burst = max(BURST, 1.0 / self._gcra.rate)
