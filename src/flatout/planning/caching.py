"""What a job would save if rows whose prompts begin alike shared the provider's prompt cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from flatout.money.prices import Prices
from flatout.policies.pacing.tokens import Estimator
from flatout.policies.prefixes import Sharing, sharing
from flatout.providers.prompt_caches import CacheRules, PromptReader, rules_of
from flatout.values import Result, Usage
from flatout.values.plan import Range

from .survey import Part

WORTH_TELLING = 0.01
"""A smaller part of the cost is not worth a line."""


class Forecast(NamedTuple):
    """What the calls of a model take that are left, without a prompt cache.

    Attributes:
        cost: US dollars.
        input_tokens: the tokens of their prompts.
        seconds: the time; None if nobody knows it.
    """

    cost: Range
    input_tokens: Range
    seconds: Range | None


def saved_by_caching(
    part: Part[Any], results: Sequence[Result[Any]], prices: Prices, forecast: Forecast
) -> Range | None:
    """The US dollars that ``prompt_cache="auto"`` would save; None if that is little, or not known.

    Args:
        part: the calls of a model; its first ones stand for all.
        results: those of its sample, asked without it.
        prices: the price list.
        forecast: what the calls that are left take without it.
    """
    rules = rules_of(part.target)
    shared = Sharing() if rules is None else _shared(part, rules)
    if rules is None or not shared.read:
        return None
    usual, tier = _usual(results, shared), part.example.service_tier
    each = usual.input_tokens or 0
    common = each * (shared.read + shared.written) / shared.tokens
    writing = _writing(shared, rules, part.calls, forecast.seconds)
    read, written = round(common * (1.0 - writing)), round(common * writing)
    cached = Usage(input_tokens=each, output_tokens=0, cached_tokens=read, cache_write_tokens=written)
    before, after = (prices.cost(part.target, usage, service_tier=tier) for usage in (usual, cached))
    if before is None or after is None or not each:
        return None
    saved = forecast.input_tokens.times((before - after) / each)
    return saved if saved.p50 > WORTH_TELLING * forecast.cost.p50 else None


def _shared(part: Part[Any], rules: CacheRules) -> Sharing:
    """What the first prompts have in common, as far as the provider caches it at our word."""
    read = PromptReader(part.target, rules).read
    prompts = ((prompt.head, prompt.blocks) for call in part.first if (prompt := read(call)) is not None)
    return sharing(prompts, Estimator().count, rules.least)


def _writing(shared: Sharing, rules: CacheRules, calls: int, seconds: Range | None) -> float:
    """The share of calls with a common beginning that write it to the cache: one call for each of a group's keys."""
    groups = max(1.0, shared.sharing * shared.written / (shared.read + shared.written))
    size = shared.sharing / groups
    if groups < 2.0:  # all rows are about the same, and so are those that were not looked at
        size *= calls / shared.prompts
    a_minute = size / max(1.0, (0.0 if seconds is None else seconds.p50) / 60.0)
    keys = 1 if rules.per_minute is None else max(1, math.ceil(a_minute / rules.per_minute))
    return min(1.0, keys / size)


def _usual(results: Sequence[Result[Any]], shared: Sharing) -> Usage:
    """The prompt of an average call, as the provider counted and cached it by itself; or as it is estimated."""
    used = [each.reply.usage for each in results if each.reply is not None and each.reply.usage.input_tokens]
    if not used:
        return Usage(input_tokens=round(shared.tokens / shared.prompts), output_tokens=0)
    counts = (sum(getattr(each, of) or 0 for each in used) // len(used) for of in _COUNTED)
    return Usage(output_tokens=0, **dict(zip(_COUNTED, counts, strict=True)))


_COUNTED = ("input_tokens", "cached_tokens", "cache_write_tokens")
