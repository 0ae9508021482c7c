"""Money: reserves an attempt's worst case before it is sent, settles from its usage, and adds up what was spent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from flatout.errors import BudgetExceeded, CallError, ConfigError
from flatout.layer import CallNext, journey
from flatout.policies.classify import may_have_billed
from flatout.policies.estimate import most_input
from flatout.policies.price import Prices
from flatout.values import Call, Reply, Target


class Purse:
    """What a Client may spend and has spent, in US dollars, over all its targets.

    Attributes:
        budget: the most that may be spent; None for no bound.
        spent: what is known to be spent.
        unknown: attempts that may have been billed an amount that is not known.
    """

    __slots__ = ("_open", "_reserved", "_settled", "_turn", "budget", "spent", "unknown")

    def __init__(self, budget: float | None) -> None:
        self.budget = budget
        self.spent = 0.0
        self.unknown = 0
        self._reserved = 0.0
        self._open = 0
        self._turn = asyncio.Lock()
        self._settled = asyncio.Event()

    def __repr__(self) -> str:
        return f"Purse(spent=${self.spent:.4f}, reserved=${self._reserved:.4f}, budget={self.budget})"

    async def reserve(self, worst: float, budget: float) -> None:
        """Set an attempt's worst case aside, first come, first served.

        Most attempts cost far less than that, so one that does not fit waits for others to be settled before it is
        given up.

        Raises:
            BudgetExceeded: nothing is under way that could make room.
        """
        async with self._turn:
            while worst > (left := budget - self.spent - self._reserved):
                if not self._open:
                    raise BudgetExceeded(
                        f"not sent: it may cost ${worst:.4f}, and of the budget of ${budget:g} ${left:.4f} is left"
                    )
                self._settled.clear()
                await self._settled.wait()
            self._open += 1
            self._reserved += worst

    def release(self, worst: float) -> None:
        """Give back what was set aside; what it cost is in ``spent`` by now."""
        self._open -= 1
        self._reserved = self._reserved - worst if self._open else 0.0
        self._settled.set()


def worst_case(target: Target, call: Call, prices: Prices) -> float:
    """The most US dollars that one attempt may cost.

    Raises:
        ConfigError: nothing bounds it, or the price is not known: a budget could not be kept.
    """
    if call.max_tokens is None:
        raise ConfigError("a budget can be kept only where the answer's length is bounded: give max_tokens")
    worst = prices.worst_case(target, most_input(call), call.max_tokens, service_tier=call.service_tier)
    if worst is None:
        known = prices.worst_case(target, 0, 0) is not None  # and it is the tier's alone that is not
        name = f"{target.name}@{call.service_tier}" if known else target.name
        raise ConfigError(
            f"the price of {name} is not known, so a budget cannot be kept: "
            f'give it in flatout.toml under [prices."{name}"]'
        )
    return worst


class Budget:
    """Holds one target's attempts to the purse that all targets share."""

    def __init__(self, target: Target, purse: Purse, prices: Prices) -> None:
        self._target = target
        self._purse = purse
        self._prices = prices

    def __call__(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        budget = self._purse.budget
        return self._watched(call, call_next) if budget is None else self._reserved(call, call_next, budget)

    async def _reserved(self, call: Call, call_next: CallNext, budget: float) -> Reply:
        """Send it only if it cannot exceed the budget."""
        worst = worst_case(self._target, call, self._prices)
        await self._purse.reserve(worst, budget)
        try:
            return await self._watched(call, call_next)
        finally:
            self._purse.release(worst)

    async def _watched(self, call: Call, call_next: CallNext) -> Reply:
        """Add up what the attempt costs, whatever its end."""
        trip = journey()
        before = trip.attempts
        try:
            reply = await call_next(call)
        except CallError as error:
            if error.reply is not None:
                self._settle(call, error.reply)
            elif may_have_billed(error):
                self._unknown()
            raise
        except BaseException:
            if trip.attempts > before:  # else it was given up while it waited, and not sent
                self._unknown()
            raise
        self._settle(call, reply)
        return reply

    def _settle(self, call: Call, reply: Reply) -> None:
        tier = reply.service_tier or call.service_tier
        cost = self._prices.cost(self._target, reply.usage, reply.model, service_tier=tier)
        if cost is None:
            self._unknown()
            return
        self._purse.spent += cost
        trip = journey()
        if trip.cost is not None:
            trip.cost += cost

    def _unknown(self) -> None:
        self._purse.unknown += 1
        journey().cost = None
