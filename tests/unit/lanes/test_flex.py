"""Calls in the flex lane."""

from __future__ import annotations

import asyncio
import json

import pytest

from flatout.errors import ConfigError, InvalidRequest
from flatout.lanes.flex import check_flex
from flatout.lanes.offers import lanes_of
from flatout.money.prices import Prices
from flatout.providers import codec_for
from flatout.values import Call, Usage

from .batch.support import target


@pytest.mark.parametrize(
    ("provider", "field"),
    [
        ("openai", "service_tier"),
        ("openai-responses", "service_tier"),
        ("groq", "service_tier"),
        ("gemini", "serviceTier"),
    ],
)
def test_the_provider_is_asked_for_its_flex_tier(provider: str, field: str) -> None:
    """The call would be billed at the live price."""
    where = target(provider)
    call = Call("x", service_tier=where.endpoint.flex)
    assert json.loads(codec_for(where).encode(call).body)[field] == "flex"


@pytest.mark.parametrize("call", [Call("x", service_tier="priority"), Call("x", extra={"service_tier": "priority"})])
def test_a_call_with_another_tier_is_refused(call: Call) -> None:
    """One of the two wishes would be ignored in silence."""
    with pytest.raises(InvalidRequest, match="asks for 'priority', and the flex lane for 'flex'"):
        check_flex(call, target("openai"))


def test_a_call_that_asks_for_flex_itself_goes() -> None:
    """It wants the same."""
    check_flex(Call("x", service_tier="flex"), target("openai"))


def test_a_provider_without_flex_is_refused_with_its_lanes() -> None:
    """The user learns what there is instead."""
    with pytest.raises(
        ConfigError, match="anthropic has no flex lane that flatout knows: anthropic/m has live and batch"
    ):
        check_flex(Call("x"), target("anthropic"))


@pytest.mark.parametrize(
    ("provider", "lanes"),
    [
        ("openai", ("live", "flex", "batch")),
        ("azure", ("live", "batch")),
        ("anthropic", ("live", "batch")),
        ("gemini", ("live", "flex", "batch")),
        ("mistral", ("live", "batch")),
        ("groq", ("live", "flex", "batch")),
        ("together", ("live", "batch")),
        ("openrouter", ("live", "batch")),
        ("fireworks", ("live", "batch")),
        ("xai", ("live", "batch")),
        ("deepseek", ("live",)),
        ("ollama", ("live",)),
        ("vllm", ("live",)),
    ],
)
def test_what_each_provider_has(provider: str, lanes: tuple[str, ...]) -> None:
    """A lane that flatout cannot speak would fail after the upload."""
    base = "https://r.openai.azure.com" if provider == "azure" else None
    assert lanes_of(target(provider, base_url=base)) == lanes


@pytest.mark.parametrize(
    ("provider", "model", "lane"),
    [
        ("openai", "gpt-5-mini", "batch"),
        ("openai", "gpt-5-mini", "flex"),
        ("anthropic", "claude-sonnet-4-5", "batch"),
        ("gemini", "gemini-2.5-flash", "batch"),
        ("gemini", "gemini-2.5-flash", "flex"),
        ("mistral", "mistral-small-latest", "batch"),
        ("groq", "llama-3.1-8b-instant", "batch"),
    ],
)
def test_the_bill_knows_the_lane(provider: str, model: str, lane: str) -> None:
    """The cost would be shown as unknown, or as twice what is charged."""
    prices = Prices(wall=lambda: 1_795_000_000.0)
    asyncio.run(prices.load())
    where = target(provider, model)
    used = Usage(input_tokens=1_000, output_tokens=1_000)
    live = prices.cost(where, used, model)
    assert live
    assert prices.cost(where, used, model, service_tier=lane) == pytest.approx(live / 2)
