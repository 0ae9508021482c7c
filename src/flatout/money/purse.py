"""The money of one Client: what it may spend, and what it has spent, over all its targets.

Loading the price table takes more CPU than everything else in a first call. So a plain call does not load it, if there
is no budget and nobody sees the call's cost. Its bill is kept, and added up when somebody reads `Purse.spent`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

from flatout.errors import BudgetExceeded, ConfigError
from flatout.policies.spending import ENOUGH, Funds, Loan, Reservation, Shape, Shapes
from flatout.text import figures
from flatout.values.budget import Budget as Allowed
from flatout.values.budget import Standing

from .lending import Debt, Lender
from .worst_case import WorstCases

UNKNOWN = 0.15
"""The share of what is left of a shared budget that one process may hold while it does not know what its calls cost:
the worst cases of the first calls in flight may be many times what they cost."""

SPARE = 1e-4
"""The share of a shared budget that is worth giving back: that writes a file."""


class Purse:
    """What a Client may spend and has spent over all its targets, in US dollars.

    Attributes:
        budget: the most that may be spent; None for no bound.
        worst_cases: says what an attempt may cost.
        earlier: the spending of other processes on the runs that this one resumes.
        bills: functions that add an attempt to the sums, for attempts from before the price table was loaded.
        asks: whether each reservation has to be asked for elsewhere; calls then ask before they wait for their turn.
    """

    asks = False

    __slots__ = (
        "_aside",
        "_elsewhere",
        "_funds",
        "_lender",
        "_lending",
        "_reckoned",
        "_runs",
        "_settled",
        "_shapes",
        "_shared_left",
        "_spent",
        "_turn",
        "_unknown",
        "_waiting",
        "bills",
        "budget",
        "earlier",
        "worst_cases",
    )

    def __init__(
        self,
        budget: Allowed | float | None,
        *,
        lender: Lender | None = None,
        allow_unknown_price: bool = False,
    ) -> None:
        self.budget = Allowed(budget) if isinstance(budget, int | float) else budget
        self.worst_cases: WorstCases = WorstCases(allow_unknown_price=allow_unknown_price)
        self.earlier: float = 0.0
        self.bills: list[Callable[[], object]] = []
        self._lender = lender
        self._lending: asyncio.Task[Loan | None] | None = None
        self._shared_left: float | None = None  # when money was borrowed last
        usd, over = (self.budget.usd, self.budget.over) if self.budget is not None and lender is None else (0.0, 0.0)
        self._funds = Funds(usd, over)
        self._shapes = Shapes()
        self._aside: dict[str, float] = {}  # set aside beside the attempts, by the run
        self._elsewhere = 0.0  # of another period of a shared budget
        self._spent = 0.0
        self._unknown = 0
        self._reckoned = 0.0
        self._runs: set[Hashable] = set()
        self._turn = asyncio.Lock()
        self._waiting = 0  # calls that wait for their turn, or for money
        self._settled = asyncio.Event()
        if lender is not None:
            lender.attend(self)

    def __repr__(self) -> str:
        return f"Purse(spent=${self._spent:.4f}, reserved=${self._funds.reserved:.4f}, budget={self.budget})"

    @property
    def spent(self) -> float:
        """The known spending."""
        self.reckon()
        return self._spent

    @property
    def unknown(self) -> int:
        """The number of attempts that may have been billed an unknown amount."""
        self.reckon()
        return self._unknown

    @property
    def exposed(self) -> float:
        """By how much the budget could have been exceeded, had all answers in flight been the longest possible."""
        return self._funds.exposed

    def standing(self) -> Standing | None:
        """How the budget stands; None without one."""
        if self.budget is None:
            return None
        budget = self.budget
        scope = {"per": budget.per, "scope": budget.shared} if budget.shared is not None else {}
        return Standing(str(budget), self._left(), self._funds.over, self.exposed, usd=budget.usd, **scope)

    def _left(self) -> float | None:
        """What is left, with what this process has borrowed and not spent; None if not known yet."""
        if self._lender is None:
            return self._funds.left
        return None if self._shared_left is None else self._shared_left + self._funds.left

    @property
    def waiting(self) -> int:
        """Calls that wait for money: for others to be settled, or for the server that keeps a shared budget."""
        return self._waiting

    def check(self) -> None:
        """Find out whether a budget that processes share can be kept; see `flatout.money.lending.Lender`. Blocks.

        Raises:
            ConfigError: it cannot.
        """
        if self._lender is not None:
            self._lender.check()

    async def look(self) -> None:
        """Look what is left of a budget that processes share: others may have spent since this one borrowed."""
        if self._lender is not None:
            self._shared_left = await asyncio.to_thread(self._lender.left)

    def change(self, usd: float) -> None:
        """Raise or lower the amount. What is spent stays spent: nothing more is sent if less is left than it may cost.

        Raises:
            ConfigError: there is no budget, or processes share it.
        """
        if self.budget is None:
            raise ConfigError("there is no budget that could be changed: begin with --budget")
        if self.budget.shared is not None:
            raise ConfigError(f"processes share the budget of {self.budget}: change it with flatout budget set")
        self.budget = Allowed(usd)
        self._funds.amount, self._funds.over = self.budget.usd, self.budget.over
        self._settled.set()  # what waits for money looks again

    @property
    def borrower(self) -> str | None:
        """The name under which this process borrows; None if the money is its own."""
        return None if self._lender is None else self._lender.borrower

    def loan(self, before: float) -> Debt | None:
        """What a run file notes of this process' loan, in case it is killed; None if the money is its own.

        Args:
            before: what the run file knows to be spent now.
        """
        if self.borrower is None:
            return None
        return Debt(self.borrower, before - self.spent - self._reckoned)

    def take_back(self, debt: Debt, spent: float) -> None:
        """Take back what a process had borrowed and not spent that was killed. This writes a file.

        Args:
            debt: what the run file says of its loan.
            spent: what the run file knows to be spent now, with what was in flight.
        """
        if self._lender is not None:
            self._lender.take_back(debt.borrower, max(0.0, spent - debt.before))

    def in_words(self) -> str:
        """The spending in words, as far as it is known without loading the price table."""
        if self.bills:
            return "not added up yet"
        spent = f"${self._spent:.4f}"
        if self._unknown:
            return f"at least {spent}" if self._spent else "unknown"
        return spent

    def reckon(self) -> None:
        """Add up the bills. This loads the price table if necessary, which takes 0.1 s."""
        bills, self.bills = self.bills, []
        for bill in bills:
            bill()

    def pay(self, cost: float) -> None:
        """Add the cost of an attempt."""
        self._spent += cost
        self._funds.spent += cost

    def pay_unknown(self, estimate: float) -> None:
        """Add an attempt that may have been billed an unknown amount."""
        self._unknown += 1
        self._reckoned += estimate
        self._funds.spent += estimate

    @property
    def reckoned(self) -> float:
        """The estimated cost of the attempts whose cost is unknown."""
        self.reckon()
        return self._reckoned

    def add(self, spent: float, unknown: int, reckoned: float) -> None:
        """Add what another process has spent: known, and unknown by the number of attempts and their estimated cost."""
        self._spent += spent
        self._unknown += unknown
        self._reckoned += reckoned
        self._funds.spent += spent + reckoned

    def go_on(self, run: Hashable, spent: float) -> None:
        """Count a run's earlier spending. Only once for each run: the spending after that is this purse's own.

        A budget that processes share knows of it already.
        """
        if run not in self._runs:
            self._runs.add(run)
            if self._lender is None:
                self.earlier += spent
                self._funds.spent += spent

    def set_aside(self, run: str, usd: float) -> None:
        """Reserve money beside the attempts, for a run's open batches. It replaces what was set aside for it before."""
        self._funds.spent += usd - self._aside.get(run, 0.0)
        self._aside[run] = usd
        self._settled.set()

    def holds_for(self, run: str) -> bool:
        """Whether money was set aside for a run's batches in this process."""
        return run in self._aside

    async def covers(self, usd: float) -> bool:
        """Whether this much is left to be set aside. What is lacking is borrowed, if processes share the budget."""
        funds = self._funds
        while self.budget is not None and (lacks := funds.spent + funds.reserved + usd - funds.amount) > funds.over:
            if self._lender is None:
                return False
            loan = await self._borrow(self._lender, lacks)
            if loan is not None and loan.usd <= 0.0:
                return False
        return True

    async def take_over(self, usd: float, at: float) -> bool:
        """Hold what an earlier process of this run has set aside from a budget that processes share.

        Args:
            usd: how much.
            at: when; Unix time.

        Returns:
            Whether the rest of it may be used for something else. It may not if it is of another day or month.
        """
        if self._lender is None or not usd:
            return True
        own = await self._lender.take_over(usd, at)
        self._funds.amount += usd
        self._elsewhere += 0.0 if own else usd
        return own

    def forgo(self, usd: float) -> None:
        """Give up money of another period that was set aside and not used."""
        self._funds.amount -= usd
        self._elsewhere -= usd

    def used(self) -> float:
        """What is spent and reserved of the money that was borrowed."""
        return max(0.0, self._funds.spent + self._funds.reserved - self._elsewhere)

    def lose(self, usd: float) -> None:
        """Give up money that was borrowed."""
        self._funds.amount -= usd

    def take(self, kind: Hashable, worst: float) -> Reservation | None:
        """Reserve an attempt's money without waiting; None if it has to wait. See `reserve`."""
        return None if self._waiting else self._funds.take(self._shapes.of(kind), worst)

    async def reserve(self, kind: Hashable, worst: float) -> Reservation:
        """Reserve an attempt's money, first come, first served.

        Most attempts cost far less than they might. So an attempt that does not fit waits for others to be settled
        before it fails.

        Args:
            kind: what tells it from attempts that cost another share of their worst case.
            worst: the most US dollars that it may cost.

        Raises:
            BudgetExceeded: nothing is in flight that could make room.
        """
        shape = self._shapes.of(kind)
        self._waiting += 1
        try:
            async with self._turn:
                while (held := self._funds.take(shape, worst)) is None:
                    if await self._borrowed(shape, worst):
                        continue
                    if not self._funds.open:
                        raise BudgetExceeded(self.refusal(worst))
                    self._settled.clear()
                    await self._settled.wait()
                return held
        finally:
            self._waiting -= 1

    async def _borrowed(self, shape: Shape, worst: float) -> bool:
        """Borrow what an attempt lacks, from a budget that processes share. Returns whether to try it again."""
        if self._lender is None:
            return False
        funds = self._funds
        need = funds.lacks(shape, worst)
        unspent = funds.amount - funds.spent
        if funds.open and shape.seen < ENOUGH and unspent + need > UNKNOWN * ((self._shared_left or 0.0) + unspent):
            return False  # the answers to those in flight will show that they need far less
        loan = await self._borrow(self._lender, need)
        return loan is None or loan.usd > 0.0

    async def _borrow(self, lender: Lender, need: float) -> Loan | None:
        """Borrow. None if the caller is to look what there is, and ask again.

        If the caller is cancelled, what is being lent comes in all the same: else nobody could spend it.
        """
        if self._lending is not None:
            await asyncio.shield(self._lending)
            return None
        self._lending = asyncio.ensure_future(self._lent(lender, need))
        return await asyncio.shield(self._lending)

    async def _lent(self, lender: Lender, need: float) -> Loan | None:
        try:
            loan = await lender.lend(need, self.used())
        finally:
            self._lending = None
        if loan is not None:
            self._funds.amount += loan.usd
            self._shared_left = loan.left
        return loan

    def refusal(self, usd: float) -> str:
        """Why an attempt that may cost this much is not sent."""
        earlier = f" (${self.earlier:.4f} was spent before)" if self.earlier else ""
        cost, left = figures.compared(usd, max(0.0, self._left() or 0.0))
        return f"not sent: it may cost {cost}, and {left} of the budget of {self.budget} is left{earlier}"

    def release(self, held: Reservation, cost: float | None) -> None:
        """Give back a reservation; the real cost is counted by now."""
        self._funds.release(held, cost)
        self._settled.set()

    async def give_back(self) -> None:
        """Give back the borrowed money that no attempt in flight can need. It can be borrowed again.

        So a process that lives long holds little unspent money, in case it is killed.
        """
        lender, budget, spare = self._lender, self.budget, self._funds.spare
        if lender is None or budget is None or spare <= SPARE * budget.usd:
            return
        if await lender.give_back(spare):
            self._shared_left = (self._shared_left or 0.0) + spare

    @property
    def busy(self) -> bool:
        """Whether calls hold some of its money, or wait for it."""
        return self._funds.open > 0 or self._waiting > 0 or self._lending is not None

    async def close(self) -> None:
        """Give back what was borrowed and not used."""
        if self._lender is not None:
            if self._lending is not None:
                await asyncio.wait([self._lending])
            await self._lender.close(self.used())
            self._funds.amount = self._funds.spent + self._funds.reserved
