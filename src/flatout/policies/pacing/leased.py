"""A worker's end of one limit that workers on several machines share: it spends the leases that its keeper grants.

See `leases` for the keeper's end.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from .exchange import CellAsk, Lease
from .gcra import Gcra
from .leases import ACTIVE, GRACE

ALONE = 0.9
"""The part of its share that a worker uses while the keeper is away."""

SMOOTH = 0.1
"""How much the latest call counts in the units of a usual one."""

LITTLE = 0.05
"""The part of a call that may lack. It is settled afterwards: to ask for it might take longer than the rest lasts."""

SETTLES = 0.25
"""Seconds of a limit that calls took less, or more, than was thought, after which the keeper is told at once: others'
turns come sooner, or later."""

_ROUNDING = 1e-9


class Stretch(Struct):
    """What is left of a lease.

    Attributes:
        tat: the theoretical arrival time before its first unit.
        units: how many may be sent.
        rate: units per second.
        end: the theoretical arrival time after the last unit of all limits that were leased together.
    """

    tat: float
    units: float
    rate: float
    end: float


class LeasedGcra(Gcra):
    """A GCRA that admits only what its leases hold.

    Args:
        name: the limit's name.
        rate: units per second that all workers may use.
        burst: seconds of the rate that may go at once.
        now: the present.
        clock: tells the present.
        ask: asks the keeper for more.
        keeps: see `exchange.CellAsk`.

    Attributes:
        lead: seconds before the end of the last lease at which to ask for another.
        raised_at: when its rate was raised last.
    """

    __slots__ = (
        "_alone",
        "_ask",
        "_away",
        "_clock",
        "_each",
        "_granted",
        "_keeps",
        "_looked",
        "_name",
        "_need",
        "_others",
        "_own",
        "_settled",
        "_stretches",
        "_unused",
        "_went_alone",
        "lead",
        "raised_at",
    )

    def __init__(
        self,
        name: str,
        rate: float,
        burst: float,
        now: float,
        clock: Callable[[], float],
        ask: Callable[[], None],
        keeps: float = ACTIVE,
    ) -> None:
        self._name, self._clock, self._ask, self._keeps = name, clock, ask, keeps
        self._stretches: deque[Stretch] = deque()
        self._away = False  # whether the keeper is
        self._alone: Gcra | None = None  # what it may send meanwhile
        self._looked = False  # whether a call needs this limit
        self._each = 1.0  # units of a usual call
        self._need = 0.0  # units of the first call that waits
        self._unused = self._settled = 0.0  # for the next exchange
        self._own = self._others = 0.0  # units that went from here, and that others were granted
        self._went_alone = 0.0  # units that went while the keeper was away
        self._granted = math.nan  # units granted to all, by the keeper's count
        self.lead = 0.02
        self.raised_at = -math.inf
        super().__init__(rate, burst, now)

    @property
    def taken(self) -> float:
        return self._own + self._others

    @taken.setter
    def taken(self, value: float) -> None:
        self._own = value - self._others

    def ready_at(self, cost: float) -> float:
        now, self._looked = self._clock(), True
        self._forget(now)
        at = self._leased_at(cost)
        if at == math.inf:
            self._need = cost
            if not self._away:
                self._ask()
            if self._alone is None:
                return math.inf
            at = self._alone.ready_at(cost)
        return max(at, super().ready_at(cost))

    def take(self, cost: float, now: float, *, waited: bool = False) -> None:
        super().take(cost, now, waited=waited)
        self._each += SMOOTH * (cost - self._each)
        self._need = 0.0
        if self._alone is not None and self._leased_at(cost) == math.inf:
            self._alone.take(cost, now)
            self._went_alone += cost
            return
        self._settled -= self._spend(cost)
        if not self._lasts():
            self._ask()

    def give(self, cost: float) -> None:
        super().give(cost)
        self._settled += cost
        if self.settles:
            self._ask()
        if self._stretches:  # they begin earlier, or later, as what follows them does at the keeper
            seconds = min(cost / self.rate, max(0.0, self._stretches[0].tat - self._clock()))
            for each in self._stretches:
                each.tat -= seconds
                each.end -= seconds

    def set_rate(self, rate: float, now: float) -> None:
        if rate < self.rate:
            self.drop()
        self._note_raise(rate, now)
        super().set_rate(rate, now)

    def change(self, rate: float, burst: float, now: float) -> None:
        self.drop()
        self._note_raise(rate, now)
        super().change(rate, burst, now)

    def _note_raise(self, rate: float, now: float) -> None:
        if rate > self.rate:
            self.raised_at = now

    # The exchange with the keeper

    @property
    def looked(self) -> bool:
        """Whether a call has looked at this limit since the last exchange."""
        return self._looked

    @property
    def lacks(self) -> bool:
        """Whether the leases do not last until there can be another, or do not hold what the first call needs."""
        return not self._lasts() or self._leased_at(self._need) == math.inf

    @property
    def settles(self) -> bool:
        """Whether to tell the keeper at once what calls turned out to take."""
        return abs(self._settled) > SETTLES * self.rate

    @property
    def held(self) -> float:
        """Units that the leases hold."""
        return sum(each.units for each in self._stretches)

    def asks(self, want: float, first: float, *, follows: bool) -> CellAsk:
        """What to ask for. What it settles counts as told.

        Args:
            want: see `CellAsk`.
            first: see `CellAsk`.
            follows: see `CellAsk`.
        """
        self._looked = False
        unused, settled, self._unused, self._settled = self._unused, self._settled, 0.0, 0.0
        return CellAsk(self._name, self.rate, self.burst, self._keeps, want, first, unused, settled, follows)

    def end_of(self, lease: Lease, now: float) -> float:
        """The theoretical arrival time after a lease: it is used when what went from here before is earned."""
        return max(now + lease.at, self.tat) + lease.units / lease.rate if lease.units > 0.0 else now

    def granted(self, lease: Lease, end: float, now: float) -> None:
        """The keeper grants a lease. One that lost its memory counts from 0 again, and knows of no lease before.

        Args:
            lease: the lease.
            end: see `Stretch`.
            now: the present.
        """
        if not math.isnan(self._granted):
            others = lease.taken - self._granted - lease.units
            if others < -_ROUNDING * self._granted:
                self._stretches.clear()
            self._others += max(0.0, others)
        self._granted = lease.taken
        if lease.units > 0.0:
            self._stretches.append(Stretch(now + lease.at, lease.units, lease.rate, end))

    def unheard(self, ask: CellAsk) -> None:
        """An exchange failed. The keeper may have heard it, so repeat only what the others must hear."""
        self._settled += min(0.0, ask.settled)

    def drop(self) -> None:
        """Use no lease any more. The last is given back; others may have been granted what follows the ones before."""
        if self._stretches:
            self._unused += self._stretches[-1].units
            self._stretches.clear()

    def go_alone(self, share: float, at: float) -> None:
        """The keeper is away: earn a share of the rate, from an instant on or when the leases end."""
        self._away = True
        if share > 0.0:
            rate = ALONE * share * self.rate
            at = max(at, self._stretches[-1].end) if self._stretches else at
            self._alone = Gcra(rate, self.burst, at + max(0.0, self._each / rate - self.burst))

    def go_together(self, *, was_away: bool) -> None:
        """The keeper is back.

        Args:
            was_away: whether it was away for all. Otherwise others were granted what went from here meanwhile, so that
                is settled: at most a second's worth, since it does no good to hold back a whole team for the past.
        """
        self._settled = 0.0 if was_away else self._settled - min(self._went_alone, self.rate)
        self._away, self._alone, self._went_alone = False, None, 0.0
        self.drop()

    def _lasts(self) -> bool:
        """Whether the leases last for longer than it takes to get another."""
        return bool(self._stretches) and self._stretches[-1].end - self.burst - self._clock() >= self.lead

    def _leased_at(self, cost: float) -> float:
        """When the leases admit a cost; `inf` if they do not hold as much.

        The lease that has the larger part of it decides. Otherwise a small rest of one lease would be lost while a call
        waits for the next.
        """
        left = min(cost, self.held)
        if left < (1.0 - LITTLE) * cost:
            return math.inf
        for each in self._stretches:
            if each.units >= left - cost / 2.0:
                room = self.burst - min(left, each.units) / each.rate
                return each.tat - room if room > 0.0 else each.tat
            left -= each.units
        return math.inf

    def _spend(self, cost: float) -> float:
        """Spend a cost. Returns what the leases do not hold of it."""
        left = cost
        while left > _ROUNDING and self._stretches:
            first = self._stretches[0]
            units = min(left, first.units)
            left -= units
            self._shorten(first, units)
        return max(0.0, left)

    def _forget(self, now: float) -> None:
        """Lose what was not used in time."""
        while self._stretches:
            first = self._stretches[0]
            usable = max(0.0, first.end + GRACE - now) * first.rate
            if first.units <= usable + _ROUNDING:
                return
            self._shorten(first, first.units - usable)

    def _shorten(self, first: Stretch, units: float) -> None:
        first.units -= units
        first.tat += units / first.rate
        if first.units <= _ROUNDING:
            self._stretches.popleft()
