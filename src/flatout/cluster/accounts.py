"""Looks at the budgets in Redis that workers share, and mends them; `flatout.cluster.budget` lends from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from operator import attrgetter

import msgspec

from flatout.errors import ConfigError
from flatout.policies.shared_money import Pot
from flatout.values.accounts import Account, Lent, end_of
from flatout.values.place import Place

from .budget import SCRIPT, key, read_pot
from .line import RedisLine

PATIENCE = 2.0
"""Seconds to wait for the server, to connect and for each answer."""

PERIODS = ("day", "month", "run")


def accounts(place: Place, periods: Sequence[str] = PERIODS) -> Iterator[Account]:
    """How the budgets at a place stand, of some kinds of periods.

    Raises:
        ConfigError: the server does not answer, or has something else there.
    """
    with _line(place) as line:
        for per in periods:
            clock, pot = line.clock(), read_pot(line, key(place, per), per)
            if pot.usd:
                yield _account(place, per, clock, pot)


def mend(place: Place, per: str, spent: float) -> Account:
    """Set what is spent in this period, and take back what workers had borrowed that may have ended.

    Raises:
        ConfigError: nobody has borrowed from it, or the server does not answer.
    """
    with _line(place) as line:
        if not read_pot(line, key(place, per), per).usd:
            raise ConfigError(f"nobody has borrowed from a budget {per}:{place}; flatout budget ls {place} shows them")
        line.script(SCRIPT)([key(place, per)], ["mend", msgspec.msgpack.encode((per, spent))])
        return _account(place, per, line.clock(), read_pot(line, key(place, per), per))


def _account(place: Place, per: str, clock: float, pot: Pot) -> Account:
    """What a worker has taken over from one that has ended is still in that one's loan, and taken off ``pot.spent``."""
    taken, lent = max(0.0, -pot.spent), []
    for loan in sorted(pot.loans, key=attrgetter("seen")):
        part = min(loan.held, taken)
        taken -= part
        if held := loan.held - part:
            used = max(0.0, loan.used - loan.settled - part)
            lent.append(Lent(loan.worker, held, None, loan.since, not loan.is_silent(clock), loan.about, used))
    return Account(per, str(place), pot.usd, max(0.0, pot.spent), tuple(lent), end_of(per, clock))


@contextmanager
def _line(place: Place) -> Iterator[RedisLine]:
    with closing(RedisLine(place, f"the budgets at {place} need", PATIENCE)) as line:
        try:
            yield line
        except OSError as error:
            raise ConfigError(f"the budgets at {place} cannot be read: {error}") from None
