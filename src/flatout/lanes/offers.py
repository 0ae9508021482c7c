"""Which lanes a target has, what they cost, and how its batch endpoint is spoken to.

An endpoint says which form its batches have (`flatout.values.Endpoint.batch`) and how it sells flex (`Endpoint.flex`).
The prices are the vendors' list prices (November 2026); no account was charged to check them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Literal

from flatout.errors import ConfigError
from flatout.values import Target

from .batch.format import BatchFormat

Lane = Literal["live", "flex", "batch"]
"""How a row is answered, from the fastest to the cheapest."""

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
    "openrouter": "openrouter",
}
"""The forms of batch endpoints: the module of each. A new form is a module with ``batch_format``, and a row here."""

_FLEX_PRICES = {"groq": 1.0}
"""Flex's share of the live price, where it is not a half. Groq's flex has ten times the limits at the live price."""

BATCH_PRICE = 0.5
"""A batch's share of the live price. All providers with batches sell them at half; xAI and Together at half at most."""


def lanes_of(target: Target) -> tuple[Lane, ...]:
    """The lanes of a target, the fastest first."""
    endpoint = target.endpoint
    lanes: list[Lane] = ["live"]
    if endpoint.flex:
        lanes.append("flex")
    if endpoint.batch in _FORMATS:
        lanes.append("batch")
    return tuple(lanes)


def price_of(lane: Lane, target: Target) -> float:
    """A lane's share of the live price."""
    if lane == "live":
        return 1.0
    return BATCH_PRICE if lane == "batch" else _FLEX_PRICES.get(target.endpoint.batch, 0.5)


def check(lane: Lane, target: Target) -> None:
    """Refuse a lane that a target does not have.

    Raises:
        ConfigError: it has no such lane; the message names those that it has.
    """
    lanes = lanes_of(target)
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
