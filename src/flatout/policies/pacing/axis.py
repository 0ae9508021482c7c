"""One limited quantity of a target: requests, tokens, input tokens or output tokens per minute; requests per day.

Its rate is known from the user, or advertised by the provider. Either way it is paced by one GCRA. What differs is how
much may go at once: as far ahead as the provider says is left, until the first refusal shows that its headers promise
more than it enforces; where it says nothing, a little is tried ahead (`ahead`). A known limit that is a share of the
provider's, or shared, is spent smoothly, but all of a day's may go at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from flatout.values import Limits

from .advertised import Quota
from .ahead import FULL, MINUTE, SHARE, SPARE, TRIED, Trial
from .gcra import BURST, Gcra, Steady

USE = 0.985
"""The share of a limit that is used: what a provider's clock and ours disagree about must fit in the rest.
``USE × (60 + BURST + MISSED) < 60``: no minute overruns."""

SLACK = 1.2
"""Above this share of the limit, what is left plus what refills until the reset is no bucket but a window."""

DAY = 86_400.0

CAUSES = {"rpm": "requests", "rpd": "requests", "tpm": "tokens", "itpm": "tokens", "otpm": "tokens"}

MakeGcra = Callable[[float, float, float], Gcra]


class Axis:
    """Paces one quantity.

    Args:
        cause: what a call that waits for it waits for; see `flatout.events.WAITS`.
        limit: units per window.
        window: seconds that the limit counts over.
        now: the present.
        known: whether the user gave the limit. Then headers may lower it, never raise it.
        burst: seconds of the rate that may go at once.
        follows: whether a known limit is spent ahead where headers tell the same, and how much is left of it.
        even: whether a limit that headers told is spent evenly: what is left goes to other processes, too.
        gcra: makes the GCRA; one that other processes share, say.

    Attributes:
        refills: whether what is left may grow all the time, for all that headers tell; False for a window.
    """

    __slots__ = (
        "_began",
        "_cautious",
        "_counted",
        "_credit",
        "_credit_until",
        "_guessed_until",
        "_heard",
        "_known",
        "_reserved",
        "_smooth",
        "_used",
        "_window",
        "cause",
        "gcra",
        "limit",
        "refills",
    )

    def __init__(
        self,
        cause: str,
        limit: float,
        window: float,
        now: float,
        *,
        known: bool,
        burst: float = BURST,
        follows: bool = False,
        even: bool = False,
        gcra: MakeGcra = Steady,
    ) -> None:
        self.cause = cause
        self.limit = limit
        self.gcra = gcra(limit * USE / window, burst, now)
        if known and gcra is Steady:  # nobody else is at it: what may go at once may do so now
            self.gcra.tat = now
        self.refills = True
        self._began = now
        self._window = window
        self._known = limit / window if known else math.inf  # per second
        self._smooth = not follows if known else even
        self._heard = self._cautious = False
        self._guessed_until = -math.inf  # when a window ends that may be a bucket, for all that headers tell
        self._reserved = self._used = 0.0  # of what was settled
        self._credit = 0.0
        self._credit_until = -math.inf
        self._counted = known and window > MINUTE and gcra is Steady  # a day's requests may go in an hour
        if self._counted:
            self._credit, self._credit_until = limit, now + window
            self.gcra.tat = self._credit_until + BURST

    def __repr__(self) -> str:
        return f"Axis({self.cause}, {self.limit:g} per {self._window:g} s, {self.gcra!r})"

    @property
    def taken(self) -> float:
        """Units admitted so far, ever. What was admitted since an instant is a difference of two of these."""
        return self.gcra.taken

    def per(self, seconds: float) -> float:
        """The limit in so many seconds."""
        return self.limit * (seconds / self._window)

    @property
    def most(self) -> float:
        """The largest cost that can ever be admitted: a minute's limit, or that of a longer window."""
        return self.limit * max(1.0, MINUTE / self._window)

    def ready_at(self, cost: float, now: float) -> float:
        """When a cost may be admitted; any time that is not after now means at once."""
        if now < self._credit_until and self._credit >= cost:
            return now
        return self.gcra.ready_at(cost)

    def take(self, cost: float, now: float) -> None:
        """Admit a cost."""
        self.gcra.taken += cost
        if now < self._credit_until and self._credit >= cost:
            self._credit -= cost
        else:
            self.gcra.take(cost, now)

    def count(self, cost: float) -> None:
        """Count a cost that was admitted before this axis was known."""
        self.gcra.taken += cost

    def settle(self, cost: float, used: float, now: float) -> None:
        """A call for which a cost was admitted turned out to use more or less."""
        self._reserved += cost
        self._used += used
        if now < self._credit_until:
            self._credit += cost - used
        else:
            self.gcra.give(cost - used)

    @property
    def trial(self) -> Trial | None:
        """The trial of how much goes ahead, from the first call on until a minute is over, or headers tell."""
        return self.gcra if isinstance(self.gcra, Trial) and self.gcra.runs else None

    def ahead(self, mark: float, cost: float, sent: float) -> float:
        """Seconds of the rate by which a call went ahead of what was earned: one that was marked, and sent, so."""
        return self.gcra.tat - (self.taken - mark + cost) / self.gcra.rate - sent

    def refused(self, now: float) -> None:
        """A call was refused for its rate: spend smoothly from now on, beginning with nothing."""
        if self._counted:
            return
        self._smooth = True
        self._credit = 0.0
        self._credit_until = -math.inf
        if self.trial is not None and (self.trial.open or self.trial.burst > BURST):
            self.trial.begin(now)
            return
        owed = max(0.0, self.gcra.tat - now - self.gcra.burst)  # an empty bucket of a minute owes nothing
        self.gcra.burst = min(self.gcra.burst, BURST)
        self.gcra.begin(max(now + owed, self._guessed_until))
        self._guessed_until = -math.inf

    def resume(self, at: float) -> None:
        """Nothing goes before an instant, and then begins with nothing saved up."""
        if not self._counted:
            self.gcra.rest(at)

    def begin(self, now: float) -> None:
        """Go on from now, with nothing saved up, whatever `resume` said."""
        if not self._counted:
            self.gcra.begin(now)

    def heard(self, quota: Quota, mark: float, sent: float, now: float, *, caution: float = 1.0) -> None:
        """Follow what an answer says.

        Args:
            quota: what it says.
            mark: `taken` when its request was sent.
            sent: when that was.
            now: the present.
            caution: how many times what is reckoned may be charged. Until it is 1, no more than that part of what is
                left is spent ahead.
        """
        if quota.limit is not None:
            self._end_trial()
            self._smooth = self._smooth or quota.limit > SHARE * self._known * quota.window
            self.limit = min(quota.limit, self._known * quota.window)
            self._window = quota.window
            self._follow(self.limit * USE / self._window, now)
        if quota.remaining is None or (reset := self._reset(quota, mark)) is None:
            return
        rate = self.limit / self._window
        left = quota.remaining - (self.taken - mark) * (self._used / self._reserved if self._reserved else 1.0)
        first = not self._heard or (self._cautious and caution == 1.0)
        if first:
            left -= quota.remaining * (1.0 - 1.0 / caution)
            self._cautious = caution > 1.0
        capacity = quota.remaining + reset * rate
        if capacity > SLACK * self.limit + 2.0 * rate and quota.reset is not None:
            self.refills = False
        if capacity <= SLACK * self.limit + 2.0 * rate:  # a bucket: what is left refills all the time
            if self._smooth or not first or (self._known < math.inf and capacity < TRIED * rate):
                self._lower(left + rate * (now - sent), now)
                self._credit = min(self._credit, max(0.0, left))
            else:  # all but a little, and not what was refilled: when it was counted between then and now, nobody knows
                spare = max(1.0, SPARE * rate)
                self.gcra.burst = max(BURST, 1.0 / rate, min(self._window, (capacity - spare) / rate))
                self.gcra.tat = -math.inf
                self._lower(left - spare, now)
        elif not self._smooth:  # a window: what is left is all there is until it ends; then on smoothly
            if first and (self._credit_until == -math.inf or now < self._credit_until):
                if now < self._began + self._window:
                    left = min(left, max(0.0, self.limit - self.taken))  # headers may be some seconds old
                self._credit = left
                self._credit_until = max(now, sent + reset)
                self.gcra.burst = BURST
                self.gcra.tat = (self._credit_until if quota.reset is not None else now) + BURST
                self._guessed_until = self._credit_until if quota.reset is None else -math.inf
            self._credit = min(self._credit, left)
        self._heard = True

    def _reset(self, quota: Quota, mark: float) -> float | None:
        """Seconds until a limit is full again, by its headers; None when they leave that open."""
        if quota.reset is not None:
            return min(quota.reset, self._window)  # further away it is garbage, or a clock is wrong
        whole = quota.remaining is not None and quota.remaining + mark >= FULL * self.limit
        return self._window if whole else None

    def _end_trial(self) -> None:
        if isinstance(self.gcra, Trial):
            self.gcra.end()

    def _follow(self, rate: float, now: float) -> None:
        """Go on at another rate. A far lower one makes no more of what is owed than a whole window."""
        if rate != self.gcra.rate:
            self.gcra.set_rate(rate, now)
            self.gcra.tat = min(self.gcra.tat, now + max(self._window, MINUTE) + BURST)

    def _lower(self, level: float, now: float) -> None:
        """Hold no more to be left than the provider says."""
        gcra = self.gcra
        gcra.tat = max(gcra.tat, now + gcra.burst - max(0.0, level) / gcra.rate)


def per_window(limits: Limits) -> list[tuple[str, float, float]]:
    """The names, amounts and windows in seconds of all limits per time."""
    found = ((name, getattr(limits, name), DAY if name == "rpd" else MINUTE) for name in CAUSES)
    return [(name, limit, window) for name, limit, window in found if limit is not None]
