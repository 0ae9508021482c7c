"""Routes wherever a model may stand, on the virtual clock: embeddings, streams, functions, agents, budgets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from flatout import Budget, Client, Limits, Result, Route
from flatout.agents import Agent
from flatout.testing import Faults, ProviderSettings, run_virtual
from tests.support.several_providers import Providers

BOTH = Route("a/m", "b/m")
DOWN: dict[str, Any] = {"outage": (0.0, 1e9), "outage_as": "refused"}
PRICES = {"a/m": {"input": 0.0, "output": 1_000.0}, "b/m": {"input": 0.0, "output": 3_000.0}}


def providers(both: dict[str, Any] | None = None, **first: Any) -> Providers:
    settings: dict[str, Any] = {"rpm": 600, "burst": 1.0, "latency": 2.0} | (both or {})
    return Providers(a=ProviderSettings(**settings | first), b=ProviderSettings(**settings))


def made(several: Providers, model: str = BOTH, **options: Any) -> Client:
    given = {"limits": Limits(rpm=600), "config": several.config(prices=PRICES), **options}
    return several.client(model, **given)


def test_embeddings_take_a_route():
    """Texts would be lost with the first of two servers."""
    for first in ({}, DOWN):
        several = providers(**first)

        async def main(several: Providers = several) -> list[Result[Any]]:
            async with made(several) as client:
                return await client.embed(f"text {number}" for number in range(5_000))

        results = run_virtual(main())
        assert all(result.ok and len(result.output) == 256 for result in results)
        assert several.seen("answered")["b"] > 0


def test_a_stream_takes_a_route():
    """Somebody who reads along would see the outage of one provider."""
    several = providers(**DOWN)

    async def main() -> tuple[str, str]:
        async with made(several) as client, client.stream("question") as stream:
            text = "".join([piece async for piece in stream])
            return text, stream.reply.text

    text, whole = run_virtual(main())
    assert text == whole != ""


def test_a_function_that_is_kept_takes_a_route(tmp_path: Path):
    """A function's calls would all go to one target, or be paid again in the next process."""
    several = providers({"rpm": None}, faults=Faults(server_error=0.1))

    async def three(item: int, client: Client) -> list[str | None]:
        return [(await client.call(f"{item} {step}")).text for step in range(3)]

    async def main() -> list[Result[Any]]:
        async with made(several, limits=Limits(concurrency=5)) as client:
            return [result async for result in client.map(three, range(100), store=tmp_path / "map.flatout")]

    assert all(result.ok for result in run_virtual(main()))
    assert min(several.seen("answered").values()) > 50
    before = several.seen("received")
    assert all(result.ok for result in run_virtual(main()))
    assert several.seen("received") == before


def test_an_agent_takes_a_route():
    """An agent's run would end with the first of two providers."""
    several = providers(**DOWN)

    async def main() -> Any:
        async with made(several) as client:
            return await client.run_agent(Agent(), "What is the weather?")

    outcome = run_virtual(main())
    assert outcome.answer
    assert several.seen("answered")["b"] > 0


def test_a_budget_counts_each_target_at_its_own_price():
    """The second target's answers would be counted at the first one's price, and the budget be exceeded."""
    several = providers()

    async def main() -> tuple[list[Result[Any]], float]:
        async with made(several, budget=Budget(usd=20.0)) as client:
            results = await client.gather(f"question {number}" for number in range(600))
            return results, client.spent

    results, spent = run_virtual(main())
    answered = [result for result in results if result.ok]
    assert 0 < len(answered) < 600
    for result in answered:
        price = PRICES[result.trail[-1].target]["output"] / 1e6
        assert abs(result.cost - price * result.reply.usage.output_tokens) < 1e-9
        assert result.trail[-1].cost == result.cost
    assert abs(sum(result.cost or 0.0 for result in results) - spent) < 1e-6
    assert spent <= 20.0 * 1.1


def test_a_group_may_have_the_name_of_an_endpoint():
    """The state of one of them would not show, nor what it has learnt be kept."""
    several = providers()
    config = {
        "endpoints": {
            "a": {"base_url": "http://a.test/v1"},
            "other": {"base_url": "http://b.test/v1", "group": "a"},
        }
    }

    async def main() -> list[str]:
        async with several.client(Route("a/m", "other/m"), config=config, limits=Limits(rpm=600)) as client:
            await client.gather(f"question {number}" for number in range(100))
            return [status.target for status in client.status()]

    assert sorted(run_virtual(main())) == ["a/m", "a/m (group)"]
    assert min(several.seen("answered").values()) > 30


def test_limits_are_those_of_each_target():
    """``--rpm`` would be shared by all targets, and most of what was paid for lie idle."""
    several = providers()

    async def main() -> float:
        async with made(several, limits=Limits(rpm=600), config=several.config()) as client:
            results = await client.gather(f"question {number}" for number in range(1_200))
            assert all(result.ok for result in results)
            return asyncio.get_running_loop().time()

    assert run_virtual(main()) <= 1_200 / 20 / 0.95 + 6.0
    assert sum(several.seen("refused").values()) == 0
