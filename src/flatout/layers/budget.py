"""Keeps the budget: tells what an attempt may cost, settles it by usage, and adds up the cost.

The money is reserved further in, when the target's queue lets the attempt go (`flatout.admission`): if all calls that
wait for their turn held money, one process would hold all of a small budget that it shares with others. How much is
reserved, and whether that is left, is decided by `flatout.policies.spending`. `flatout.money.purse` has the sums.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from flatout.errors import CallError, DeadlineExceeded
from flatout.journey import Journey, current_journey
from flatout.layer import CallNext
from flatout.money.attempt import Money
from flatout.money.prices import Prices
from flatout.money.purse import Purse
from flatout.policies.failures.decision import may_have_billed
from flatout.policies.pacing.tokens import most_input
from flatout.values import Call, Reply, Target

MOST_BILLS = 50
"""The most bills that are kept without their costs. Each one holds an answer in memory."""


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
        self._name = target.name
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
        """Have the call's money reserved when it is let go; see `flatout.money.attempt.Money`."""
        journey = current_journey()
        account = journey.account
        money = journey.money = self._money(call)
        before = account.cost
        cost: float | None = None
        try:
            if self._purse.asks:
                journey.give_back()
                await self._asked(money, journey)
            elif journey.permit is not None and not money.take():
                journey.give_back()  # else it would hold a permit that calls with money wait for
            reply = await self._counted(call, call_next)
        except CallError as error:
            if error.reply is not None:  # an answer that cannot be used costs what others cost
                cost = _between(before, account.cost)
            raise
        else:
            cost = _between(before, account.cost)
            return reply
        finally:
            journey.money = None
            money.release(cost)

    def _money(self, call: Call) -> Money:
        """What an attempt may cost."""
        tokens = most_input(call)
        cap = self._cap(call) if call.max_tokens is None else None
        worst = self._purse.worst_cases.of(self._target, call, self._prices, self._longest, tokens, cap)
        size = tokens.bit_length()
        kind = (self._target.name, call.max_tokens, call.output is None, call.reasoning_effort, size)
        return Money(self._purse, kind, worst)

    @staticmethod
    async def _asked(money: Money, journey: Journey) -> None:
        """Ask elsewhere for an attempt's money."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await money.wait()
        finally:
            journey.account.waited("budget", loop.time() - began)

    async def _counted(self, call: Call, call_next: CallNext) -> Reply:
        """Add up the cost of the attempt, however it ends, and note it in the call's trail."""
        journey = current_journey()
        account = journey.account
        attempts, cost = account.attempts, account.cost
        try:
            reply = await call_next(call)
        except CallError as error:
            if error.reply is not None or may_have_billed(error):
                self._settle(call, error.reply)
            journey.went(self._name, attempts, cost, error.reply, type(error).__name__)
            raise
        except BaseException:
            if account.attempts > attempts:  # otherwise it was abandoned while it waited, and not sent
                self._settle(call, None)
            journey.went(self._name, attempts, cost, None, DeadlineExceeded.__name__)
            raise
        self._settle(call, reply)
        if journey.passage is not None:
            journey.went(self._name, attempts, cost, reply)
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
