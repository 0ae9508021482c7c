"""Which lanes a target has, and how its batch endpoint is spoken to.

An endpoint says which form its batches have (`flatout.values.Endpoint.batch`) and how it sells flex (`Endpoint.flex`).
What a lane costs is in the price list (`flatout.money.prices.Prices.share`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Literal

from flatout.errors import ConfigError
from flatout.providers.registry import ACCOUNT_ENV
from flatout.values import Target

from .batch.format import BatchFormat

Lane = Literal["live", "flex", "batch"]
"""How a row is answered, from the fastest to the cheapest."""

Wanted = Literal["live", "flex", "batch", "auto"]
"""The lane that a user asks for; ``auto`` is the cheapest one that is in time."""

Kind = Literal["chat", "responses", "embeddings"]
"""What rows ask for."""

_FORMATS = {
    "openai": "openai",
    "azure": "openai",
    "groq": "openai",
    "together": "openai",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "mistral": "mistral",
    "fireworks": "fireworks",
    "openrouter": "openrouter",
    "xai": "xai",
}
"""The forms of batch endpoints: the module of each. A new form is a module with ``batch_format``, and a row here."""


def lanes_of(target: Target) -> tuple[Lane, ...]:
    """The lanes of a target, the fastest first."""
    endpoint = target.endpoint
    lanes: list[Lane] = ["live"]
    if endpoint.flex:
        lanes.append("flex")
    if endpoint.batch in _FORMATS and not _lacks_account(target):
        lanes.append("batch")
    return tuple(lanes)


def _lacks_account(target: Target) -> str | None:
    """The environment variable that must name an account before there are batches; None if there are."""
    return None if target.endpoint.account else ACCOUNT_ENV.get(target.endpoint.batch)


def check(lane: Lane, target: Target) -> None:
    """Refuse a lane that a target does not have.

    Raises:
        ConfigError: it has no such lane; the message names those that it has, or what is missing.
    """
    lanes = lanes_of(target)
    if lane == "batch" and (variable := _lacks_account(target)) is not None:
        raise ConfigError(f"batches of {target.endpoint.name} belong to an account: name yours in {variable}")
    if lane not in lanes:
        others = " and ".join(lanes)
        raise ConfigError(f"{target.endpoint.name} has no {lane} lane that flatout knows: {target.name} has {others}")


def batch_format(target: Target, kind: Kind | None = None) -> BatchFormat:
    """The form of a target's batch endpoint.

    Args:
        target: endpoint, key and model.
        kind: what the rows ask for; None for what the endpoint's calls are.

    Raises:
        ConfigError: it has none, or none for this kind; or its address or key cannot be used.
    """
    check("batch", target)
    endpoint = target.endpoint
    usual: Kind = "responses" if endpoint.dialect == "openai-responses" else "chat"
    module = import_module(f".batch.formats.{_FORMATS[endpoint.batch]}", __package__)
    made: Callable[[Target, Kind], BatchFormat] = module.batch_format
    return made(target, kind or usual)
