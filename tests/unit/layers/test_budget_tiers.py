"""Service tiers and money."""

from __future__ import annotations

import asyncio

import pytest

from flatout.errors import ConfigError
from flatout.journey import Journey, reset_journey, set_journey
from flatout.layers.budget import Budget
from flatout.money.prices import Prices
from flatout.money.purse import Purse
from flatout.providers import registry
from flatout.values import Call, Reply, Target, Usage

TARGET = Target(registry.find("openai"), "gpt-5-mini")
NOW = 1_795_176_000.0  # 2026-11-20, noon in UTC


def spent(call: Call, told: str | None, budget: float | None = None) -> tuple[float, int]:
    """What is spent on an answer of a million tokens of input, and how many attempts are without a price."""
    purse = Purse(budget)
    layer = Budget(TARGET, purse, Prices(wall=lambda: NOW))

    async def answer(_: Call) -> Reply:
        return Reply(text="x", usage=Usage(input_tokens=1_000_000, output_tokens=0), service_tier=told)

    async def main() -> None:
        token = set_journey(Journey(0.0))
        try:
            await layer(call, answer)
        finally:
            reset_journey(token)

    asyncio.run(main())
    return purse.spent, purse.unknown


def test_the_tier_that_answered_is_billed():
    """Half-price answers would be billed in full, and a call served at the usual price by the tier it asked for."""
    assert spent(Call("x"), None) == (pytest.approx(0.25), 0)
    assert spent(Call("x", service_tier="flex"), "flex") == (pytest.approx(0.125), 0)
    assert spent(Call("x", service_tier="flex"), "default") == (pytest.approx(0.25), 0)
    assert spent(Call("x", service_tier="flex"), None) == (pytest.approx(0.125), 0)
    assert spent(Call("x"), "unheard-of") == (0.0, 1)


def test_a_tier_without_a_price_is_refused_a_budget():
    """The budget would be overrun by calls that cost more than anybody knew."""
    with pytest.raises(ConfigError, match=r'the price of openai/gpt-5-mini@best .*\[prices."openai/gpt-5-mini@best"\]'):
        spent(Call("x", service_tier="best", max_tokens=5), None, budget=1.0)
