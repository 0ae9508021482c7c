"""The ways in which a provider sells the same answer, side by side: at once, when it has time, or in a batch.

Which lanes a target has is said by `flatout.lanes.offers`, what they cost by the price list, and how long batches take
by `flatout.lanes.past`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from flatout.errors import ConfigError
from flatout.lanes.offers import batch_format, lanes_of
from flatout.lanes.past import WORD, recalled, seconds_of_alike
from flatout.money.prices import USUAL, Prices
from flatout.providers.registry import BUILT_IN, origin
from flatout.values import Result, Target, Usage
from flatout.values.plan import Lane, Plan, Range

from .survey import Part

_UNSPOKEN: Mapping[str, tuple[float | None, str]] = {
    "fireworks": (WORD, "streams"),
}
"""Providers whose batches flatout sends only if an account is named: the seconds in which they promise an answer, and
what they refuse."""

_FULL: Mapping[str, str] = {"openai": "429, not billed", "gemini": "429, 503", "groq": "498"}
"""What providers answer when their flex lane has no room."""

_TIERS: Mapping[str, str | None] = {"live": None, "flex": "flex", "batch": "batch"}
"""By lane: what the price list calls it."""

_COUNTED = ("input_tokens", "output_tokens")
_MB = 1_000_000


class Measured(NamedTuple):
    """What is known of the lane in which the sample was asked.

    Attributes:
        lane: its name.
        cost: what it costs.
        seconds: the time that it takes.
        share: says what another lane costs as a share of it; None if that is not known.
    """

    lane: str
    cost: Range | None
    seconds: Range | None
    share: Callable[[str], float | None]

    def beside(self, name: str) -> Lane:
        """A lane with its cost, and with its time if it is this one."""
        if name == self.lane:
            return Lane(name=name, cost=self.cost, seconds=self.seconds)
        share = self.share(name)
        return Lane(name=name, cost=None if self.cost is None or share is None else self.cost.times(share))


def measured(
    part: Part[Any], results: Sequence[Result[Any]], prices: Prices, cost: Range | None, seconds: Range | None
) -> Measured:
    """The lane in which the sample of a model was asked.

    Args:
        part: the model's calls.
        results: those of its sample.
        prices: the price list.
        cost: what the calls that are left cost in this lane.
        seconds: the time that they take.
    """
    target, tier, usage = part.target, part.example.service_tier, _typical(results)
    lane = "flex" if tier is not None and tier == target.endpoint.flex else "live"

    def share(other: str) -> float | None:
        return prices.share(target, _TIERS[other], usage=usage, beside=tier)

    return Measured(lane, cost, seconds, share)


def lanes(part: Part[Any], measured: Measured, rows: int, in_flex: Callable[[], Range | None]) -> tuple[Lane, ...]:
    """The lanes of a model: ``live``, ``flex`` and ``batch``. A route has the live one only.

    Args:
        part: the model's calls.
        measured: the lane in which its sample was asked.
        rows: how many calls are left.
        in_flex: reckons the time that they take in the flex lane.
    """
    if len(part.targets) > 1:
        return (measured.beside("live"),)
    target = part.target
    return measured.beside("live"), _flex(target, measured, in_flex), _batch(target, measured, rows)


def in_lane(plan: Plan, lane: str, why: str) -> Plan:
    """A plan, which is about the live lane, for a job that takes another lane.

    Args:
        plan: the plan.
        lane: the lane.
        why: why it takes this lane.
    """
    if lane == "live":
        return replace(plan, why=why)
    there = [next((each for each in model.lanes if each.name == lane), Lane(name=lane)) for model in plan.models]
    costs = [(each.cost, model.cost) for each, model in zip(there, plan.models, strict=True)]
    cost, seconds = plan.cost, [each.seconds for each in there if each.seconds is not None]
    if cost is not None and all(one is not None for one, _ in costs):
        live = sum(other.p50 for _, other in costs if other is not None)
        cost = cost.times(sum(one.p50 for one, _ in costs if one is not None) / live if live else 1.0)
    else:
        cost = None
    longest = max(seconds, key=lambda each: each.p50) if len(seconds) == len(there) and seconds else None
    return replace(plan, lane=lane, why=why, cost=cost, seconds=longest)


def _flex(target: Target, measured: Measured, in_flex: Callable[[], Range | None]) -> Lane:
    if "flex" not in lanes_of(target):
        return Lane(name="flex", offered=False)
    lane = replace(measured.beside("flex"), refuses=_refused_by_flex(target))
    return lane if measured.lane == "flex" else replace(lane, seconds=in_flex())


def _batch(target: Target, measured: Measured, rows: int) -> Lane:
    if "batch" in lanes_of(target):
        past = seconds_of_alike(recalled(), target, rows)
        seconds = Range.of(past) if past else None
        return replace(measured.beside("batch"), seconds=seconds, within=WORD, refuses=_refused_by_batches(target))
    if (provider := _provider(target)) in _UNSPOKEN:
        within, refuses = _UNSPOKEN[provider]
        return replace(measured.beside("batch"), within=within, refuses=refuses, usable=False)
    return Lane(name="batch", offered=False)


def _typical(results: Sequence[Result[Any]]) -> Usage:
    """The tokens of a typical call."""
    used = [each.reply.usage for each in results if each.reply is not None]
    if not used:
        return USUAL
    input_tokens, output_tokens = (sum(getattr(each, of) or 0 for each in used) // len(used) for of in _COUNTED)
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens)


def _refused_by_flex(target: Target) -> str:
    answer = _FULL.get(target.endpoint.batch)
    return "calls while it has no room" + (f" ({answer})" if answer else "")


def _refused_by_batches(target: Target) -> str:
    if target.endpoint.batch == "openai" and not _provider(target):  # so are servers that nobody said anything about
        return "streams; only an upload shows whether this server has batches"
    try:
        caps = batch_format(target).caps
    except ConfigError:
        return "streams"
    return f"streams, and more than {caps.rows:,} calls or {caps.size // _MB:,} MB in one batch"


def _provider(target: Target) -> str:
    """The built-in provider at a target's address; "" if it is another server."""
    where = origin(target.endpoint.base_url)
    return next((name for name, known in BUILT_IN.items() if origin(known.base_url) == where), "")
