"""How a budget stands that processes share: what commands show."""

from __future__ import annotations

import time
from calendar import timegm

from msgspec import Struct


class Lent(Struct, frozen=True):
    """What one process has borrowed.

    Attributes:
        borrower: the name under which it did.
        usd: how much, in US dollars.
        pid: its process id; None if not known, or on another machine.
        since: when it borrowed first; Unix time; None if not known.
        alive: whether it still runs; true where the system cannot tell.
        place: the machine and the process of one that borrows from a server, such as ``host:4711``; else None.
        used: what it has spent of that, or reserved for calls in flight, as it told last; None if not known until it
            ends.
    """

    borrower: str
    usd: float
    pid: int | None
    since: float | None
    alive: bool
    place: str | None = None
    used: float | None = None


class Account(Struct, frozen=True):
    """How a shared budget stands.

    Attributes:
        per: what it is for: ``run``, ``day`` or ``month``.
        scope: its name.
        usd: the amount, as the process gave it that borrowed last.
        spent: US dollars that are spent for good.
        lent: what processes hold beside that.
        until: when its period ends; Unix time; None for never.
    """

    per: str
    scope: str
    usd: float
    spent: float
    lent: tuple[Lent, ...]
    until: float | None

    @property
    def left(self) -> float:
        """US dollars that nobody has spent or borrowed."""
        return self.usd - self.spent - sum(lent.usd for lent in self.lent)


def end_of(per: str, now: float) -> float | None:
    """When a period ends, in Unix seconds; None for never. Days and months are those of UTC."""
    today = time.gmtime(now)
    if per == "run":
        return None
    if per == "day":
        return float(timegm((today.tm_year, today.tm_mon, today.tm_mday + 1, 0, 0, 0)))
    return float(timegm((today.tm_year + today.tm_mon // 12, today.tm_mon % 12 + 1, 1, 0, 0, 0)))
