"""What the gateway has borrowed from budgets that processes share: for its keys, and for itself.

A gateway lives long and never notes its calls. So it keeps its loans small: what is surely not needed goes back each
second. Its run file has the loans' names. If it is killed, the next gateway on that file settles them: what they still
hold counts as spent, which is what was spent and the most that the calls in flight could cost.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct, ValidationError, convert, to_builtins

from flatout.budgets import lender
from flatout.errors import ConfigError
from flatout.money.lending import Lender
from flatout.money.purse import Purse
from flatout.tasks.closing import close_all
from flatout.values.budget import Budget
from flatout.values.place import is_place

if TYPE_CHECKING:
    from flatout.store import RunFile

FACT = "loans"
"""The fact of the run file that has their names."""

LOOK = 1.0
"""Seconds between two looks at what can go back."""


class LoanName(Struct, frozen=True):
    """The name of one loan.

    Attributes:
        borrower: the name.
        budget: the budget from which it is.
    """

    borrower: str
    budget: Budget


class Loans:
    """The purses of a gateway.

    Args:
        own: the purse of the gateway itself.
    """

    def __init__(self, own: Purse) -> None:
        self._own = own
        self._of_keys: list[Purse] = []
        self._former: list[Purse] = []  # those that a key had before, while calls hold some of their money
        self._lenders: dict[Budget, Lender] = {}  # of which nobody has borrowed yet
        self._store: RunFile | None = None

    async def purse(self, budget: Budget) -> Purse:
        """A purse for a key's budget.

        Raises:
            ConfigError: the budget cannot be used, or could not a moment ago.
        """
        found = self._lenders.setdefault(budget, lender(budget))
        await asyncio.to_thread(found.check)
        if self._lenders.pop(budget, None) is not found:  # another key with an equal budget has it now
            found = lender(budget)
        purse = Purse(budget, lender=found)
        await purse.look()
        self._of_keys.append(purse)
        self._note()
        return purse

    def dismiss(self, purse: Purse) -> None:
        """A key has another budget now, or none: close its purse once no call needs it."""
        self._of_keys.remove(purse)
        self._former.append(purse)

    async def keep_in(self, store: RunFile) -> None:
        """Keep the names in a run file, and settle the loans of an earlier process that was killed.

        Raises:
            ConfigError: a budget cannot be used.
        """
        with suppress(ValidationError):  # the file of another flatout
            for loan in convert(store.fact(FACT) or [], list[LoanName]):
                await asyncio.to_thread(_settle, loan)
        self._store = store
        self._note()

    async def tend(self) -> None:
        """Give back what is not needed, and close the purses of former budgets that no call needs any more.

        Raises:
            ConfigError: a budget cannot be used: the disk is full, say. The others were seen to.
        """
        failed: ConfigError | None = None
        for purse in self._all:
            try:
                if purse in self._former and not purse.busy:
                    await self._close(purse)
                else:
                    await purse.give_back()
            except ConfigError as error:
                failed = error
        if failed is not None:
            raise failed

    async def close(self) -> None:
        """Give back all that the keys' budgets have lent and nobody has spent. The gateway's client closes its own."""
        await close_all(*(each.close for each in self._all if each is not self._own))

    @property
    def _all(self) -> tuple[Purse, ...]:
        return (self._own, *self._of_keys, *self._former)

    async def _close(self, purse: Purse) -> None:
        await purse.close()
        self._former.remove(purse)
        self._note()

    def _note(self) -> None:
        """Note the names, before anything is borrowed under them."""
        if self._store is not None:
            self._store.set_fact(FACT, to_builtins(list(_names(self._all))))


def _names(purses: Iterable[Purse]) -> Iterator[LoanName]:
    for purse in purses:
        if purse.borrower is not None and purse.budget is not None:
            yield LoanName(purse.borrower, purse.budget)


def _settle(loan: LoanName) -> None:
    if not is_place(loan.budget.shared or ""):  # else the server ends it
        lender(loan.budget).take_back(loan.borrower, math.inf)
