"""Keeps the budget: reserves an attempt's money before it is sent, settles it by usage, and adds up the cost.

How much is reserved, and whether that is left, is decided by `flatout.policies.spending`.

Loading the price table takes more CPU than everything else in a first call. So a plain call does not load it, if there
is no budget and nobody sees the call's cost. Its bill is kept, and added up when somebody reads `Purse.spent`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Protocol

from flatout.errors import BudgetExceeded, CallError, ConfigError
from flatout.journey import current_journey
from flatout.layer import CallNext
from flatout.policies.failures.decision import may_have_billed
from flatout.policies.pacing.tokens import most_input, most_output
from flatout.policies.spending import ENOUGH, Funds, Loan, Reservation, Shape, Shapes
from flatout.prices import Prices
from flatout.values import Call, Reply, Target
from flatout.values.budget import Budget as Allowed
from flatout.values.budget import Standing

_log = logging.getLogger("flatout")

MOST_BILLS = 50
"""The most bills that are kept without their costs. Each one holds an answer in memory."""


class Lender(Protocol):
    """Lends money from a budget that processes share, such as `flatout.store.scope.Scope`."""

    async def lend(self, need: float, used: float) -> Loan:
        """Lend at least ``need`` US dollars, or nothing.

        Args:
            need: the least that is of use.
            used: what this process has spent, and has reserved for attempts in flight.
        """
        ...

    async def close(self, used: float) -> None:
        """Take back what was lent and not used."""
        ...


class Purse:
    """What a Client may spend and has spent over all its targets, in US dollars.

    Attributes:
        budget: the most that may be spent; None for no bound.
        earlier: the spending of other processes on the runs that this one resumes.
        bills: functions that add an attempt to the sums, for attempts from before the price table was loaded.
    """

    __slots__ = (
        "_assumes",
        "_funds",
        "_lender",
        "_reckoned",
        "_runs",
        "_settled",
        "_shapes",
        "_shared_left",
        "_spent",
        "_turn",
        "_unknown",
        "_waiting",
        "allow_unknown_price",
        "bills",
        "budget",
        "earlier",
    )

    def __init__(
        self,
        budget: Allowed | float | None,
        *,
        lender: Lender | None = None,
        allow_unknown_price: bool = False,
    ) -> None:
        self.budget = Allowed(budget) if isinstance(budget, int | float) else budget
        self.allow_unknown_price = allow_unknown_price
        self.earlier = 0.0
        self.bills: list[Callable[[], object]] = []
        self._lender = lender
        self._shared_left: float | None = None  # when money was borrowed last
        usd, over = (self.budget.usd, self.budget.over) if self.budget is not None and lender is None else (0.0, 0.0)
        self._funds = Funds(usd, over)
        self._shapes = Shapes()
        self._spent = 0.0
        self._unknown = 0
        self._reckoned = 0.0
        self._runs: set[Hashable] = set()
        self._assumes = False
        self._turn = asyncio.Lock()
        self._waiting = 0  # calls that wait for their turn, or for money
        self._settled = asyncio.Event()

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
        left: float | None = self._funds.left
        if self._lender is not None:
            left = None if self._shared_left is None else self._shared_left + self._funds.left
        return Standing(str(self.budget), left, self._funds.over, self.exposed)

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

    def worst_case(
        self,
        target: Target,
        call: Call,
        prices: Prices,
        longest: int = 0,
        tokens: int | None = None,
        cap: int | None = None,
    ) -> float:
        """The most US dollars that one attempt may cost. Logs once if that rests on an assumption.

        Args:
            target: the target.
            call: the call.
            prices: the price list.
            longest: tokens of the longest answer that the target has given.
            tokens: the most tokens of the call's input, if they are known.
            cap: the most tokens of an answer without ``max_tokens``, if they are known.

        Raises:
            ConfigError: the price is not known, so a budget cannot be kept.
        """
        output = most_output(call, longest, cap)
        tokens = most_input(call) if tokens is None else tokens
        worst = prices.worst_case(target, tokens, output, service_tier=call.service_tier)
        if worst is None:
            if self.allow_unknown_price:
                return 0.0
            raise ConfigError(_unpriced(target, call, prices))
        if call.max_tokens is None and worst and not self._assumes and (cap is None or cap > output):
            self._assumes = True
            _log.warning(
                "without max_tokens, the budget assumes that an answer has at most %s tokens, until %s answers have "
                "shown how long they are; set it with max_tokens (--param max_tokens=…)",
                f"{output:,}",
                ENOUGH,
            )
        return worst

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
                        raise BudgetExceeded(f"not sent: it may cost ${worst:.4f}, and {self._account()}")
                    self._settled.clear()
                    await self._settled.wait()
                return held
        finally:
            self._waiting -= 1

    async def _borrowed(self, shape: Shape, worst: float) -> bool:
        """Borrow what an attempt lacks, from a budget that processes share."""
        if self._lender is None:
            return False
        funds = self._funds
        loan = await self._lender.lend(funds.lacks(shape, worst), funds.spent + funds.reserved)
        funds.amount += loan.usd
        self._shared_left = loan.left
        return loan.usd > 0.0

    def _account(self) -> str:
        if self._lender is not None:
            return f"${max(0.0, self._shared_left or 0.0):.4f} of the budget of {self.budget} is left"
        earlier = f" (${self.earlier:.4f} was spent before)" if self.earlier else ""
        return f"${max(0.0, self._funds.left):.4f} of the budget of {self.budget} is left{earlier}"

    def release(self, held: Reservation, cost: float | None) -> None:
        """Give back a reservation; the real cost is counted by now."""
        self._funds.release(held, cost)
        self._settled.set()

    async def close(self) -> None:
        """Give back what was borrowed and not used."""
        if self._lender is not None:
            await self._lender.close(self._funds.spent + self._funds.reserved)


def _unpriced(target: Target, call: Call, prices: Prices) -> str:
    known = prices.worst_case(target, 0, 0) is not None  # then only the tier's price is unknown
    name = f"{target.name}@{call.service_tier}" if known else target.name
    return (
        f"the price of {name} is not known, so a budget cannot be kept: "
        f'give it in flatout.toml under [prices."{name}"], 0 for a server of your own; '
        "or leave such calls out of the budget with allow_unknown_price=True (--allow-unknown-price)"
    )


class Budget:
    """Holds one target's attempts to the purse that all targets share.

    Args:
        target: the target.
        purse: the purse.
        prices: the price list.
        estimate: estimates the cost of an attempt whose cost is never reported.
        cap: the most tokens of a call's answer, if it has no ``max_tokens``; None if that is not known.
    """

    def __init__(
        self,
        target: Target,
        purse: Purse,
        prices: Prices,
        estimate: Callable[[Call], float | None] = lambda _: None,
        cap: Callable[[Call], int | None] = lambda _: None,
    ) -> None:
        self._target = target
        self._purse = purse
        self._prices = prices
        self._longest = 0
        self._estimate = estimate
        self._cap = cap
        self._loading: asyncio.Event | None = None  # set when a call has loaded the price table, or failed to
        self._behind = 0  # calls that wait for the price table

    def __call__(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        if self._behind or (not self._prices.ready(self._target) and self._wants_prices()):
            return self._with_prices(call, call_next)
        return self._pass(call, call_next)

    def _pass(self, call: Call, call_next: CallNext) -> Awaitable[Reply]:
        return self._counted(call, call_next) if self._purse.budget is None else self._reserved(call, call_next)

    def _wants_prices(self) -> bool:
        purse = self._purse
        return current_journey().tells_cost or purse.budget is not None or len(purse.bills) >= MOST_BILLS

    async def _with_prices(self, call: Call, call_next: CallNext) -> Reply:
        """Load the price table before the call is sent, so that its answer does not wait for that.

        The calls continue in order of arrival, all in one turn of the event loop. A call that arrives meanwhile waits
        behind them.
        """
        self._behind += 1
        try:
            if self._prices.ready(self._target):  # those that waited for that are awake, and have their turn first
                await asyncio.sleep(0)
            while not self._prices.ready(self._target):
                await self._load_prices()
        finally:
            self._behind -= 1
        self._purse.reckon()
        return await self._pass(call, call_next)

    async def _load_prices(self) -> None:
        """Load the price table, or wait until another call has loaded it. That call may be cancelled meanwhile."""
        if self._loading is not None:
            await self._loading.wait()
            return
        self._loading = asyncio.Event()
        try:
            await self._prices.load()
        finally:
            self._loading.set()
            self._loading = None

    async def _reserved(self, call: Call, call_next: CallNext) -> Reply:
        """Send the call only if it fits into the budget."""
        purse, tokens = self._purse, most_input(call)
        cap = self._cap(call) if call.max_tokens is None else None
        worst = purse.worst_case(self._target, call, self._prices, self._longest, tokens, cap)
        size = tokens.bit_length()
        kind = (self._target.name, call.max_tokens, call.output is None, call.reasoning_effort, size)
        held = purse.take(kind, worst) or await purse.reserve(kind, worst)
        account = current_journey().account
        before = account.cost
        cost: float | None = None
        try:
            reply = await self._counted(call, call_next)
        except CallError as error:
            if error.reply is not None:  # an answer that cannot be used costs what others cost
                cost = _between(before, account.cost)
            raise
        else:
            cost = _between(before, account.cost)
            return reply
        finally:
            purse.release(held, cost)

    async def _counted(self, call: Call, call_next: CallNext) -> Reply:
        """Add up the cost of the attempt, however it ends."""
        journey = current_journey()
        before = journey.attempts
        try:
            reply = await call_next(call)
        except CallError as error:
            if error.reply is not None or may_have_billed(error):
                self._settle(call, error.reply)
            raise
        except BaseException:
            if journey.attempts > before:  # otherwise it was abandoned while it waited, and not sent
                self._settle(call, None)
            raise
        self._settle(call, reply)
        return reply

    def _settle(self, call: Call, reply: Reply | None) -> None:
        """Add up the cost of an attempt, or keep its bill. Without a reply, its cost is unknown."""
        account = current_journey().account
        if reply is not None:
            self._longest = max(self._longest, reply.usage.output_tokens or 0)
        if self._prices.ready(self._target):
            account.spent(self._pay(call, reply))
        else:
            account.spent(None)
            self._purse.bills.append(partial(self._pay, call, reply, self._prices.wall()))

    def _pay(self, call: Call, reply: Reply | None, at: float | None = None) -> float | None:
        cost = self._cost(call, reply, at) if reply is not None else None
        if cost is None and self._prices.is_free(self._target):
            cost = 0.0
        if cost is None:
            self._purse.pay_unknown(self._reckoned(call))
        else:
            self._purse.pay(cost)
        return cost

    def _reckoned(self, call: Call) -> float:
        """What an attempt of unknown cost counts against the budget. Without a budget nobody asks."""
        return 0.0 if self._purse.budget is None else self._estimate(call) or 0.0

    def _cost(self, call: Call, reply: Reply, at: float | None) -> float | None:
        tier = reply.service_tier or call.service_tier
        return self._prices.cost(self._target, reply.usage, reply.model, service_tier=tier, at=at)


def _between(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
