"""Keeps the budget: reserves an attempt's worst case before it is sent, settles it by usage, and adds up the cost.

Loading the price table takes more CPU than everything else in a first call. So a plain call does not load it, if there
is no budget and nobody sees the call's cost. Its bill is kept, and added up when somebody reads `Purse.spent`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from functools import partial

from flatout.errors import BudgetExceeded, CallError, ConfigError
from flatout.journey import current_journey
from flatout.layer import CallNext
from flatout.policies.failures.decision import may_have_billed
from flatout.policies.pacing.tokens import most_input, most_output
from flatout.prices import Prices
from flatout.values import Call, Reply, Target

_log = logging.getLogger("flatout")

MOST_BILLS = 50
"""The most bills that are kept without their costs. Each one holds an answer in memory."""


class Purse:
    """What a Client may spend and has spent over all its targets, in US dollars.

    Attributes:
        budget: the most that may be spent; None for no bound.
        earlier: the spending of other processes on the runs that this one resumes.
        bills: functions that add an attempt to the sums, for attempts from before the price table was loaded.
    """

    __slots__ = (
        "_assumes",
        "_open",
        "_reckoned",
        "_reserved",
        "_runs",
        "_settled",
        "_spent",
        "_turn",
        "_unknown",
        "bills",
        "budget",
        "earlier",
    )

    def __init__(self, budget: float | None) -> None:
        self.budget = budget
        self.earlier = 0.0
        self.bills: list[Callable[[], object]] = []
        self._spent = 0.0
        self._unknown = 0
        self._reckoned = 0.0
        self._runs: set[Hashable] = set()
        self._reserved = 0.0
        self._open = 0
        self._assumes = False
        self._turn = asyncio.Lock()
        self._settled = asyncio.Event()

    def __repr__(self) -> str:
        return f"Purse(spent=${self._spent:.4f}, reserved=${self._reserved:.4f}, budget={self.budget})"

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
    def left(self) -> float:
        """The amount that may still be reserved, if there is a budget."""
        return (self.budget or 0.0) - self.earlier - self._spent - self._reckoned - self._reserved

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

    def pay_unknown(self, estimate: float) -> None:
        """Add an attempt that may have been billed an unknown amount."""
        self._unknown += 1
        self._reckoned += estimate

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

    def go_on(self, run: Hashable, spent: float) -> None:
        """Count a run's earlier spending. Only once for each run: the spending after that is this purse's own."""
        if run not in self._runs:
            self._runs.add(run)
            self.earlier += spent

    def worst_case(self, target: Target, call: Call, prices: Prices, longest: int = 0) -> float:
        """The most US dollars that one attempt may cost. Logs once if that rests on an assumption.

        Args:
            target: the target.
            call: the call.
            prices: the price list.
            longest: tokens of the longest answer that the target has given.

        Raises:
            ConfigError: the price is not known, so a budget cannot be kept.
        """
        output = most_output(call, longest)
        worst = prices.worst_case(target, most_input(call), output, service_tier=call.service_tier)
        if worst is None:
            raise ConfigError(_unpriced(target, call, prices))
        if worst and call.max_tokens is None and not self._assumes:
            self._assumes = True
            _log.warning(
                "without max_tokens, the budget assumes that an answer has at most %s tokens; "
                "set it with max_tokens (--param max_tokens=…)",
                f"{output:,}",
            )
        return worst

    async def reserve(self, worst: float) -> None:
        """Reserve an attempt's worst case, first come, first served.

        Most attempts cost far less. So an attempt that does not fit waits for others to be settled before it fails.

        Raises:
            BudgetExceeded: nothing is in flight that could make room.
        """
        async with self._turn:
            while worst > self.left:
                if not self._open:
                    raise BudgetExceeded(f"not sent: it may cost ${worst:.4f}, and {self._account()}")
                self._settled.clear()
                await self._settled.wait()
            self._open += 1
            self._reserved += worst

    def _account(self) -> str:
        earlier = f" (${self.earlier:.4f} was spent before)" if self.earlier else ""
        return f"${max(0.0, self.left):.4f} of the budget of ${self.budget:g} is left{earlier}"

    def release(self, worst: float) -> None:
        """Give back a reservation; the real cost is counted by now."""
        self._open -= 1
        self._reserved = self._reserved - worst if self._open else 0.0
        self._settled.set()


def _unpriced(target: Target, call: Call, prices: Prices) -> str:
    known = prices.worst_case(target, 0, 0) is not None  # then only the tier's price is unknown
    name = f"{target.name}@{call.service_tier}" if known else target.name
    return (
        f"the price of {name} is not known, so a budget cannot be kept: "
        f'give it in flatout.toml under [prices."{name}"], 0 for a server of your own'
    )


class Budget:
    """Holds one target's attempts to the purse that all targets share.

    Args:
        target: the target.
        purse: the purse.
        prices: the price list.
        estimate: estimates the cost of an attempt whose cost is never reported.
    """

    def __init__(
        self, target: Target, purse: Purse, prices: Prices, estimate: Callable[[Call], float | None] = lambda _: None
    ) -> None:
        self._target = target
        self._purse = purse
        self._prices = prices
        self._longest = 0
        self._estimate = estimate
        self._loading = asyncio.Lock()
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

        The calls continue in order of arrival. A call that arrives meanwhile waits behind them.
        """
        self._behind += 1
        try:
            async with self._loading:  # wakes them one by one, first in, first out
                if not self._prices.ready(self._target):
                    await self._prices.load()
        finally:
            self._behind -= 1
        self._purse.reckon()
        return await self._pass(call, call_next)

    async def _reserved(self, call: Call, call_next: CallNext) -> Reply:
        """Send the call only if it cannot exceed the budget."""
        worst = self._purse.worst_case(self._target, call, self._prices, self._longest)
        await self._purse.reserve(worst)
        try:
            return await self._counted(call, call_next)
        finally:
            self._purse.release(worst)

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
