"""What a plan rests on and does not know, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flatout.values.plan import Lane, ModelPlan

from .asking import Allowance

OUTPUT = "answers of about 256 tokens, or a quarter to four times that, and max_tokens at most: nothing was asked"
TIME = "answers after 1 s and 50 tokens a second more, or a quarter to four times as slow"
FLEX = "answers of the flex lane after 1 to 15 minutes, as the providers say, and room there for all calls"
PROMISED = "batches take up to a day, as the providers promise: too few of yours have ended to tell more"
PAST = "batches take as long as your last ones of this size did"


def assumptions(models: Sequence[tuple[ModelPlan, bool]], heard: Allowance | None) -> Iterator[str]:
    """What a plan rests on and does not know.

    Args:
        models: the parts of the plan, each with whether its limits are searched for.
        heard: the results of the sample; None for a dry run.
    """
    for plan, searches in models:
        yield from _of_model(plan, searches=searches, asked=heard is not None)
    if heard is None:
        yield OUTPUT
        yield TIME
    else:
        if heard.capped:
            yield "the sample ended early, because its money was used up"
        yield "later calls are as those of the sample, and no server is down"
    yield from _of_lanes([(plan.model, lane) for plan, _ in models for lane in plan.lanes if _is_usable(lane)])
    for plan, _ in models:
        yield from _price_of_batches(plan)


def _of_model(plan: ModelPlan, *, searches: bool, asked: bool) -> Iterator[str]:
    if not plan.left:
        return
    if plan.input_tokens is None:
        if asked:
            yield f"no call of the sample to {plan.model} was answered, so nothing is forecast for it"
    elif plan.cost is None:
        yield f"the price of {plan.model} is not known: give it in flatout.toml"
    if searches:
        yield (
            f"no limit of {plan.model} is known: the time assumes that it refuses nothing; "
            "give what you know, such as rpm or concurrency"
        )


def _is_usable(lane: Lane) -> bool:
    return lane.offered and lane.usable


def _of_lanes(lanes: Sequence[tuple[str, Lane]]) -> Iterator[str]:
    """What is assumed of lanes, each with its model."""
    flex = [model for model, lane in lanes if lane.name == "flex" and lane.seconds]
    known = [model for model, lane in lanes if lane.name == "batch" and lane.seconds]
    promised = [model for model, lane in lanes if lane.name == "batch" and not lane.seconds]
    for models, words in ((flex, FLEX), (known, PAST), (promised, PROMISED)):
        if models:
            yield f"{' and '.join(models)}: {words}"


def _price_of_batches(plan: ModelPlan) -> Iterator[str]:
    """That batches are reckoned at the live price, where no other is known."""
    costs = {lane.name: lane.cost for lane in plan.lanes if _is_usable(lane)}
    batch = costs.get("batch")
    if plan.left and batch is not None and batch == costs.get("live") and batch.p90 > 0.0:
        yield (
            f"{plan.model}: batches are reckoned at the live price, because no other is known: give theirs in "
            f'flatout.toml, as [prices."{plan.model}@batch"]'
        )
