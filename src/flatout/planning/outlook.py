"""Makes a plan: from the survey of a job, the results of its sample, and the pacers as they are now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple

from msgspec.structs import replace

from flatout.engine import Engine
from flatout.errors import ConfigError
from flatout.policies.forecast.strata import Stratum
from flatout.policies.forecast.totals import (
    WIDER_IN_TIME,
    Observed,
    Rest,
    Sums,
    drawn_again,
    joined,
    per_call,
    sums,
    widened,
)
from flatout.policies.forecast.wall import Job, wall
from flatout.policies.pacing.pacer import Pacer
from flatout.values import Limits, Reply, Result, Target, Usage
from flatout.values.plan import ModelPlan, Plan, Range

from .asking import Allowance
from .assumed import assumed, in_flex
from .assumptions import assumptions
from .caching import Forecast, saved_by_caching
from .lanes import lanes, measured
from .size import SampleSize
from .survey import Part, Survey

DRAWS = 400
"""Times that the sample is drawn again from itself, for tokens and costs."""

JOBS = (24, 100)
"""Fewest and most of them for which the whole job is imagined, too, for the time that it takes."""

CALLS = 1_500
"""The most calls of one imagined job."""

IMAGINED = 36_000
"""The most calls of all imagined jobs of a model together."""

_ON_ITS_WAY = ("connect", "first_byte", "body", "backoff")


class _Outlook(NamedTuple):
    """The forecast of one model: its part of the plan, and the draws behind it."""

    plan: ModelPlan
    costs: list[float] | None
    seconds: list[float] | None
    searches: bool = False


class Outlook:
    """Makes the plan of a job.

    Args:
        engine: has the prices and the pacers.
        survey: what the job consists of.
        size: the size of the sample.
        heard: the results of the sample; None for a dry run.
        later: whether another process will ask the calls that are left.
        times: how many times as many calls the job will have as the survey found, of the same kind.

    Attributes:
        per_call: what a call costs, by its model, once the plan is made: US dollars for each unit of its size, and for
            each call beside that.
    """

    def __init__(
        self,
        engine: Engine,
        survey: Survey[Any],
        size: SampleSize,
        heard: Allowance | None,
        *,
        later: bool,
        times: float = 1.0,
    ) -> None:
        self._engine = engine
        self._survey = survey
        self._size = size
        self._heard = heard
        self._later = later
        self._times_as_many = times
        self.per_call: dict[str, tuple[float, float]] = {}
        self._random = Random(1)  # the same job has the same plan

    def plan(self, now: float, finished: int) -> Plan:
        """The plan.

        Args:
            now: the event loop's time.
            finished: calls that have a result by now.
        """
        survey, heard = self._survey, self._heard
        models = [self._of(part, now) for part in survey.parts.values()]
        return Plan(
            calls=round(survey.calls * self._times_as_many),
            finished=finished,
            left=sum(each.plan.left for each in models),
            asked=0 if heard is None else len(heard.results),
            duplicates=survey.duplicates,
            cached=survey.cached,
            too_long=sum(each.plan.too_long for each in models),
            spent=0.0 if heard is None else None if heard.unpriced and not heard.spent else heard.spent,
            unpriced=0 if heard is None else heard.unpriced,
            cost=_added([each.costs for each in models]),
            seconds=_longest([each.seconds for each in models]),
            models=tuple(each.plan for each in models),
            assumed=(*self._more(), *assumptions([(each.plan, each.searches) for each in models], heard)),
            measured=heard is not None,
        )

    def _more(self) -> list[str]:
        if self._times_as_many == 1.0:
            return []
        return [f"all {round(self._survey.calls * self._times_as_many):,} calls are as the {self._survey.calls:,} here"]

    def _of(self, part: Part[Any], now: float) -> _Outlook:
        """The forecast of one model's calls."""
        heard = {} if self._heard is None else self._heard.results
        strata = part.strata.split(self._size.among(part.strata.rows))
        rests = [self._rest(stratum, part.target, heard) for stratum in strata]
        mine = [heard[entry.index] for stratum in strata for entry in stratum.entries if entry.index in heard]
        plan = ModelPlan(
            model=_name(part, self._engine),
            calls=round(part.calls * self._times_as_many),
            left=sum(rest.rows for rest in rests),
            asked=len(mine),
            too_long=part.too_long,
            longest=part.longest,
            context=part.context,
            failures=_failures(mine),
        )
        if self._heard is None:
            draws = assumed(rests, self._prices_of(part), part.example, self._random.random, DRAWS)
        elif any(each.ok for each in mine) and any(rest.observed for rest in rests):
            known = joined(rests)
            self.per_call[part.model or self._engine.targets.model or ""] = per_call(known)
            draws = [drawn_again(known, self._random.random) for _ in range(DRAWS)]
        else:
            return _Outlook(plan, None, None)
        return self._forecast(plan, part, draws, mine, now)

    def _forecast(
        self, plan: ModelPlan, part: Part[Any], draws: Sequence[list[Rest]], mine: Sequence[Result[Any]], now: float
    ) -> _Outlook:
        whole = [sums(rests, self._random.random) for rests in draws]
        costs = widened([each.cost for each in whole]) if self._is_priced(part, mine) else None
        pacers = self._engine.stack.limiters.imagined(part.targets, now, later=self._later)
        seconds, held = self._times(pacers, draws, plan.left, now)
        cost, time, tokens = _range(costs), _range(seconds), Range.of(widened([each.input for each in whole]))
        slower = partial(self._in_flex, pacers, draws, plan.left, now)
        made = replace(
            plan,
            input_tokens=tokens,
            output_tokens=_range(widened([each.output for each in whole])),
            reasoning_tokens=_reasoning(whole, mine),
            cost=cost,
            seconds=time,
            held_by=held,
            limits=_limits(pacers),
            lanes=lanes(part, measured(part, mine, self._engine.stack.prices, cost, time), plan.left, slower),
            saved_by_caching=None if cost is None else self._saved(part, mine, Forecast(cost, tokens, time)),
        )
        return _Outlook(made, costs, seconds, any(map(_searches, pacers)))

    def _rest(self, stratum: Stratum[Any], target: Target, heard: Mapping[int, Result[Any]]) -> Rest:
        """The rows of a stratum that are left, and what its sample took."""
        entries = stratum.entries
        asked = [entry for entry in entries if entry.index in heard]
        finished = self._heard.new if self._heard is not None else ()
        done = [entry for entry in asked if entry.index in finished]
        observed = [found for entry in asked if (found := self._observed(entry.size, target, heard[entry.index]))]
        return Rest(
            max(0, round(stratum.rows * self._times_as_many) - stratum.done - len(done)),
            stratum.size * self._times_as_many - stratum.done_size - sum(entry.size for entry in done),
            [entry.size for entry in entries],
            observed,
        )

    def _observed(self, size: float, target: Target, result: Result[Any]) -> Observed | None:
        """What a call of the sample took; None if that says nothing of the others."""
        reply = result.reply if result.reply is not None else getattr(result.error, "reply", None)
        seconds = sum(result.waits.get(cause, 0.0) for cause in _ON_ITS_WAY)
        if result.cached or (reply is None and not result.attempts):
            return None
        usage = reply.usage if reply is not None else Usage()
        cost = self._cost(target, result) or 0.0
        cost_in = min(cost, self._cost_in(target, reply) or 0.0)
        return Observed(
            size=size,
            input=usage.input_tokens or 0,
            output=usage.output_tokens or 0,
            reasoning=usage.reasoning_tokens or 0,
            cost_in=cost_in,
            cost_out=cost - cost_in,
            seconds=seconds,
            max_tokens=result.call.max_tokens if result.call is not None else None,
        )

    def _cost(self, target: Target, result: Result[Any]) -> float | None:
        """What a call cost; if an attempt before its answer was billed an unknown amount, what the answer did."""
        reply = result.reply
        if result.cost is not None or reply is None:
            return result.cost
        return self._engine.stack.prices.cost(target, reply.usage, reply.model, service_tier=reply.service_tier)

    def _cost_in(self, target: Target, reply: Reply | None) -> float | None:
        """The part of an answer's cost that its prompt has."""
        if reply is None:
            return None
        usage = replace(reply.usage, output_tokens=0, reasoning_tokens=0)
        return self._engine.stack.prices.cost(target, usage, reply.model, service_tier=reply.service_tier)

    def _times(
        self, pacers: Sequence[Pacer], draws: Sequence[list[Rest]], left: int, now: float
    ) -> tuple[list[float] | None, str]:
        """How long the job takes in each of some draws, and what holds it back."""
        if not left:
            return [0.0], ""
        fewest, most = JOBS
        jobs = max(fewest, min(most, IMAGINED // min(left, CALLS)))
        walls = [wall(pacers, Job(rests, self._random.random), now, CALLS) for rests in draws[:jobs]]
        held: dict[str, float] = {}
        for each in walls:
            for name, waited in each.held.items():
                held[name] = held.get(name, 0.0) + waited
        seconds = widened([each.seconds for each in walls], WIDER_IN_TIME)
        cause = max(held, key=held.__getitem__, default="")
        return seconds, cause if cause and held[cause] > 0.1 * sum(seconds) else ""

    def _saved(self, part: Part[Any], mine: Sequence[Result[Any]], forecast: Forecast) -> Range | None:
        """What the provider's prompt cache would save, if it is not used yet."""
        if self._engine.settings.prompt_cache == "auto":
            return None
        return saved_by_caching(part, mine, self._engine.stack.prices, forecast)

    def _in_flex(self, pacers: Sequence[Pacer], draws: Sequence[list[Rest]], left: int, now: float) -> Range | None:
        """How long the job takes in the flex lane, which has the limits of the live one."""
        slow = in_flex(draws[: JOBS[0]], self._random.random)
        return _range(self._times(pacers, slow, left, now)[0])

    def _prices_of(self, part: Part[Any]) -> Callable[[float, float], float]:
        """What tokens in and out cost; 0 if that is not known."""

        def cost(input_tokens: float, output_tokens: float) -> float:
            usage = Usage(input_tokens=round(input_tokens), output_tokens=round(output_tokens))
            return self._engine.stack.prices.cost(part.target, usage, service_tier=part.example.service_tier) or 0.0

        return cost

    def _is_priced(self, part: Part[Any], mine: Sequence[Result[Any]]) -> bool:
        """Whether the costs are known."""
        if self._heard is None:
            return self._engine.stack.prices.is_known(part.target)
        return all(self._cost(part.target, each) is not None for each in mine if each.ok)


def check_priced(engine: Engine, parts: Sequence[Part[Any]]) -> None:
    """Refuse to ask a sample whose cost cannot be known.

    Raises:
        ConfigError: a price is not known, and the user has not said that this is all right.
    """
    if engine.stack.purse.worst_cases.allow_unknown_price:
        return
    for target in (target for part in parts for target in part.targets):
        if not engine.stack.prices.is_known(target):
            name = target.name
            raise ConfigError(
                f"the price of {name} is not known, so nobody can say what the sample or the job costs: "
                f'give it in flatout.toml under [prices."{name}"], 0 for a server of your own; or plan all the same, '
                "with allow_unknown_price=True (--allow-unknown-price)"
            )


def _range(values: Sequence[float] | None) -> Range | None:
    return None if values is None else Range.of(values)


def _reasoning(whole: Sequence[Sums], mine: Sequence[Result[Any]]) -> Range | None:
    told = any(each.reply is not None and each.reply.usage.reasoning_tokens is not None for each in mine)
    return Range.of(widened([each.reasoning for each in whole])) if told else None


def _failures(results: Sequence[Result[Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for result in results:
        if result.error is not None:
            name = type(result.error).__name__
            found[name] = found.get(name, 0) + 1
    return found


def _limits(pacers: Sequence[Pacer]) -> dict[str, float]:
    """The limits of all targets together: of each name that all of them have, the sum."""
    each = [_limits_of(pacer) for pacer in pacers]
    return {name: sum(limits[name] for limits in each) for name in each[0] if all(name in limits for limits in each)}


def _limits_of(pacer: Pacer) -> dict[str, float]:
    given = {name: getattr(pacer.limits, name) for name in Limits.__struct_fields__}
    return {name: value for name, value in {**given, **pacer.found()}.items() if isinstance(value, int | float)}


def _searches(pacer: Pacer) -> bool:
    return pacer.search is not None or pacer.aimd is not None


def _name(part: Part[Any], engine: Engine) -> str:
    """The name of a model: its target's, or the one of a route that the user gave."""
    given = part.model or engine.targets.model
    return part.target.name if len(part.targets) == 1 or given is None else given


def _added(parts: Sequence[list[float] | None]) -> Range | None:
    """The range of a sum; None if a part is not known."""
    known = [part for part in parts if part is not None]
    return Range.of([sum(each) for each in zip(*known, strict=True)]) if len(known) == len(parts) and known else None


def _longest(parts: Sequence[list[float] | None]) -> Range | None:
    """The range of the longest; None if one is not known."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not known:
        return None
    jobs = max(map(len, known))
    return Range.of([max(part[number % len(part)] for part in known) for number in range(jobs)])
