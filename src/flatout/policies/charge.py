"""What a call is charged on each limit, by the provider's own rule: when it is sent, and when it is answered."""

from __future__ import annotations

from typing import Literal

from flatout.values import Usage

from .estimate import Need

Reserve = Literal["usage", "max_tokens", "input"]
"""What a provider charges against tokens per minute: what was used; ``max(max_tokens, input)`` on admission; input."""


def cost_of(limit: str, need: Need, reserve: Reserve) -> float:
    """What a call is reserved on one limit, a field of `flatout.Limits`."""
    if limit in ("rpm", "rpd"):
        return 1.0
    if limit == "itpm" or (limit == "tpm" and reserve == "input"):
        return need.input
    if limit == "otpm":
        return need.output
    if reserve == "max_tokens" and need.max_tokens is not None:
        return max(need.input, float(need.max_tokens))
    return need.input + need.output


def used_of(limit: str, need: Need, usage: Usage, reserve: Reserve) -> float | None:
    """What a call turned out to be charged on a limit of tokens; None when that is not known."""
    given, taken = usage.input_tokens, usage.output_tokens
    if limit == "otpm":
        return float(taken) if taken is not None else None
    if given is None:
        return None
    if limit == "itpm":
        return float(given - (usage.cached_tokens or 0))
    if reserve == "input":
        return float(given)
    if reserve == "max_tokens" and need.max_tokens is not None:
        return float(max(given, need.max_tokens))  # charged on admission, and never handed back
    return float(given + taken) if taken is not None else None
