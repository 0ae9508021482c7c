"""What a worker's next lease should hold, where workers on several machines share limits: the calls that go next.

A lease is for whole calls, of each limit exactly what these take. So nothing is left of it that is too little for the
next call, and no limit is leased for longer than the one that binds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .turns import FAR

LEASE = 0.2
"""Seconds of a worker's share that one lease holds, in whole calls; and what goes during an exchange, beside them."""

LEAST_CALLS = 3
"""Fewest calls of a lease, if as many wait and take less than `FAR` seconds: one exchange for each call would be too
many."""

_ROUNDING = 1e-9


class Wanted(NamedTuple):
    """Units of one limit: for all calls of the lease, and for the first of them."""

    units: float
    first: float


class Next(NamedTuple):
    """The calls that go next.

    Attributes:
        units: what to ask for, by limit; nothing if the leases last.
        held: how many of the calls the leases hold.
        asked: how many calls ``units`` are for.
    """

    units: Mapping[str, Wanted]
    held: int
    asked: int


def wanted(
    calls: Iterable[Mapping[str, float]],
    rates: Mapping[str, float],
    held: Mapping[str, float],
    seconds: float,
    *,
    lacks: bool,
) -> Next:
    """What to ask for; nothing if no call waits that the worker's leases do not hold.

    Args:
        calls: what each call that waits takes, by limit, the next one first. It takes 1 of a limit that is not named.
        rates: the limits, in units per second.
        held: units that the worker's leases hold.
        seconds: how long the lease should last.
        lacks: whether to ask for any.
    """
    left, units, first = dict(held), dict[str, float](), dict[str, float]()
    covered = count = 0
    for call in calls:
        costs = {name: call.get(name, 1.0) for name in rates}
        if not count:
            if all(left[name] >= cost - _ROUNDING for name, cost in costs.items()):
                left = {name: left[name] - cost for name, cost in costs.items()}
                covered += 1
                continue
            if not lacks:
                break
            # A small rest is lost before the new lease begins; with a large one, the call goes before it begins.
            units = {name: -left[name] if left[name] >= cost / 2.0 else 0.0 for name, cost in costs.items()}
            first = {name: max(0.0, units[name] + cost) for name, cost in costs.items()}
        else:
            most = seconds if count >= LEAST_CALLS else FAR
            if any(units[name] + cost > most * rates[name] for name, cost in costs.items()):
                break
        units = {name: units[name] + cost for name, cost in costs.items()}
        count += 1
    return Next({name: Wanted(max(0.0, each), first[name]) for name, each in units.items()}, covered, count)
