"""Asks another model where the call's own has failed, if its route names one for that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from flatout.errors import CallError
from flatout.journey import Journey, Passage, current_journey
from flatout.layer import CallNext
from flatout.policies.routing import cause
from flatout.values import Call, Reply, Route


class Fallback:
    """Asks the fallback of a call's route, with attempts and reasks of its own.

    A fallback may be a route with fallbacks. No model is asked twice.

    Args:
        route: the route that a call's model names; None for a single target.
    """

    def __init__(self, route: Callable[[Call], Route | None]) -> None:
        self._find = route
        self._found: dict[str | None, Route | None] = {}  # by the model's name in the call

    def __call__(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        route = self._route(call)
        return call_next(call) if route is None or not route.fallback else self._asked(call, call_next, route)

    def _route(self, call: Call) -> Route | None:
        if call.model not in self._found:
            self._found[call.model] = self._find(call)
        return self._found[call.model]

    async def _asked(self, call: Call, call_next: CallNext, route: Route | None) -> Reply:
        journey, asked = current_journey(), {call.model}
        while True:
            try:
                return await call_next(call)
            except CallError as error:
                why = cause(error)
                model = route.fallback.get(why) if route is not None and why is not None else None
                if model is None or model in asked or journey.delivered:
                    raise
            asked.add(model)
            call = replace(call, model=model)
            route = self._route(call)
            if route is None:  # a single target is noted in the trail like the targets of a route
                call = replace(call, model=Route(model))
            _begin_anew(journey)


def _begin_anew(journey: Journey) -> None:
    """Forget what the attempts before mean for the next ones. What they cost stays."""
    journey.trouble = None
    journey.refusals = 0
    journey.passage = journey.passage or Passage()
    journey.passage.stay, journey.passage.fell_back = "", True
