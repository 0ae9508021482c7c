"""One limited quantity of a target: requests, tokens, input tokens or output tokens per minute; requests per day.

The user gives its rate, or the provider advertises it. Either way one GCRA paces it. Three cases differ in how much
may go at once:

- Headers say how much is left: that much, until a first refusal shows that they promise more than they should.
- Headers say nothing: a little is tried ahead (`ahead`).
- The limit is shared, or is a share of the provider's: nothing goes ahead. But all of a day's requests may go at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from flatout.values import Limits

from .advertised import Quota
from .ahead import FULL, MINUTE, SHARE, SPARE, TRIED, Trial
from .gcra import BURST, Gcra, Steady

USE = 0.985
"""The share of a limit that is used. The rest covers what our clock and the provider's disagree about.
``USE × (60 + BURST + MISSED) < 60``, so no minute exceeds the limit."""

SLACK = 1.2
"""If what is left plus the refill until the reset exceeds SLACK times the limit, it is a window and not a bucket."""

DAY = 86_400.0
"""Seconds of a day."""

CAUSES = {"rpm": "requests", "rpd": "requests", "tpm": "tokens", "itpm": "tokens", "otpm": "tokens"}
"""What a call that waits for a limit waits for, by the names of `flatout.Limits`; see `flatout.events.WAITS`."""

MakeGcra = Callable[[float, float, float], Gcra]


class Axis:
    """Paces one quantity.

    Args:
        cause: what a call that waits for it waits for; see `flatout.events.WAITS`.
        limit: units per window.
        window: seconds that the limit counts over.
        now: the present.
        known: whether the user gave the limit. Headers may then lower it, but never raise it.
        burst: seconds of the rate that may go at once.
        follows: whether a known limit is spent ahead if headers confirm it and say how much is left.
        even: whether a limit from headers is spent evenly, because other processes use what is left, too.
        gcra: makes the GCRA, such as one that other processes share.

    Attributes:
        refills: whether the limit may refill all the time, as far as headers show; False for a window.
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
        if known and gcra is Steady:  # no other program uses it: a full burst may go now
            self.gcra.tat = now
        self.refills = True
        self._began = now
        self._window = window
        self._known = limit / window if known else math.inf  # per second
        self._smooth = not follows if known else even
        self._heard = self._cautious = False
        self._guessed_until = -math.inf  # when a window ends that may also be a bucket, as far as headers show
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
        """Units admitted so far. The difference of two readings is what was admitted between them."""
        return self.gcra.taken

    def per(self, seconds: float) -> float:
        """The limit, converted to this many seconds."""
        return self.limit * (seconds / self._window)

    @property
    def most(self) -> float:
        """The largest cost that can ever be admitted: a minute's limit, or that of a longer window."""
        return self.limit * max(1.0, MINUTE / self._window)

    def ready_at(self, cost: float, now: float) -> float:
        """When a cost may be admitted; a time up to now means at once."""
        if now < self._credit_until and self._credit >= cost:
            return now
        return self.gcra.ready_at(cost)

    def take(self, cost: float, now: float, *, waited: bool = False) -> None:
        """Admit a cost; ``waited`` as for `Gcra.take`."""
        self.gcra.taken += cost
        if now < self._credit_until and self._credit >= cost:
            self._credit -= cost
        else:
            self.gcra.take(cost, now, waited=waited)

    def give_back(self, cost: float, now: float) -> None:
        """A cost that was admitted is not used."""
        self.gcra.taken -= cost
        if now < self._credit_until:
            self._credit += cost
        else:
            self.gcra.give(cost)

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

    def change(self, limit: float, window: float, burst: float, now: float) -> None:
        """The user gives another limit. What was sent before stays counted, and nothing goes ahead of the new limit.

        Args:
            limit: units per window.
            window: seconds that it counts over.
            burst: seconds of the rate that may go at once.
            now: the present.
        """
        if now < self._credit_until:  # what is left of a window is less, or more, by the difference
            self._credit += limit - self.per(window)
            self.gcra.rate = limit * USE / window  # which begins when the window ends
        else:
            self.gcra.change(limit * USE / window, burst, now)
            owed_until = now + max(window, MINUTE) + burst
            self.gcra.tat = min(self.gcra.tat, owed_until)  # at a far lower rate, a whole window is owed at most
        self.limit, self._window, self._known = limit, window, limit / window

    def scale(self, share: float) -> None:
        """Change the limit to a share of it. What may go at once, in seconds of the rate, stays."""
        self.limit *= share
        self._known *= share
        self._credit *= share
        self.gcra.rate *= share

    @property
    def trial(self) -> Trial | None:
        """The trial of how much goes ahead: from the first call until a minute is over, or until headers say so."""
        return self.gcra if isinstance(self.gcra, Trial) and self.gcra.runs else None

    def ahead(self, mark: float, cost: float, sent: float) -> float:
        """Seconds of the rate by which a call went before it was earned.

        Args:
            mark: `taken` when the call was admitted, including its cost.
            cost: its cost.
            sent: when it was sent.
        """
        if isinstance(self.gcra, Trial) and mark < self.gcra.since:
            return 0.0
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
        owed = max(0.0, self.gcra.tat - now - self.gcra.burst)  # an emptied bucket of a minute owes nothing
        self.gcra.burst = min(self.gcra.burst, BURST)
        self.gcra.begin(max(now + owed, self._guessed_until))
        self._guessed_until = -math.inf

    def keep_seconds(self) -> None:
        """A call was refused within the limit: from now on no second gets more than its share."""
        if isinstance(self.gcra, Steady):
            self.gcra.keep_seconds()

    def resume(self, at: float) -> None:
        """Admit nothing before an instant; then begin with nothing saved up."""
        if not self._counted:
            self.gcra.rest(at)

    def begin(self, now: float) -> None:
        """Go on from now with nothing saved up, even if `resume` named a later instant."""
        if not self._counted:
            self.gcra.begin(now)

    def heard(self, quota: Quota, mark: float, sent: float, now: float, *, caution: float = 1.0) -> None:
        """Follow what an answer says.

        Args:
            quota: what it says.
            mark: `taken` when its request was sent.
            sent: when that was.
            now: the present.
            caution: the provider may charge this many times our own count. While it is above 1, only the first
                ``1 / caution`` of what is left is spent ahead.
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
            else:  # all but a little, without the refill: when between then and now it was counted is unknown
                spare = max(1.0, SPARE * rate)
                self.gcra.burst = max(BURST, 1.0 / rate, min(self._window, (capacity - spare) / rate))
                self.gcra.tat = -math.inf
                self._lower(left - spare, now)
        elif not self._smooth:  # a window: only what is left may go until it ends; smoothly afterwards
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
        """Seconds until a limit is full again, according to headers; None when they do not show it."""
        if quota.reset is not None:
            return min(quota.reset, self._window)  # a later reset is garbage, or a clock is wrong
        whole = quota.remaining is not None and quota.remaining + mark >= FULL * self.limit
        return self._window if whole else None

    def _end_trial(self) -> None:
        if isinstance(self.gcra, Trial):
            self.gcra.end()

    def _follow(self, rate: float, now: float) -> None:
        """Change the rate. At a far lower rate, the debt grows to no more than a whole window."""
        if rate != self.gcra.rate:
            self.gcra.set_rate(rate, now)
            self.gcra.tat = min(self.gcra.tat, now + max(self._window, MINUTE) + BURST)

    def _lower(self, level: float, now: float) -> None:
        """Leave no more than the provider says is left."""
        gcra = self.gcra
        gcra.tat = max(gcra.tat, now + gcra.burst - max(0.0, level) / gcra.rate)


def per_window(limits: Limits) -> list[tuple[str, float, float]]:
    """All limits per time: their names, amounts, and windows in seconds."""
    found = ((name, getattr(limits, name), DAY if name == "rpd" else MINUTE) for name in CAUSES)
    return [(name, limit, window) for name, limit, window in found if limit is not None]
