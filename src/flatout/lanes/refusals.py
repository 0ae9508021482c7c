"""What a lane refuses, whoever asks: a command or a program. It is loaded with every run, so it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flatout.errors import ConfigError
from flatout.values import Call

if TYPE_CHECKING:
    from flatout.engine import Engine

    from .offers import Wanted

_PRICED = Call("", max_tokens=1, service_tier="batch")
"""What a budget needs the price of."""


class Spelling(NamedTuple):
    """How a program, or the command, writes an option.

    Attributes:
        lane: the option for a lane, ``{}``.
        within: the option for the time that there is.
        day: the same, for a day.
        prompt_cache: the option for the providers' prompt caches.
    """

    lane: str
    within: str
    day: str
    prompt_cache: str


COMMAND = Spelling("--lane {}", "--within", "--within 24h", "--prompt-cache")
PROGRAM = Spelling("lane='{}'", "within", "within=86_400, in seconds", "prompt_cache")


def check_within(lane: Wanted, within: float | None, say: Spelling) -> None:
    """Refuse a time that chooses between no lanes, and a choice without a time.

    Raises:
        ConfigError: the message says what to add.
    """
    if lane == "live" and within is not None:
        auto, batch = map(say.lane.format, ("auto", "batch"))
        raise ConfigError(f"{say.within} chooses between lanes: add {auto}, or {batch}")
    if lane == "auto" and within is None:
        raise ConfigError(f"{say.lane.format('auto')} needs the time that there is: add {say.day}")


def check_engine(engine: Engine, say: Spelling) -> None:
    """Refuse settings of the client that batches cannot keep.

    Raises:
        ConfigError: the message names the setting.
    """
    if engine.settings.prompt_cache != "off":
        raise ConfigError(f"{say.prompt_cache} has no effect on batches: leave it out")


def check_model(lane: Wanted, engine: Engine, model: str | None) -> None:
    """Refuse a model that has no such lane, or, where there is a budget, no price for it.

    Raises:
        ConfigError: the message names the lanes that it has.
    """
    if (lane, model) in engine.in_lane:
        return
    from .batch.targets import target_of  # loaded for those who want a lane
    from .offers import check, lanes_of

    if model is not None and lane != "auto":
        check(lane, target_of(engine, model, lane))
    if lane != "flex" and engine.stack.purse.budget is not None:
        for target in engine.targets_of(model):
            if "batch" in lanes_of(target):
                engine.stack.purse.worst_cases.of(target, _PRICED, engine.stack.prices)
    engine.in_lane.add((lane, model))


def check_tier(call: Call) -> None:
    """Refuse a call for another service than the batch.

    Raises:
        ConfigError: the message names its service.
    """
    if call.service_tier is not None:
        raise ConfigError(f"a batch is a service of its own: leave service_tier={call.service_tier} out")
