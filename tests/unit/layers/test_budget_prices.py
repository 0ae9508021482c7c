"""Calls that wait until the price table is loaded."""

from __future__ import annotations

import asyncio

import pytest

from flatout.journey import Journey, set_journey
from flatout.layers.budget import Budget
from flatout.money.prices import Prices
from flatout.money.purse import Purse
from flatout.providers import registry
from flatout.values import Call, Reply, Target

TARGET = Target(registry.find("openai"), "gpt-5-mini")


class Table(Prices):
    """A price table that is loaded when the test says so."""

    __slots__ = ("loads", "there")

    def __init__(self) -> None:
        super().__init__(wall=lambda: 0.0)
        self.there = asyncio.Event()
        self.loads = 0

    async def load(self) -> None:
        self.loads += 1
        await self.there.wait()
        self._loaded = True


class Calls:
    """Calls that pass the layer, each in a task of its own. ``sent`` lists those that went on, in their order."""

    def __init__(self) -> None:
        self.prices = Table()
        self.sent: list[str | None] = []
        self._layer = Budget(TARGET, Purse(None), self.prices)

    def begin(self, name: str) -> asyncio.Task[None]:
        return asyncio.create_task(self._begin(name))

    async def _begin(self, name: str) -> None:
        set_journey(Journey(0.0))
        await self._layer(Call(name), self._answer)

    async def _answer(self, call: Call) -> Reply:
        self.sent.append(call.prompt)
        return Reply(text="x")


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_thousand_calls_that_waited_for_the_prices_go_on_together():
    """One call in a turn of the event loop would go on, and as many come anew: the line would last for the whole run,
    at a quarter of the cost of every call."""

    async def main() -> None:
        calls = Calls()
        for number in range(1_000):
            calls.begin(f"{number}")
        await turns(2)
        assert (calls.sent, calls.prices.loads) == ([], 1)
        calls.prices.there.set()
        await turns(3)
        assert calls.sent == [f"{number}" for number in range(1_000)]

    asyncio.run(main())


@pytest.mark.parametrize("turn", range(5))
def test_a_call_that_comes_when_the_prices_are_there_does_not_pass_those_that_waited(turn):
    """Calls would overtake others that have waited longer."""

    async def main() -> None:
        calls = Calls()
        for number in range(20):
            calls.begin(f"{number}")
        await turns(2)
        calls.prices.there.set()
        await turns(turn)
        await calls.begin("late")
        await turns(5)
        assert calls.sent == [*(f"{number}" for number in range(20)), "late"]

    asyncio.run(main())


def test_another_call_loads_the_prices_if_the_first_is_cancelled():
    """All others would wait for ever for a call that has gone."""

    async def main() -> None:
        calls = Calls()
        first, second, third = (calls.begin(name) for name in ("first", "second", "third"))
        await turns(2)
        first.cancel()
        await turns(3)
        calls.prices.there.set()
        await asyncio.gather(second, third)
        assert first.cancelled()
        assert (calls.sent, calls.prices.loads) == (["second", "third"], 2)

    asyncio.run(main())
