"""The flex lane: live calls that ask for the cheaper, slower service. A provider without room refuses them unbilled.

Such calls wait until there is room (see `flatout.layers.flex`), or until it is time to go on in the live lane.
"""

from __future__ import annotations

import asyncio
import math

from flatout.engine import Engine
from flatout.errors import ConfigError, InvalidRequest
from flatout.journey import Flex, Journey
from flatout.tasks.loop import wall_clock
from flatout.values import Call, Target

from .batch.targets import target_of
from .escalation import FLEX_ANSWER
from .offers import check

DAY = 86_400.0
"""Seconds that a call may take whose deadline nobody gave: a provider may be without room for hours."""

AFTERWARDS = 3_600.0
"""Seconds that it may take in the live lane, after its time in the flex lane."""


def check_flex(call: Call, target: Target) -> None:
    """Refuse a call that cannot go to the flex lane.

    Raises:
        ConfigError: the target has no flex lane.
        InvalidRequest: the call asks for another service tier.
    """
    check("flex", target)
    tier = target.endpoint.flex
    own = call.service_tier or (call.extra or {}).get("service_tier")
    if own not in (None, tier):
        raise InvalidRequest(f"service_tier: the call asks for {own!r}, and the flex lane for {tier!r}: leave one out")


class FlexLane:
    """Puts the calls of one client into the flex lane.

    Args:
        engine: the client's.
        until: when they go on in the live lane; Unix time. None for never.

    Attributes:
        until: see above.
    """

    def __init__(self, engine: Engine, until: float | None = None) -> None:
        self._engine = engine
        self.until = until
        self._wall = wall_clock(asyncio.get_running_loop())
        self._deadline = DAY if until is None else max(DAY, self.left() + AFTERWARDS)
        self._wishes: dict[str, Flex] = {}

    def left(self) -> float:
        """Seconds until calls go on in the live lane."""
        return math.inf if self.until is None else self.until - self._wall()

    def take(self, call: Call, journey: Journey) -> None:
        """Put a call into the lane. There it has a timeout and a deadline of the lane's, unless the user gave others.

        Raises:
            ConfigError, InvalidRequest: as for `check_flex`.
        """
        target = self.target(call)
        check_flex(call, target)
        tier = target.endpoint.flex
        if tier not in self._wishes:
            settings = self._engine.settings
            timeout = FLEX_ANSWER if settings.given_timeout is None else settings.given_timeout
            deadline = self._deadline if settings.given_deadline is None else settings.given_deadline
            self._wishes[tier] = Flex(tier, timeout, deadline, self.left)
        journey.flex = self._wishes[tier]

    def target(self, call: Call) -> Target:
        """Where a call goes.

        Raises:
            ConfigError: that is no single target, or it is unknown.
        """
        name = call.model or self._engine.targets.model
        if name is None:
            raise ConfigError("no model: name one, such as openai/gpt-5-mini, with -m or model=")
        return target_of(self._engine, name, "flex")
