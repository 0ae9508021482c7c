"""A plan in words: what a job costs and takes, by model and by lane."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from flatout.text import figures
from flatout.values.limits import UNITS

from .terminal import Fact, clean, lay_out

if TYPE_CHECKING:
    from flatout.values.plan import Lane, ModelPlan, Plan, Range

_ON = {**UNITS, "concurrency": "calls at once"}
LONG, DAY = 3_600.0, 86_400.0
"""Seconds from which a plan says what would shorten it, and those in which it may take its time."""

_BOUND_BY = {"requests": ("rpm", "rpd"), "tokens": ("tpm", "itpm", "otpm"), "concurrency": ("concurrency",)}


def lines(plan: Plan) -> list[str]:
    """The plan, line by line."""
    found = [_headline(plan), *lay_out(_whole(plan))]
    for model in plan.models:
        found += ["", _name(plan, model), *lay_out(_model(model))]
    if plan.assumed:
        found += ["", "Assumed", *(f"  {clean(each)}" for each in plan.assumed)]
    return found


def _headline(plan: Plan) -> str:
    left = f"{figures.counted(plan.left, 'call')} left of {figures.count(plan.calls)}"
    if plan.cost is None:
        return f"{left}: cost unknown{_taking(plan)}"
    return f"{left}: {money(plan.cost)}{_taking(plan)}"


def _taking(plan: Plan) -> str:
    if plan.seconds is not None:
        return f", {time(plan.seconds)}"
    promised = [lane.within for model in plan.models for lane in model.lanes if lane.name == plan.lane and lane.within]
    return f", within {figures.duration(max(promised))}" if promised else ""


def _name(plan: Plan, model: ModelPlan) -> str:
    """The model's name; where there are several models, with its calls, cost and time."""
    name = clean(model.model)
    if len(plan.models) == 1:
        return name
    told = [] if model.cost is None else [money(model.cost)]
    told += [] if model.seconds is None else [time(model.seconds)]
    return f"{name}: {figures.counted(model.left, 'call')} left, {', '.join(told) or 'not forecast'}"


def _whole(plan: Plan) -> Iterator[Fact]:
    if plan.lane != "live" or plan.why:
        yield "lane", clean(plan.why or plan.lane)
    if plan.measured:
        failed = sum(count for model in plan.models for count in model.failures.values())
        kept = " and kept" if plan.asked > failed else ""
        yield "sample", f"{figures.counted(plan.asked, 'call')} asked{kept}, {_for(plan)}"
    if plan.finished > plan.asked:
        yield "finished", f"{figures.counted(plan.finished, 'call')}, the sample included"
    if plan.cached:
        yield "cached", f"{figures.counted(plan.cached, 'call')} that cost nothing: left out"
    if plan.duplicates:
        yield "repeated", _repeated(plan)


def _for(plan: Plan) -> str:
    """What the sample cost."""
    if plan.spent is None:
        return "at an unknown cost"
    return f"for {figures.cost_in_words(plan.spent, plan.unpriced, 'call')}"


def _repeated(plan: Plan) -> str:
    what = figures.counted(plan.duplicates, "call")
    if plan.cached or plan.left + plan.finished + plan.too_long + plan.cached < plan.calls:
        return f"{what} that ask the same as another: left out"
    return f"{what} that ask the same as another: with --cache they cost nothing"


def _model(model: ModelPlan) -> Iterator[Fact]:
    if model.input_tokens is not None and model.output_tokens is not None:
        yield "tokens in", tokens(model.input_tokens)
        reasoning = model.reasoning_tokens
        of = "" if reasoning is None else f", of these {figures.short(round(reasoning.p50))} reasoning"
        yield "tokens out", tokens(model.output_tokens) + of
    if model.seconds is not None:
        yield "held by", _held(model)
        if model.seconds.p50 >= LONG and model.held_by in ("requests", "tokens"):
            yield "faster", _faster(model, model.seconds.p50)
    if model.too_long:
        longest = f"the longest has {figures.short(round(model.longest))} tokens"
        yield (
            "too long",
            f"{figures.counted(model.too_long, 'call')} beyond {figures.count(model.context or 0)} tokens: "
            f"{longest}; left out, and would fail",
        )
    for place, (name, count) in enumerate(sorted(model.failures.items(), key=lambda item: -item[1])):
        yield "" if place else "no answer", f"{figures.count(count)} × {clean(name)} in the sample"
    if model.saved_by_caching is not None and model.cost is not None:
        part = figures.percent(model.saved_by_caching.p50, model.cost.p50)
        yield "begin alike", f"--prompt-cache auto saves {money(model.saved_by_caching)}, {part} of the cost"
    yield from _lanes(model.lanes)


def _held(model: ModelPlan) -> str:
    if not model.held_by:
        return "nothing but the model's own speed"
    names = [name for name in _BOUND_BY.get(model.held_by, ()) if name in model.limits]
    if not names:
        from flatout.events import WAITS

        return WAITS.get(model.held_by, model.held_by)
    return " and ".join(f"{model.limits[name]:,.0f} {_ON[name]}" for name in names)


def _faster(model: ModelPlan, seconds: float) -> str:
    """What would shorten a job that the provider's limits hold."""
    keys = max(2, math.ceil(seconds / DAY))
    told = f"not by more machines; {keys} keys with limits of their own: {figures.duration(seconds / keys)}"
    for lane in model.lanes:
        if lane.name == "batch" and lane.offered and (lane.within or math.inf) < seconds:
            told += f"; in batches: {_when(lane)}" + ("" if lane.cost is None else f", {money(lane.cost)}")
    return told


def _lanes(lanes: Iterable[Lane]) -> Iterator[Fact]:
    offered = [lane for lane in lanes if lane.offered]
    if len(offered) < 2:
        return
    for lane in offered:
        cost = "price unknown" if lane.cost is None else money(lane.cost)
        yield lane.name, ", ".join(filter(None, (cost, _when(lane), _refuses(lane))))


def _when(lane: Lane) -> str:
    if lane.seconds is not None:
        return time(lane.seconds)
    return "" if lane.within is None else f"within {figures.duration(lane.within)}"


def _refuses(lane: Lane) -> str:
    told = f"refuses {clean(lane.refuses)}" if lane.refuses else ""
    return told if lane.usable else f"{told or lane.name}; its account is not named"


def money(range_: Range) -> str:
    """A range of US dollars: ``$1.90 to $2.40``."""
    return _between(figures.dollars(range_.p10), figures.dollars(range_.p90), figures.dollars(range_.p50))


def time(range_: Range) -> str:
    """A range of durations."""
    return _between(*(figures.duration(each) for each in (range_.p10, range_.p90, range_.p50)))


def tokens(range_: Range) -> str:
    """A range of tokens."""
    return _between(*(figures.short(round(each)) for each in (range_.p10, range_.p90, range_.p50)))


def _between(low: str, high: str, middle: str) -> str:
    return f"about {middle}" if low == high else f"{low} to {high} (median {middle})"
