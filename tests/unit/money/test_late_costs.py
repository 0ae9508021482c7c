"""What a plain call costs is found out when somebody wants to know, and no other cost comes later than its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from flatout import Call, CallError, Client
from flatout.errors import AttemptTimeout
from flatout.events import CallFinished
from flatout.journey import Journey, reset_journey, set_journey
from flatout.layers.budget import MOST_BILLS, Budget
from flatout.money import prices
from flatout.money.purse import Purse
from flatout.providers import registry
from flatout.testing import run_virtual
from flatout.values import Reply, Target, Usage
from tests.support.scripted_wire import Wire, completion

PRICE = 0.25 + 2.0  # a million tokens in and out
NOON = 1_795_176_000.0  # 2026-11-20, in UTC


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each look into the table of prices."""
    seen: list[None] = []
    table = prices._table
    monkeypatch.setattr(prices, "_table", lambda: seen.append(None) or table())
    return seen


def with_client(use: Callable[[Client], Awaitable[None]], answer=lambda _: completion("x", 1_000_000), **options):
    async def main() -> None:
        async with Client("openai/gpt-5-mini", api_key="x", config={}, transport=Wire(answer), **options) as made:
            await use(made)

    run_virtual(main())


def test_plain_calls_cost_what_they_cost(looks: list[None]):
    """The bill of a program of single calls would be 0, or its first answer wait for a table that nobody needs."""

    async def use(made: Client) -> None:
        await asyncio.gather(made.call("a"), made.call("b"))
        assert looks == []
        assert repr(made) == "Client(model='openai/gpt-5-mini', spent=not added up yet, closed=False)"
        assert (made.spent, made.unpriced) == (pytest.approx(2 * PRICE), 0)
        assert looks

    with_client(use)


def test_an_attempt_without_an_answer_is_of_unknown_cost(looks: list[None]):
    """A timeout may be billed: the sum would look complete."""

    async def use(made: Client) -> None:
        with pytest.raises(AttemptTimeout):
            await made.call("a", timeout=0.5)
        assert looks == []
        assert (made.spent, made.unpriced) == (0.0, 1)

    with_client(use, lambda _: 5.0, retries=0)


def test_bills_are_not_collected_without_end():
    """A server that answers a call a second would keep every answer in memory until somebody asked for the sum."""

    async def use(made: Client) -> None:
        purse = made._engine.stack.purse
        for _ in range(2 * MOST_BILLS):
            await made.call("a")
            assert len(purse.bills) <= MOST_BILLS
        assert not purse.bills
        assert made.spent == pytest.approx(2 * MOST_BILLS * PRICE)

    with_client(use)


def test_whoever_is_told_a_cost_is_told_it_at_once(looks: list[None]):
    """Results, events, and the results of functions that make calls would say that the cost is unknown."""
    heard: list[float | None] = []

    async def function(item: str, made: Client) -> str:
        return (await made.call(item)).text

    async def use(made: Client) -> None:
        assert [result.cost for result in await made.gather(["a"])] == [pytest.approx(PRICE)]

    async def use_map(made: Client) -> None:
        assert [result.cost async for result in made.map(function, ["a"])] == [pytest.approx(PRICE)]

    async def use_events(made: Client) -> None:
        made.events.subscribe(lambda event: isinstance(event, CallFinished) and heard.append(event.journey.cost))
        await made.call("a")
        assert heard == [pytest.approx(PRICE)]

    async def use_after_a_plain_call(made: Client) -> None:
        await made.call("a")
        result = await made.result("b")
        assert result.cost == pytest.approx(PRICE)
        assert made.spent == pytest.approx(2 * PRICE)

    for each in (use, use_map, use_events, use_after_a_plain_call):
        with_client(each)


def test_a_budget_is_kept_from_the_first_call_on():
    """Plain calls would be sent past the budget, because nobody had looked at their price."""

    async def use(made: Client) -> None:
        with pytest.raises(CallError, match="not sent"):
            await made.call("a" * 100, max_tokens=1_000_000)

    with_client(use, budget=1.0)


def test_a_bill_has_the_price_of_its_time():
    """A call at noon would cost what the table says for midnight, if somebody asked for the sum only then."""
    now = NOON
    target = Target(registry.find("deepseek"), "deepseek-chat")
    table = prices.Prices(wall=lambda: now)
    purse = Purse(None)
    usage = Usage(input_tokens=1_000_000, output_tokens=0)

    async def answer(_: Call) -> Reply:
        return Reply(text="x", usage=usage)

    async def main() -> None:
        token = set_journey(Journey(0.0, tells_cost=False))
        try:
            await Budget(target, purse, table)(Call("x"), answer)
        finally:
            reset_journey(token)

    asyncio.run(main())
    at_noon = table.cost(target, usage)
    now += 8 * 3600
    assert table.cost(target, usage) != at_noon
    assert purse.spent == at_noon
