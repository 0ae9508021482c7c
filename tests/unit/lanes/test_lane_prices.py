"""What a lane costs: the price list says it, and everybody else says the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flatout import Client
from flatout.lanes.offers import lanes_of
from flatout.lanes.within import ways
from flatout.providers.registry import BUILT_IN
from flatout.testing import ProviderModel, SimulatedTransport
from flatout.values import Usage

AZURE = {"endpoints": {"azure": {"base_url": "https://r.openai.azure.com"}}}
ALL = [name for name in BUILT_IN if name not in ("ollama", "vllm", "llamacpp")]
MODELS = {
    "openai": "gpt-5-mini", "openai-responses": "gpt-5-mini", "azure": "gpt-5-mini", "xai": "grok-4",
    "anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash", "mistral": "mistral-small-latest",
    "groq": "llama-3.1-8b-instant", "deepseek": "deepseek-chat", "openrouter": "openai/gpt-5-mini",
    "together": "meta-llama/Llama-3.3-70B-Instruct-Turbo", "fireworks": "accounts/fireworks/models/gpt-oss-20b",
}  # fmt: skip
USED = Usage(input_tokens=1_000, output_tokens=250)


def shares(provider: str, prices: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """What each lane costs beside the live one: by the bill of a run, by a plan, and by the choice of a lane."""
    model = f"{provider}/{MODELS[provider]}"

    async def main() -> dict[str, dict[str, float | None]]:
        config = {**AZURE, "prices": {f"{model}{of}": price for of, price in prices.items()}}
        transport = SimulatedTransport(ProviderModel())
        async with Client(model, api_key="k", config=config, transport=transport) as client:
            known, target = client._engine.stack.prices, client._engine.targets.target(model)
            await known.load()
            live = known.cost(target, USED)
            assert live
            billed = {lane: known.cost(target, USED, service_tier=lane) for lane in ("flex", "batch")}
            plan = await client.plan(["x"] * 3, dry_run=True)
            planned = {lane.name: lane.cost for lane in plan.models[0].lanes if lane.offered}
            assert planned["live"] is not None
            return {
                "run": {lane: None if cost is None else cost / live for lane, cost in billed.items()},
                "plan": {
                    lane: None if cost is None else cost.p50 / planned["live"].p50 for lane, cost in planned.items()
                },
                "auto": {way.lane: way.share for way in ways(client._engine, model, 3)},
                "there": dict.fromkeys(lanes_of(target)),
            }

    return asyncio.run(main())


@pytest.mark.parametrize("own", [False, True], ids=["the list's price", "a price of one's own"])
@pytest.mark.parametrize("provider", ALL)
def test_a_run_a_plan_and_the_choice_of_a_lane_agree(provider: str, own: bool) -> None:
    """A plan would promise half the price, and the run's bill say something else."""
    found = shares(provider, {"": {"input": 1.0, "output": 4.0}} if own else {})
    run, there = found["run"], found["there"]
    for who in ("plan", "auto"):
        for lane, share in found[who].items():
            assert share == pytest.approx(1.0 if lane == "live" else run[lane]), (who, lane)
    spoken = {lane for lane in found["plan"] if lane in there}
    assert spoken == set(there)
    assert set(found["plan"]) - spoken == ({"batch"} if provider == "fireworks" else set())  # no account is named


@pytest.mark.parametrize(
    ("provider", "flex", "batch"),
    [
        ("openai", 0.5, 0.5),
        ("openai-responses", 0.5, 0.5),
        ("azure", None, 0.5),
        ("anthropic", None, 0.5),
        ("gemini", 0.5, 0.5),
        ("mistral", None, 0.5),
        ("groq", 1.0, 0.5),
        ("together", None, None),
        ("openrouter", None, None),
        ("fireworks", None, 0.5),
        ("xai", None, None),
    ],
)
def test_a_share_is_the_providers_own_word(provider: str, flex: float | None, batch: float | None) -> None:
    """ "Up to a half" would be billed as a half, and a half as the whole."""
    found = shares(provider, {"": {"input": 1.0, "output": 4.0}})["run"]
    assert (found["flex"], found["batch"]) == (flex and pytest.approx(flex), batch and pytest.approx(batch))


def test_a_lane_may_have_a_price_of_ones_own() -> None:
    """Where the provider names no price, nobody could give it."""
    prices = {"": {"input": 1.0, "output": 4.0}, "@batch": {"input": 0.75, "output": 3.0}}
    for who, found in shares("together", prices).items():
        assert who == "there" or found["batch"] == pytest.approx(0.75)


def test_the_share_of_a_model_that_no_list_has_is_known() -> None:
    """A new model's batches would count as dear as live calls, though the provider sells all of them at half."""

    async def main() -> float | None:
        async with Client(
            "openai/gpt-of-tomorrow", api_key="k", transport=SimulatedTransport(ProviderModel())
        ) as client:
            return next(way.share for way in ways(client._engine, None, 3) if way.lane == "batch")

    assert asyncio.run(main()) == 0.5
