"""What a purse needs of a budget that processes share; `flatout.store.scope` and `flatout.cluster.budget` keep one."""

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


class Borrower(Protocol):
    """Who borrows, such as `flatout.money.purse.Purse`."""

    def used(self) -> float:
        """US dollars that it has spent, or reserved for attempts in flight."""
        ...

    def lose(self, usd: float, /) -> None:
        """Give up money that was lent to it."""
        ...


class Lender(Protocol):
    """Lends money from a budget that processes share, such as `flatout.store.scope.Scope`."""

    def attend(self, borrower: Borrower, /) -> None:
        """Say who borrows. The lender may ask it at any time what it has used, and take the rest back."""
        ...

    def check(self) -> None:
        """Find out whether the budget can be kept there, before anything else is asked; see `flatout.presence`. Blocks.

        Raises:
            ConfigError: it cannot.
        """
        ...

    async def lend(self, need: float, used: float) -> Loan | None:
        """Lend at least ``need`` US dollars, or nothing. None if the borrower is to look what it has, and ask again.

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

    async def give_back(self, usd: float) -> bool:
        """Take back a part of a loan that is not needed soon.

        Returns:
            False if nothing was taken back: the lender does that by itself, or is to be asked again later.
        """
        ...

    async def close(self, used: float) -> None:
        """Take back what was lent and not used."""
        ...

    def left(self) -> float:
        """US dollars that nobody holds. This blocks on a file or a server."""
        ...

    @property
    def borrower(self) -> str:
        """The name under which this process borrows."""
        ...

    def take_back(self, borrower: str, spent: float, /) -> None:
        """Settle the loan of a process that has ended, and has spent this much at most. This blocks on a file or a
        server.
        """
        ...
