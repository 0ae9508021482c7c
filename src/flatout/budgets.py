"""The budgets that processes share: a file of this machine for each, or a server of Redis for several machines."""

from __future__ import annotations

from collections.abc import Iterator

from .config.folders import state_folder
from .money.lending import Lender
from .values.accounts import Account
from .values.budget import Budget
from .values.place import Place, is_place, place_of


def lender(budget: Budget) -> Lender:
    """Who lends from a budget that processes share: its ``shared`` is not None. It is to be checked before it lends."""
    scope = budget.shared or ""
    if is_place(scope):
        from .cluster.budget import BudgetInRedis

        return BudgetInRedis(budget, place_of(scope))
    from .store.scope import Scope  # loads SQLite

    return Scope(budget, state_folder() / "budgets")


def account(per: str, scope: str) -> Account | None:
    """How one budget stands; None if nobody has borrowed from it.

    Raises:
        ConfigError: it cannot be read.
    """
    if is_place(scope):
        from .cluster.accounts import accounts as at

        return next(at(place_of(scope), [per]), None)
    from .store.scopes import account

    return account(state_folder() / "budgets", per, scope)


def accounts(place: Place | None = None) -> Iterator[Account]:
    """How each budget at a place stands, or on this machine.

    Raises:
        ConfigError: they cannot be read.
    """
    if place is not None:
        from .cluster.accounts import accounts as at

        return at(place)
    from .store.scopes import accounts as within

    return within(state_folder() / "budgets")


def mend(per: str, scope: str, spent: float) -> Account:
    """Set what is spent in this period, and take back what processes had borrowed that have ended.

    Raises:
        ConfigError: there is no such budget, or it cannot be changed.
    """
    if is_place(scope):
        from .cluster.accounts import mend as at

        return at(place_of(scope), per, spent)
    from .store.scopes import mend as within

    return within(state_folder() / "budgets", per, scope, spent)
