"""What calls cost: from the offline price table of genai-prices, and from the user's own prices.

An unknown price is None, never 0: a bill of "unknown" is honest, a bill of 0 is wrong. A look-up in the table costs
tens of microseconds. So each target's rates are resolved into plain floats once a minute (some prices change with the
date or the hour); after that, a cost takes about one microsecond.

To load the table takes 0.1 s of CPU, more than all the rest of a first call. So it is loaded only when a cost is wanted
(`Prices.ready`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from msgspec.structs import replace

from flatout.errors import ConfigError
from flatout.values import Endpoint, Target, Usage

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider

STANDARD_TIERS = frozenset({"auto", "default", "standard", "standard_only", "on_demand"})
"""Names of the normal service tier, which has the standard price: as providers report it, or as callers ask for it."""

_SHARES: Mapping[str, Mapping[str, float]] = {
    "api.openai.com": {"flex": 0.5, "batch": 0.5},
    "openai.azure.com": {"batch": 0.5},
    "azure-api.net": {"batch": 0.5},
    "cognitiveservices.azure.com": {"batch": 0.5},
    "services.ai.azure.com": {"batch": 0.5},
    "api.anthropic.com": {"batch": 0.5},
    "googleapis.com": {"flex": 0.5, "batch": 0.5},
    "api.mistral.ai": {"batch": 0.5},
    "api.groq.com": {"flex": 1.0, "batch": 0.5},
    "api.together.xyz": {},
    "openrouter.ai": {},
    "api.fireworks.ai": {"batch": 0.5},
    "api.x.ai": {},
}
"""What the flex and batch lanes cost as a share of the standard price, by the provider's domain: their own words of
November 2026. A lane that is not here has no known price: Together and xAI say "up to" a half, OpenRouter "about"."""

_LANES = frozenset({"flex", "batch"})
"""The tiers that are lanes: cheaper and slower ways to ask for the same answer."""

USUAL = Usage(input_tokens=1_000, output_tokens=250)
"""A call by which two prices are compared, if nothing is known of the calls."""

_MOST_CACHED = 1_000
"""Resolved rates that are kept. Providers choose the model names in the keys, so their number needs a bound."""


class Rates(NamedTuple):
    """US dollars per token, for prompts of more than ``above`` tokens, and per request.

    None means that the kind of token has no price of its own. It then costs what its parent kind costs: a cached token
    costs as much as an input token.
    """

    above: int
    request: float
    input: float | None
    output: float | None
    cached: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None


class Prices:
    """Costs of calls, in US dollars.

    Args:
        overrides: ``{"endpoint/model": (input, output)}`` in US dollars per million tokens, or ``(input, output,
            cache_read, cache_write)``, of which the last two may be None. They win over the table. An override holds
            for all service tiers, except those that have their own, as ``endpoint/model@tier``, and the flex and batch
            lanes of a known provider: these cost the share of it that the provider names, or an unknown price if it
            names none. Without an override, tokens of a self-hosted server cost 0.
        wall: the wall clock, in seconds since the epoch (`time.time`).

    Attributes:
        wall: the same.

    Raises:
        ConfigError: an override is not two numbers of 0 or more.
    """

    __slots__ = ("_contexts", "_loaded", "_overrides", "_resolved", "wall")

    def __init__(
        self, overrides: Mapping[str, tuple[float | None, ...]] | None = None, *, wall: Callable[[], float]
    ) -> None:
        self._overrides = {name: _override(name, pair) for name, pair in (overrides or {}).items()}
        self.wall: Callable[[], float] = wall
        self._loaded = False
        self._contexts: dict[tuple[str, str], int | None] = {}
        self._resolved: dict[tuple[str, str, str, str | None, str | None], tuple[int, tuple[Rates, ...]]] = {}

    async def load(self) -> None:
        """Load the table, in a thread."""
        await asyncio.to_thread(_table)
        self._loaded = True  # not in the thread: calls that wait for this keep their turn

    def load_now(self) -> None:
        """Load the table: 0.1 s, in which an event loop would stand still."""
        _table()
        self._loaded = True

    def ready(self, target: Target) -> bool:
        """Whether a target's costs are known without loading the table first."""
        endpoint = target.endpoint
        return self._loaded or endpoint.self_hosted or target.name in self._overrides or _is_here(endpoint.base_url)

    def cost(
        self,
        target: Target,
        usage: Usage,
        model_reported: str | None = None,
        *,
        service_tier: str | None = None,
        at: float | None = None,
    ) -> float | None:
        """What an attempt cost; None if its price or its token counts are unknown.

        Args:
            target: where it was sent.
            usage: the tokens that the provider counted.
            model_reported: the model that answered, as the provider names it. It wins over the target's name, which
                may be an alias or a deployment.
            service_tier: the tier that answered (``flex``, ``priority``). The standard price applies to the standard
                tiers only. The price of a tier that the table does not have is unknown.
            at: when it was answered, on the wall clock; None for now.
        """
        if usage.input_tokens is None or usage.output_tokens is None:
            return 0.0 if self.is_free(target) else None
        rates = self._rates(target, usage.input_tokens, model_reported, service_tier, at)
        return _cost(rates, usage) if rates is not None else None

    def saved(
        self, target: Target, usage: Usage, model_reported: str | None = None, *, service_tier: str | None = None
    ) -> float | None:
        """What the provider's prompt cache saved in an attempt, less what it cost to write; None if that is unknown.

        It is negative if more was written than read.
        """
        plain = replace(usage, cached_tokens=None, cache_write_tokens=None)
        costs = [self.cost(target, each, model_reported, service_tier=service_tier) for each in (plain, usage)]
        return None if costs[0] is None or costs[1] is None else costs[0] - costs[1]

    def share(
        self, target: Target, tier: str | None, *, usage: Usage = USUAL, beside: str | None = None
    ) -> float | None:
        """The price of a tier as a share of another tier's; None if it is not known.

        Args:
            target: where calls go.
            tier: the tier; None for the standard one.
            usage: the tokens of a typical call, because a tier may be cheaper for some kinds of tokens only.
            beside: the other tier; None for the standard one.
        """
        part = self.cost(target, usage, service_tier=tier)
        whole = self.cost(target, usage, service_tier=beside)
        if part is not None and whole is not None:
            return part / whole if whole else (1.0 if part == whole else None)
        named, other = _named(target.endpoint.base_url, tier), _named(target.endpoint.base_url, beside)
        return named / other if named is not None and other else None

    def is_known(self, target: Target) -> bool:
        """Whether the target's tokens have a price."""
        return self._rates(target, 0, None, None) is not None

    def is_free(self, target: Target) -> bool:
        """Whether the target's tokens cost nothing, however many they are."""
        return self._rates(target, 0, None, None) == _FREE

    def worst_case(
        self, target: Target, input_tokens: int, max_tokens: int | None, *, service_tier: str | None = None
    ) -> float | None:
        """The most that an attempt can cost: nothing is read from a cache, and the answer has its full length.

        If the call asks for a tier, this is at least the standard price, because the provider may fall back to that.
        None if the price is unknown, or if nothing bounds the answer.
        """
        if max_tokens is None:
            return None
        worst = 0.0
        for tier in (None,) if service_tier is None else (None, service_tier):
            rates = self._rates(target, input_tokens, None, tier)
            if rates is None or rates.input is None or rates.output is None:
                return None
            worst = max(
                worst,
                input_tokens * max(rates.input, rates.cache_write or 0.0)
                + max_tokens * max(rates.output, rates.reasoning or 0.0)
                + rates.request,
            )
        return worst

    def context(self, target: Target) -> int | None:
        """The most tokens of prompt and answer together that a model can take; None if the table does not say."""
        if target.endpoint.self_hosted or (target.name in self._overrides and not self._loaded):
            return None
        key = (target.endpoint.base_url, target.model)
        if key not in self._contexts:
            found = _find(*key)
            self._contexts[key] = found and found[1].context_window
        return self._contexts[key]

    def _rates(
        self,
        target: Target,
        input_tokens: int,
        model_reported: str | None,
        service_tier: str | None,
        at: float | None = None,
    ) -> Rates | None:
        minute = int((self.wall() if at is None else at) // 60)
        endpoint = target.endpoint
        key = (endpoint.name, endpoint.base_url, target.model, model_reported, service_tier)
        known = self._resolved.get(key)
        if known is None or known[0] != minute:
            if len(self._resolved) >= _MOST_CACHED:
                self._resolved.clear()
            known = self._resolved[key] = (minute, self._resolve(target, model_reported, service_tier, minute * 60))
        for step in known[1]:
            if input_tokens > step.above:
                return step
        return None

    def _resolve(self, target: Target, model_reported: str | None, tier: str | None, at: float) -> tuple[Rates, ...]:
        endpoint = target.endpoint
        names = (target.name, f"{endpoint.name}/{model_reported}")
        for name in names:
            if own := self._overrides.get(f"{name}@{tier}"):
                return (own,)
        for name in names:
            if own := self._overrides.get(name):
                share = _share_of_own(endpoint, tier)
                return (_times(own, share),) if share is not None else ()
        if endpoint.self_hosted:
            return (_FREE,)  # a machine's price is not per token, and local runs need not load the table
        for model in (model_reported, target.model):
            found = _look_up(endpoint.base_url, model, tier, at) if model else None
            if found is not None:
                price, share = found
                return _steps(price, share) if share is not None else ()
        return ()


_FREE = Rates(-1, 0.0, 0.0, 0.0)


def _override(name: str, pair: Any) -> Rates:
    try:
        input_price, output_price, *cache = pair
        found = [float(input_price), float(output_price), *(None if price is None else float(price) for price in cache)]
    except (TypeError, ValueError):
        found = [math.nan]
    if len(found) > 4 or not all(price is None or 0 <= price < math.inf for price in found):
        raise ConfigError(f"the price of {name} is two numbers, US dollars per million tokens in and out, not {pair!r}")
    return Rates(-1, 0.0, *(None if price is None else price / 1e6 for price in found))


def _share_of_own(endpoint: Endpoint, tier: str | None) -> float | None:
    """What a tier costs as a share of the user's own price for the model; None if that is not known."""
    if tier not in _LANES or endpoint.self_hosted or _shares(endpoint.base_url) is None:
        return 1.0
    return _named(endpoint.base_url, tier)


def _times(rates: Rates, share: float) -> Rates:
    _, request, *tokens = rates
    return Rates(rates.above, request * share, *(None if price is None else price * share for price in tokens))


def _named(base_url: str, tier: str | None) -> float | None:
    """A tier's share of the standard price, as the provider names it; None if it names none."""
    return 1.0 if tier is None or tier in STANDARD_TIERS else (_shares(base_url) or {}).get(tier)


@lru_cache(maxsize=64)
def _shares(base_url: str) -> Mapping[str, float] | None:
    """What a provider says that its lanes cost; None if the server is no provider's."""
    host = urlsplit(base_url).hostname or ""
    return next((shares for domain, shares in _SHARES.items() if f".{host}".endswith(f".{domain}")), None)


def _cost(rates: Rates, usage: Usage) -> float | None:
    total, answer = usage.input_tokens or 0, usage.output_tokens or 0
    if (rates.input is None and total) or (rates.output is None and answer):
        return None
    input_price, output_price = rates.input or 0.0, rates.output or 0.0
    # A part larger than its whole is a provider's mistake. It must not make the rest negative.
    cached = min(usage.cached_tokens or 0, total)
    written = min(usage.cache_write_tokens or 0, total - cached)
    reasoning = min(usage.reasoning_tokens or 0, answer)
    return (
        (total - cached - written) * input_price
        + cached * (input_price if rates.cached is None else rates.cached)
        + written * (input_price if rates.cache_write is None else rates.cache_write)
        + (answer - reasoning) * output_price
        + reasoning * (output_price if rates.reasoning is None else rates.reasoning)
        + rates.request
    )


def _look_up(base_url: str, model: str, tier: str | None, at: float) -> tuple[ModelPrice, float | None] | None:
    """The table's price of a model at an address, and the tier's share of it (None if unknown).

    None if the table has no such model. The address decides, not the endpoint's name: another server under a known
    name has another price list.
    """
    found = _find(base_url, model)
    if found is None:
        return None
    provider, info = found
    when = datetime.fromtimestamp(at, UTC)
    if tier is None:
        return info.get_prices(when), 1.0
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    # The table may lend a model from another provider. Its tiers are that provider's, not this one's.
    own = any(info is one for one in provider.models)
    if own and any(variant.when == context for variant in info.price_variants or ()):
        return info.get_prices(when, context), 1.0
    return info.get_prices(when), _named(base_url, tier)


def _find(base_url: str, model: str) -> tuple[Provider, ModelInfo] | None:
    """The table's entries of a server and of its model."""
    if _is_here(base_url):
        return None
    snapshot = _table()
    try:
        provider = snapshot.find_provider(None, None, base_url)
        return provider, snapshot.find_provider_model(model, provider, None, None)[1]
    except LookupError:
        return None


@lru_cache(maxsize=64)
def _is_here(base_url: str) -> bool:
    """Whether a server runs on this computer: no list has its price, so the table need not be loaded to know that."""
    return urlsplit(base_url).hostname in {"localhost", "127.0.0.1", "::1"}


def _table() -> DataSnapshot:
    from genai_prices.data_snapshot import get_snapshot  # 0.1 s to import; it never opens a connection

    return get_snapshot()


# In the order of Rates' fields.
_FIELDS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "output_reasoning_mtok")


def _steps(price: ModelPrice, share: float) -> tuple[Rates, ...]:
    """The rates of a price with steps by context length, highest step first, each times ``share``.

    Once a prompt crosses a step, the step's rate holds for all of its tokens.
    """
    prices = [getattr(price, field) for field in _FIELDS]
    starts = {tier.start for entry in prices for tier in getattr(entry, "tiers", ())}
    return tuple(_step(price, above, share) for above in sorted({-1, *starts}, reverse=True))


def _step(price: ModelPrice, above: int, share: float) -> Rates:
    tokens = [_per_unit(getattr(price, field), above, 1e6 / share) for field in _FIELDS]
    return Rates(above, _per_unit(price.requests_kcount, above, 1e3 / share) or 0.0, *tokens)


def _per_unit(entry: Any, above: int, unit: float) -> float | None:
    """One entry of the table just above a token count: a number, or a base with tiers sorted by start."""
    if entry is None:
        return None
    amount = getattr(entry, "base", entry)
    for tier in getattr(entry, "tiers", ()):
        if above >= tier.start:
            amount = tier.price
    return float(amount) / unit
