"""How long an answer may be, for a budget, if nobody said: what the format asks for, or the model's own bound."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from flatout import Client
from flatout.layer import Response
from flatout.money.prices import Prices
from flatout.money.purse import Purse
from flatout.policies.pacing.tokens import ASSUMED_OUTPUT
from flatout.providers import codec_for, registry, unasked_tokens
from flatout.testing import run_virtual
from flatout.values import Call, Target
from tests.support.scripted_wire import Wire

CLAUDE = Target(registry.find("anthropic"), "claude-haiku-4-5")
SMALL = Target(registry.find("openai"), "gpt-3.5-turbo")  # prompt and answer have 16,385 tokens together
NOW = 1_795_176_000.0  # 2026-11-20, noon in UTC


@pytest.mark.parametrize("effort", [None, "none", "low", "high"])
def test_what_a_format_asks_for_is_what_the_budget_reserves(effort):
    """The budget would be kept by another number than the one that is sent."""
    call = Call("x", reasoning_effort=effort)
    sent = json.loads(codec_for(CLAUDE).encode(call).body)["max_tokens"]
    assert unasked_tokens(CLAUDE)(call) == sent
    assert unasked_tokens(SMALL)(call) is None


def test_the_table_knows_how_much_some_models_take():
    """A model that can write 8,000 tokens would reserve money for twice as many."""
    prices = Prices(wall=lambda: NOW)
    asyncio.run(prices.load())
    context = prices.context(SMALL)
    assert context is not None
    assert context < 20_000
    assert prices.context(Target(registry.find("openai"), "no-such-model")) is None
    assert prices.context(Target(registry.find("vllm"), "any")) is None


def test_a_known_cap_is_reserved_and_not_warned_of(caplog):
    """Twice too much would be reserved, or a warning would speak of an assumption that nobody makes."""
    prices, purse = Prices(wall=lambda: NOW), Purse(5.0)
    call = Call("x")
    assert purse.worst_cases.of(CLAUDE, call, prices, cap=4_096) < purse.worst_cases.of(CLAUDE, call, prices, cap=8_192)
    assert not caplog.records
    assert purse.worst_cases.of(CLAUDE, call, prices, cap=10 * ASSUMED_OUTPUT) == purse.worst_cases.of(
        CLAUDE, call, prices
    )
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert purse.worst_cases.of(CLAUDE, call, prices, longest=9_000, cap=4_096) > purse.worst_cases.of(
        CLAUDE, call, prices, cap=4_096
    )


def test_a_small_budget_is_enough_for_a_model_whose_cap_is_known(monkeypatch):
    """A call that may cost two cents at most would be refused, because other models might write more."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    body = {
        "content": [{"type": "text", "text": "fine"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 2},
    }
    wire = Wire(lambda _: Response(200, {}, json.dumps(body).encode()))

    async def main() -> bool:
        async with Client("anthropic/claude-haiku-4-5", transport=wire, config={}, budget=0.03) as client:
            return (await client.result("hi")).ok

    assert run_virtual(main())
