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
from .leases import ACTIVE, GRACE, LEAST_CALLS

ALONE = 0.9
"""The part of its share that a worker uses while the keeper is away."""

SMOOTH = 0.1
"""How much the latest call counts in the units of a usual one."""

_ROUNDING = 1e-9


class Stretch(Struct):
    """What is left of a lease: the theoretical arrival time before its first unit, the units, and their rate."""

    tat: float
    units: float
    rate: float

    @property
    def end(self) -> float:
        """The theoretical arrival time of its last unit."""
        return self.tat + self.units / self.rate


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

    def take(self, cost: float, now: float) -> None:
        super().take(cost, now)
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

    def lacks(self, waiting: int) -> float:
        """Units that the leases lack for the calls that wait.

        None while they last, nor if no call has looked at them since the last exchange.
        """
        if not waiting or not self._looked or (self._lasts() and self._leased_at(self._need) < math.inf):
            return 0.0
        return self._lack(waiting)

    @property
    def scarce(self) -> bool:
        """Whether the leases hold few calls, for longer than what another limit granted for these may wait."""
        few = LEAST_CALLS * self._each
        return self._held() < few and few > GRACE * self.rate

    def wants(self, waiting: int, *, follows: bool = False, together: bool = False) -> CellAsk:
        """What to ask for, while this many calls wait. What it settles counts as told.

        Args:
            waiting: the calls.
            follows: see `CellAsk`.
            together: whether to ask for more although the leases last, because another limit's do not.
        """
        want = self._lack(waiting) if together and self._looked else self.lacks(waiting)
        least = max(self._need, self._each) - self._held()
        self._looked = False
        unused, settled, self._unused, self._settled = self._unused, self._settled, 0.0, 0.0
        return CellAsk(
            self._name,
            self.rate,
            self.burst,
            self._keeps,
            self._each,
            want,
            max(0.0, min(want, least)),
            unused,
            settled,
            follows,
        )

    def granted(self, lease: Lease, now: float) -> None:
        """The keeper grants a lease. One that lost its memory counts from 0 again, and knows of no lease before."""
        if not math.isnan(self._granted):
            others = lease.taken - self._granted - lease.units
            if others < -_ROUNDING * self._granted:
                self._stretches.clear()
            self._others += max(0.0, others)
        self._granted = lease.taken
        if lease.units > 0.0:
            self._stretches.append(Stretch(now + lease.at, lease.units, lease.units / lease.seconds))

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

    def _lack(self, waiting: int) -> float:
        """Units beyond those that it holds, for the calls that wait."""
        lack = max(self._need, waiting * self._each) - self._held() if waiting else 0.0
        return lack if lack > _ROUNDING else 0.0

    def _held(self) -> float:
        return sum(each.units for each in self._stretches)

    def _leased_at(self, cost: float) -> float:
        """When the leases admit a cost; `inf` if they do not hold as much.

        The lease that has the larger part of it decides. Otherwise a small rest of one lease would be lost while a call
        waits for the next.
        """
        if self._held() < cost - _ROUNDING:
            return math.inf
        left = cost
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
        while self._stretches and self._stretches[0].end + GRACE <= now:
            self._stretches.popleft()
        if self._stretches and (late := now - GRACE - self._stretches[0].tat) > 0.0:
            self._shorten(self._stretches[0], late * self._stretches[0].rate)

    def _shorten(self, first: Stretch, units: float) -> None:
        first.units -= units
        first.tat += units / first.rate
        if first.units <= _ROUNDING:
            self._stretches.popleft()
