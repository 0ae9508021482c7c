"""What a purse needs of a budget that processes share; `flatout.store.scope` keeps one."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from flatout.policies.spending import Loan


class Debt(Struct, frozen=True):
    """The loan of a process that spends it on one run alone.

    Attributes:
        borrower: the name under which it borrowed.
        before: what was spent on the run without it.
    """

    borrower: str
    before: float


class Lender(Protocol):
    """Lends money from a budget that processes share, such as `flatout.store.scope.Scope`."""

    async def lend(self, need: float, used: float) -> Loan:
        """Lend at least ``need`` US dollars, or nothing.

        Args:
            need: the least that is of use.
            used: what this process has spent, and has reserved for attempts in flight.
        """
        ...

    async def take_over(self, usd: float, at: float) -> bool:
        """Let this process hold what an earlier one has left for it.

        Args:
            usd: how much.
            at: when it was set aside; Unix time.

        Returns:
            False if that was in another period: then it stays spent in that one.
        """
        ...

    async def close(self, used: float) -> None:
        """Take back what was lent and not used."""
        ...

    def left(self) -> float:
        """US dollars that nobody holds. This reads a file."""
        ...

    @property
    def borrower(self) -> str:
        """The name under which this process borrows."""
        ...

    def take_back(self, borrower: str, spent: float, /) -> None:
        """Settle the loan of a process that has ended, and has spent this much at most. This writes a file."""
        ...
