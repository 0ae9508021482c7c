"""When `flatout.policies.search` tries a little more, and how much more.

Every look upward ends in a refusal where nothing has changed. So the climb is fast, since little is lost by it; and
what was found stands for hundreds of calls, for a refusal in a thousand of them to be bearable.
"""

from __future__ import annotations

from typing import Literal

Phase = Literal["climb", "measure", "refine", "settled"]

GROWTH: dict[Phase, float] = {"climb": 1.5, "measure": 1.35}
INTERVAL: dict[Phase, tuple[float, float]] = {
    "climb": (0.3, 2.0),
    "measure": (0.3, 4.0),
    "refine": (1.0, 6.0),
    "settled": (12.0, 40.0),
}
WIDER: dict[Phase, float] = {"refine": 1.5, "settled": 2.0}
LONGEST_STAND = 60.0
"""A rate stands for so many seconds, and for so many requests, before more is tried; but no longer than this."""

CLIMBED, LONGEST_CLIMB = 30.0, 1.2
"""Each step of the climb takes a second more for so many requests sent, but never more seconds than that. For what is
lent by a deep bucket is refused in the end, as many at once as are on their way by then."""

REST, SHORTEST_REST, LONGEST_REST = 700.0, 45.0, 900.0
"""The calls after a refusal before more is tried, once the rate is found, and the seconds they take. A look upward ends
in a refusal; so there is one in 700 requests at most, half of the three in a thousand that are held to be bearable."""

SOON, PATIENCE = 10.0, 4.0
"""The first looks may come sooner, for what was found may have been chance: after so many calls at the least, divided
by the calls in a second, so that they are few of what is sent in ten minutes; and after so many times more each time
that one is refused."""

FIRST_STEP, REFINED_STEP, SOON_STEP, BOLD_STEP, LAST_STEP = 0.005, 0.04, 0.08, 0.2, 0.5
"""By how much more is tried: first, while the rate is being found, when it is tried soon, where the rate is hardly
known; and at most, for each step is twice the last."""

PROVEN = 5.0
"""Seconds for which a rate that is tried must have been borne to be clean: a bucket lends a lot for a while."""


class Ascent:
    """The way up.

    Attributes:
        phase: climbing, measuring after a first refusal, refining, or settled just below a limit.
        clean: the last rate that was borne since the last refusal, in requests per second; 0 when there is none.
        step: by which share more is tried next.
        calls: how many are made before more is tried, once settled.
    """

    __slots__ = ("_at", "_patience", "_sent_then", "_since", "calls", "clean", "phase", "step")

    def __init__(self, phase: Phase, rate: float, now: float) -> None:
        self.phase: Phase = phase
        self.clean = 0.0
        self.step = REFINED_STEP
        self.calls = REST
        self._patience = 0.0
        self._since, self._sent_then = now, 0
        self._at = now + self._interval(rate, 0)

    @property
    def tries(self) -> bool:
        """Whether more is being tried than was found: then a refusal is what it ends with."""
        return self.phase == "settled" and self.clean > 0.0

    def restart(self, phase: Phase, rate: float, sent: int, now: float) -> None:
        """Go up from another rate."""
        self.phase, self.clean, self.step = phase, 0.0, REFINED_STEP
        self.rest(rate, sent, now, again=True)

    def settle(self, rate: float, sent: int, now: float, *, calls: float | None = None, proved: bool = False) -> None:
        """Stay at a rate, for so many calls; by default as many as looks upward have been in vain, or as for a limit
        that is proved.
        """
        self.phase, self.clean = "settled", 0.0
        if proved:
            self._patience = REST
        elif not self._patience:
            self._patience = max(SOON, REST / rate)
        self.calls = min(REST, self._patience if calls is None else calls)
        self.step = FIRST_STEP if self.calls >= REST else SOON_STEP
        share = self.calls / REST
        longest = max(LONGEST_STAND, LONGEST_REST * share)
        self._rest(sent, now, min(longest, max(SHORTEST_REST * share, self.calls / rate)), again=True)

    def settle_again(self, rate: float, sent: int, now: float) -> None:
        """Stay at a rate, for a look upward was refused."""
        step, calls = self.step, self.calls
        self._patience = min(REST, self._patience * PATIENCE)
        self.settle(rate, sent, now, calls=calls * PATIENCE)
        self.step = max(FIRST_STEP, step / 8.0)  # a quarter of what was too much, for it was doubled since

    def rest(self, rate: float, sent: int, now: float, *, calls: float = 0.0, again: bool = False) -> None:
        """Try no more for a while, or for so many calls."""
        self._rest(sent, now, calls / rate if calls else self._interval(rate, sent), again=again)

    def grow(self, rate: float, sent: int, now: float) -> float:
        """The rate to go on with: a higher one, if it is time for that and what is allowed now was used."""
        if now < self._at:
            return rate
        since = self._since
        used = sent - self._sent_then >= 0.7 * rate * (now - since)
        self.rest(rate, sent, now)
        if not used:
            return rate
        if not self.tries or now - since >= PROVEN:
            self.clean = rate
        if self.phase in GROWTH:
            return rate * GROWTH[self.phase]
        step, self.step = self.step, min(LAST_STEP, self.step * WIDER[self.phase])
        return rate * (1.0 + step)

    def _rest(self, sent: int, now: float, seconds: float, *, again: bool = False) -> None:
        if again or now + seconds > self._at or now >= self._at:
            self._at = now + seconds
            self._since, self._sent_then = now, sent

    def _interval(self, rate: float, sent: int) -> float:
        seconds, calls = INTERVAL[self.phase]
        if self.phase == "settled" and self.calls < calls:
            seconds, calls = 1.0, self.calls
        if self.phase == "climb":
            seconds = min(LONGEST_CLIMB, max(seconds, sent / CLIMBED))
        return max(seconds, min(calls / rate, LONGEST_STAND))
