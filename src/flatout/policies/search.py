"""Finds the rate of a target that tells no limit: climb until it refuses, measure what it accepts, stay just below.

Between two moments at which a limit is used up, a bucket accepts exactly what it refills; so the second refusal
measures it, whatever the bucket held at the start. A provider that counts by the minute shows itself by a long wait:
then what it accepted in the last minute is its limit.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from .gcra import Gcra

START = 5.0
BURST = 0.05
BELOW = 0.985
SLOWEST = 1.0 / 60.0

WINDOWED = 3.0
"""A wait of so many seconds says that the provider counts by windows of time."""

LONGEST_REPLAY = 10.0
"""A sliding window frees itself as unevenly as it was filled: so many seconds of that are sat out at most."""

DEEPEST = 60.0
"""Seconds' worth that a bucket may hold."""

FALL, FALLS = 0.92, 3
"""A found rate that is refused at once is lowered by so much, so many times, before it is searched for anew."""

Phase = Literal["climb", "measure", "refine", "settled"]

GROWTH: dict[Phase, float] = {"climb": 1.5, "measure": 1.35, "refine": 1.06}
INTERVAL: dict[Phase, tuple[float, float]] = {
    "climb": (0.3, 2.0),
    "measure": (0.3, 4.0),
    "refine": (1.0, 10.0),
    "settled": (12.0, 40.0),
}
"""A rate stands for so many seconds, and for so many requests, before more is tried."""

LONGEST_STAND = 60.0
"""But never for more seconds than this."""

REST = (45.0, 250.0)
LONGEST_REST = 300.0
"""Likewise, after a refusal, once the rate is found."""

FEW = 10.0 / 60.0
"""Of less than so many accepted per second in the last minute nothing is concluded: there was little to accept."""

DEEPEST_CUT = 0.5
"""One refusal lowers a found rate by no more: what was accepted lately is little, too, when little was asked."""

FIRST_STEP, LAST_STEP = 0.005, 0.08
"""By how much more is tried then: the first step, and the largest after doubling."""


class RateSearch:
    """The requests per second of one target, as far as they are known by trying.

    Args:
        now: the present.
        rate: requests per second to begin with.
        found: whether that was found before, and needs to be refined alone.
    """

    __slots__ = (
        "_base",
        "_blocked",
        "_clean",
        "_cut_at",
        "_doubtful",
        "_falls",
        "_gcra",
        "_grow_at",
        "_grown_at",
        "_log",
        "_measured",
        "_phase",
        "_refused",
        "_sent",
        "_sent_then",
        "_started",
        "_step",
        "_windowed",
    )

    def __init__(self, now: float, rate: float = START, *, found: bool = False) -> None:
        self._gcra = Gcra(rate, max(BURST, 1.0 / rate), now - 1.0)
        self._phase: Phase = "refine" if found else "climb"
        self._windowed = False
        self._sent = 0
        self._refused = 0
        self._falls = 0
        self._doubtful = False  # whether what was measured may be too little: a small bucket overflowed meanwhile
        self._measured = 0.0  # what was accepted between the last two refusals, per second
        self._clean = 0.0  # the last rate that was used for a whole interval without a refusal
        self._started = now
        self._base = (now, 0, 0)  # when the limit was last used up, and what was sent and refused by then
        self._cut_at = now
        self._blocked: tuple[float, float] | None = None  # since when nothing is accepted, and the rate before it
        self._step = FIRST_STEP
        self._log: deque[tuple[float, int]] = deque([(now, 0)])
        self._grown_at, self._sent_then = now, 0
        self._grow_at = now + self._interval()

    def __repr__(self) -> str:
        return f"RateSearch({self.rate:.4g}/s, {self._phase}{', by windows' if self._windowed else ''})"

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self._gcra.rate

    @property
    def found(self) -> bool:
        """Whether the target's limit was met, so that the rate means something."""
        return self._refused > 0 and self._phase in ("refine", "settled")

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
        if now - self._log[-1][0] >= 1.0:
            self._log.append((now, self._sent - self._refused))
            while now - self._log[0][0] > 61.0 and len(self._log) > 2:
                self._log.popleft()
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
        self._blocked = None
        if sent - since >= WINDOWED and rate >= FEW and not self._windowed:
            self._windowed = True
            self._settle(rate * BELOW, now)

    def refused(self, mark: int, sent: float, retry_after: float | None, now: float) -> float:
        """A request was refused; one cut answers all refusals of requests sent before it.

        Args:
            mark: `mark` after the request went.
            sent: when it went.
            retry_after: seconds that the provider asked to wait.
            now: the present.

        Returns:
            Seconds to wait beyond that.
        """
        self._refused += 1
        if sent < self._cut_at:
            return 0.0
        self._cut_at = now
        accepted = mark - self._base[1] - (self._refused - self._base[2])
        if self._blocked is not None and accepted <= 0:
            return 0.0  # nothing was let through since the last cut: that calls for patience, not for a lower rate
        self._blocked = self._blocked or (sent, self._lately(now))
        rate = self._lately(now)
        if self._windowed:
            self._settle(max(rate * BELOW, self.rate * DEEPEST_CUT), now)
            return 0.0
        if retry_after is not None and retry_after >= WINDOWED and rate >= FEW:
            self._windowed = True
            self._settle(max(rate, 1.0 / retry_after) * BELOW, now)
            return min(LONGEST_REPLAY, sent - self._started)
        at, self._base = self._base[0], (sent, mark, self._refused)
        self._cut(accepted, at, sent, now)
        return 0.0

    def _cut(self, accepted: int, at: float, sent: float, now: float) -> None:
        """Lower the rate, by what was accepted since the limit was last used up."""
        measured = accepted / max(1e-9, sent - at)
        if self._phase == "climb" and accepted <= 0:  # others had used it up: that says nothing of the limit
            self._rest(now, self._interval(), again=True)
        elif self._phase == "climb":  # what a full bucket of a minute would refill, but not absurdly little
            self._restart(max(accepted / (sent - at + DEEPEST), self.rate / 8.0), now)
        elif not self._clean and self._measured:
            self._settle(self._measured * BELOW, now)  # what seemed to be borne was lent by a deep bucket
            if self._doubtful:
                self._refine(now)
        elif not self._clean and self._phase == "settled" and self._falls < FALLS:
            falls = self._falls + 1
            self._settle(self.rate * FALL, now)
            self._falls = falls
        elif not self._clean:  # refused at a rate that was never borne: far too fast
            borne = measured * BELOW if accepted >= 10 and sent - at >= 1.0 else 0.0
            self._restart(max(borne, self.rate * (0.7 if self._phase == "settled" else 0.5)), now)
        elif self._phase == "settled":
            seconds = max(12.0, 40.0 / self.rate)
            lent = 1.0 / seconds  # a small bucket's second went beyond what it refills
            rate = min(self._clean, self._lately(now, seconds) * (1.0 - lent)) * 0.99
            self._settle(max(rate, self.rate * DEEPEST_CUT), now)
        else:  # a small bucket bears the last rate but one; a deep one will refuse it soon
            first = self._phase == "measure"
            self._settle(self._clean, now)
            self._measured = measured if accepted >= 10 else 0.0
            if first:
                self._refine(now)
                self._doubtful = True

    def _refine(self, now: float) -> None:
        self._doubtful = False
        self._phase = "refine"
        self._rest(now, self._interval(), again=True)

    def _restart(self, rate: float, now: float) -> None:
        self._phase = "measure"
        self._clean = self._measured = 0.0
        self._set(rate, now)
        self._rest(now, self._interval(), again=True)

    def _settle(self, rate: float, now: float) -> None:
        self._phase = "settled"
        self._clean = self._measured = 0.0
        self._falls = 0
        self._step = FIRST_STEP
        self._set(rate, now)
        seconds, calls = REST
        self._rest(now, min(LONGEST_REST, max(seconds, calls / self.rate)))

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
        else:
            self._set(rate * GROWTH[self._phase], now)

    def _rest(self, now: float, seconds: float, *, again: bool = False) -> None:
        """Try no more for some seconds."""
        if again or now + seconds > self._grow_at or now >= self._grow_at:
            self._grow_at = now + seconds
            self._grown_at, self._sent_then = now, self._sent

    def _interval(self) -> float:
        seconds, calls = INTERVAL[self._phase]
        return max(seconds, min(calls / self.rate, LONGEST_STAND))

    def _lately(self, now: float, seconds: float = 60.0) -> float:
        """Requests accepted per second in the last seconds, 60 at most."""
        before = self._log[0][1]
        for at, accepted in self._log:
            if at > now - seconds:
                break
            before = accepted
        return (self._sent - self._refused - before) / seconds

    def _set(self, rate: float, now: float) -> None:
        self._gcra.set_rate(max(rate, SLOWEST), now)
        self._gcra.burst = max(BURST, 1.0 / self._gcra.rate)
