"""What calls cost."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.errors import ConfigError
from flatout.money.prices import Prices
from flatout.providers import registry
from flatout.values import Endpoint, Target, Usage

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC).timestamp()
PRICES = Prices(wall=lambda: NOW)


def at(name: str, model: str) -> Target:
    return Target(registry.find(name), model)


def used(total: int, answer: int, **more: int) -> Usage:
    return Usage(input_tokens=total, output_tokens=answer, **more)


MODELS = [
    ("openai", "openai", "gpt-5-mini"),
    ("openai", "openai", "gpt-5.4"),  # tiers
    ("openai", "openai", "o3"),  # a price that changed with the date
    ("groq", "groq", "llama-3.3-70b-versatile"),
    ("mistral", "mistral", "mistral-small-latest"),
    ("deepseek", "deepseek", "deepseek-chat"),  # a price that changes with the hour
    ("xai", "x-ai", "grok-4"),
    ("openrouter", "openrouter", "openai/gpt-4o"),
]


@settings(max_examples=150)
@given(
    model=st.sampled_from(MODELS),
    total=st.integers(0, 500_000),
    cached_share=st.floats(0, 1),
    answer=st.integers(0, 100_000),
    hour=st.integers(0, 23),
    tier=st.sampled_from([None, "default", "flex"]),
)
def test_costs_are_those_of_the_table(
    model: tuple[str, str, str], total: int, cached_share: float, answer: int, hour: int, tier: str | None
) -> None:
    """A bill would be wrong: for cached tokens, for a long context, by the hour or by the service tier."""
    name, provider, model_name = model
    if tier == "flex" and model_name not in ("gpt-5-mini", "gpt-5.4"):
        tier = None
    cached = int(total * cached_share)
    when = datetime(2026, 11, 20, hour, tzinfo=UTC)
    expected = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=total, cache_read_tokens=cached, output_tokens=answer),
        model_name,
        provider_id=provider,
        genai_request_timestamp=when,
        price_context={"service_tier": tier} if tier else None,
    )
    prices = Prices(wall=when.timestamp)
    cost = prices.cost(at(name, model_name), used(total, answer, cached_tokens=cached), service_tier=tier)
    assert cost == pytest.approx(float(expected.total_price), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("start", [272_000, 272_001])
def test_a_tier_begins_above_its_start(start: int) -> None:
    """The tokens just at a tier's border would be billed by the wrong rate."""
    _, info = get_snapshot().find_provider_model("gpt-5.4", None, "openai", None)
    expected: Any = info.calc_price(
        genai_prices.Usage(input_tokens=start, output_tokens=1), get_snapshot().find_provider(None, "openai", None)
    )
    assert PRICES.cost(at("openai", "gpt-5.4"), used(start, 1)) == pytest.approx(float(expected.total_price))


def test_what_is_not_known_is_none_never_0() -> None:
    """A spend would be shown as 0 although money went out."""
    target = at("openai", "gpt-5-mini")
    assert PRICES.cost(target, Usage(input_tokens=5)) is None
    assert PRICES.cost(target, Usage(output_tokens=5)) is None
    assert PRICES.cost(at("openai", "no-such-model-xyz"), used(1, 1)) is None
    elsewhere = Endpoint(name="openai", base_url="https://llm.example.com/v1")
    assert PRICES.cost(Target(elsewhere, "gpt-5-mini"), used(1, 1)) is None
    assert PRICES.worst_case(at("openai", "no-such-model-xyz"), 10, 10) is None
    assert PRICES.worst_case(target, 10, None) is None
    assert PRICES.cost(target, used(0, 0)) == 0.0


def test_a_server_of_ones_own_costs_nothing() -> None:
    """A trial on the own machine would end with a bill of unknown height."""
    own = Endpoint(name="mine", base_url="https://api.openai.com/v1", self_hosted=True)
    for target in (at("vllm", "gpt-5-mini"), at("ollama", "x"), Target(own, "gpt-5-mini")):
        usage = Usage(input_tokens=5, output_tokens=5, cached_tokens=2, reasoning_tokens=1)
        assert PRICES.cost(target, usage) == PRICES.worst_case(target, 10, 10, service_tier="any") == 0.0
        assert PRICES.cost(target, Usage()) == 0.0  # whatever it does not tell


def test_own_prices_win() -> None:
    """A negotiated price, or that of one's own server, would be ignored."""
    prices = Prices({"vllm/llama": (1.0, 2.0), "openai/gpt-5-mini": (10, 20)}, wall=lambda: NOW)
    assert prices.cost(at("vllm", "llama"), used(1_000_000, 500_000)) == pytest.approx(2.0)
    assert prices.cost(at("openai", "gpt-5-mini"), used(100, 10), "gpt-5-mini-2025-08-07") == pytest.approx(0.0012)
    assert prices.cost(at("vllm", "alias"), used(1_000_000, 0), "llama") == pytest.approx(1.0)
    assert prices.worst_case(at("vllm", "llama"), 1_000_000, 1_000_000) == pytest.approx(3.0)


@pytest.mark.parametrize("pair", [(1,), (1, -2), (math.nan, 1), (1, math.inf), ("a", 1), 5, None])
def test_a_price_that_is_none_is_refused(pair: Any) -> None:
    """A slip in flatout.toml would make every bill wrong."""
    with pytest.raises(ConfigError, match="the price of vllm/x"):
        Prices({"vllm/x": pair}, wall=lambda: NOW)


def test_the_model_that_answered_sets_the_price() -> None:
    """Azure's deployments have names of the user's own, and a router may take another model."""
    azure = Endpoint(name="azure", base_url="https://mine.openai.azure.com/openai/v1")
    cost = PRICES.cost(Target(azure, "our-deployment"), used(1000, 100), "gpt-4o-2024-08-06")
    assert cost == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)
    routed = PRICES.cost(at("openai", "gpt-5-mini"), used(1000, 100), "gpt-4o")
    assert routed == cost
    fallback = PRICES.cost(at("openai", "gpt-5-mini"), used(1000, 100), "who-knows-xyz")
    assert fallback == PRICES.cost(at("openai", "gpt-5-mini"), used(1000, 100))


def test_a_price_follows_the_hour() -> None:
    """A run through the night would be billed by the price at which it began."""
    now = NOW
    prices = Prices(wall=lambda: now)
    by_day = prices.cost(at("deepseek", "deepseek-chat"), used(1000, 0))
    now += 8 * 3600
    by_night = prices.cost(at("deepseek", "deepseek-chat"), used(1000, 0))
    assert by_day is not None
    assert by_night is not None
    assert by_night < by_day


def test_garbled_parts_do_not_make_a_cost_negative() -> None:
    """A provider that counts more cached tokens than tokens would pay the user."""
    cost = PRICES.cost(at("openai", "gpt-5-mini"), used(10, 5, cached_tokens=1000, reasoning_tokens=99))
    assert cost == pytest.approx(10 * 0.025e-6 + 5 * 2e-6)


def test_what_a_prompt_cache_saved_is_what_it_would_have_cost_without() -> None:
    """The summary would praise a cache that costs more than it saves."""
    mine = at("openai", "m")
    prices = Prices({"openai/m": (1.0, 2.0, 0.1, 1.25)}, wall=lambda: NOW)
    read = used(1_000, 10, cached_tokens=800, cache_write_tokens=0)
    assert prices.saved(mine, read) == pytest.approx(800 * 0.9e-6)
    assert prices.cost(mine, read) == pytest.approx(200e-6 + 80e-6 + 20e-6)
    wrote = used(1_000, 10, cached_tokens=0, cache_write_tokens=800)
    assert prices.saved(mine, wrote) == pytest.approx(-800 * 0.25e-6)
    assert prices.saved(at("openai", "no-such-model"), read) is None
    assert PRICES.saved(at("anthropic", "claude-sonnet-4-5"), read) == pytest.approx(800 * 2.7e-6)


@given(total=st.integers(0, 10**6), answer=st.integers(0, 10**5), cached=st.integers(0, 10**6))
def test_the_worst_case_covers_the_cost(total: int, answer: int, cached: int) -> None:
    """A budget would be overrun by calls that cost more than was reserved."""
    target = at("openai", "gpt-5.4")
    worst = PRICES.worst_case(target, total, answer)
    cost = PRICES.cost(target, used(total, answer, cached_tokens=min(cached, total)))
    assert worst is not None
    assert cost is not None
    assert cost <= worst * (1 + 1e-12) + 1e-15


def test_look_ups_are_cached_and_bounded() -> None:
    """Each call would pay for a search in a table of thousands, or memory grow with odd model names."""
    prices = Prices(wall=lambda: NOW)
    for n in range(3_000):
        prices.cost(at("vllm", "x"), used(1, 1), f"odd-{n}")
    assert len(prices._resolved) <= 1_000


def test_each_service_tier_has_its_own_price() -> None:
    """Half-price calls would be billed in full; calls of a dearer tier, or of an unheard-of one, by the usual price."""
    target = at("openai", "gpt-5-mini")
    usual = PRICES.cost(target, used(1000, 100))
    assert usual is not None
    for tier in ("default", "auto", "standard"):
        assert PRICES.cost(target, used(1000, 100), service_tier=tier) == pytest.approx(usual)
    assert PRICES.cost(target, used(1000, 100), service_tier="flex") == pytest.approx(usual / 2)
    unlisted = at("openai", "gpt-4o-mini")  # the table has no flex price for it
    half = PRICES.cost(unlisted, used(1000, 100), service_tier="flex")
    assert half == pytest.approx((PRICES.cost(unlisted, used(1000, 100)) or 0.0) / 2)
    priority = PRICES.cost(target, used(1000, 100), service_tier="priority")
    assert priority is not None  # the table has it
    assert priority > usual
    assert PRICES.cost(at("anthropic", "claude-sonnet-4-5"), used(10, 1), service_tier="standard") is not None
    for name, model, tier in [
        ("openai", "gpt-5-mini", "nonsense"), ("anthropic", "claude-sonnet-4-5", "priority"),
        ("mistral", "mistral-small-latest", "flex"),
    ]:  # fmt: skip
        assert PRICES.cost(at(name, model), used(10, 1), service_tier=tier) is None


def test_a_price_of_ones_own_may_be_for_a_tier() -> None:
    """A tier that the table does not know could not be priced at all."""
    prices = Prices({"openai/gpt-5-mini@best": (9, 9), "vllm/x": (1, 1)}, wall=lambda: NOW)
    target = at("openai", "gpt-5-mini")
    assert prices.cost(target, used(1_000_000, 0), service_tier="best") == pytest.approx(9.0)
    assert prices.cost(target, used(1_000_000, 0)) == pytest.approx(0.25)
    assert prices.cost(at("vllm", "x"), used(1_000_000, 0), service_tier="any") == pytest.approx(1.0)


def test_the_worst_case_knows_the_tier() -> None:
    """A budget would be overrun: by a dearer tier, by a cheap one served at the usual price, or by an unknown one."""
    target = at("openai", "gpt-5-mini")
    usual = PRICES.worst_case(target, 1000, 100)
    assert usual is not None
    assert PRICES.worst_case(target, 1000, 100, service_tier="flex") == usual
    dear = PRICES.worst_case(target, 1000, 100, service_tier="priority")
    assert dear is not None
    assert dear > usual
    assert PRICES.worst_case(target, 1000, 100, service_tier="nonsense") is None


def test_a_long_context_costs_by_its_own_rate() -> None:
    """A prompt above a model's threshold would be billed by the rate of a short one."""
    target = at("openai", "gpt-5.4")
    short, long = PRICES.cost(target, used(200_000, 0)), PRICES.cost(target, used(400_000, 0))
    assert short is not None
    assert long == pytest.approx(4 * short)  # twice the tokens, at twice the rate
