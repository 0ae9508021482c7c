"""The forecast that a plan leaves in the run file, and what the run makes of it: it says once when that was wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from flatout.policies.forecast.drift import CostDrift, TimeDrift
from flatout.policies.pacing.tokens import Estimator
from flatout.runs.work import Work
from flatout.text.shown import dollars, lasting
from flatout.values import Result
from flatout.values.plan import Plan, Range


class Forecast(Struct, frozen=True, kw_only=True):
    """A forecast of the rows that a plan left.

    Attributes:
        left: how many rows that were.
        lane: the lane that it is about.
        cost: US dollars for them.
        seconds: the time for them.
        per_call: for each model, US dollars for each unit of a prompt's size, and for each call beside that.
    """

    left: int
    lane: str = "live"
    cost: Range | None = None
    seconds: Range | None = None
    per_call: dict[str, tuple[float, float]] = {}


def fact_of(plan: Plan, per_call: Mapping[str, tuple[float, float]]) -> Any:
    """What the run file keeps of a plan.

    Args:
        plan: the plan.
        per_call: for each model, what a call costs in the live lane.
    """
    live = sum(model.cost.p50 for model in plan.models if model.cost is not None)
    share = plan.cost.p50 / live if plan.lane != "live" and plan.cost is not None and live else 1.0
    costs = {model: (size * share, beside * share) for model, (size, beside) in per_call.items()}
    made = Forecast(left=plan.left, lane=plan.lane, cost=plan.cost, seconds=plan.seconds, per_call=costs)
    return msgspec.to_builtins(made)


class Watch:
    """Hears of the rows of a run that was planned.

    Args:
        forecast: the plan's.
        model: the model of rows that name none.
        elapsed: says for how many seconds the run has been going on.
        stood: says for how many seconds of that no call could go.
        tell: receives a sentence when the run leaves the forecast.
    """

    def __init__(
        self,
        forecast: Forecast,
        model: str | None,
        elapsed: Callable[[], float],
        stood: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        self._forecast = forecast
        self._model = model
        self._elapsed = elapsed
        self._tell = tell
        self._over = 0
        self._estimator = Estimator()
        self._cost = CostDrift(forecast.cost) if forecast.cost is not None else None
        self._time = TimeDrift(forecast.seconds, forecast.left, stood) if forecast.seconds is not None else None

    @classmethod
    def of(
        cls,
        fact: Any,
        lane: str,
        model: str | None,
        elapsed: Callable[[], float],
        stood: Callable[[], float],
        tell: Callable[[str], None],
    ) -> Watch | None:
        """A watch over the forecast in a run file; None if there is none for this lane."""
        try:
            forecast = None if fact is None else msgspec.convert(fact, Forecast)
        except msgspec.ValidationError:  # of another version
            return None
        return None if forecast is None or forecast.lane != lane else cls(forecast, model, elapsed, stood, tell)

    def heard(self, result: Result[Any] | None, work: Work) -> None:
        """A row is over. Without a result it was dropped."""
        if result is not None:
            self.over(work, result.cost)

    def over(self, work: Work, cost: float | None) -> None:
        """A row has a result. ``cost`` is in US dollars; None if it is not known."""
        self._over += 1
        per_call = self._forecast.per_call.get(work.call.model or self._model or "")
        if self._cost is not None and per_call is not None and cost is not None:
            size = self._estimator.need(work.call).input
            renewed = self._cost.heard(size * per_call[0] + per_call[1], cost)
            if renewed is not None and self._forecast.cost is not None:
                least, most = dollars(self._forecast.cost.p10), dollars(self._forecast.cost.p90)
                self._tell(f"the rows that the plan left will cost about ${dollars(renewed)}, not ${least} to ${most}")
        if self._time is not None and (longer := self._time.heard(self._over, self._elapsed())) is not None:
            assert self._forecast.seconds is not None
            low, high = lasting(self._forecast.seconds.p10), lasting(self._forecast.seconds.p90)
            beside = f", beside {lasting(self._time.stood)} of outages and pauses" if self._time.stood >= 1.0 else ""
            self._tell(f"the rows that the plan left will take about {lasting(longer)}, not {low} to {high}{beside}")
