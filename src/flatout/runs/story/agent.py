"""What a run file keeps of an agent's run, read from its JSON, because the reader need not have the agent."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct

from flatout.durable.steps import KeptStep
from flatout.values import Usage
from flatout.values.agent_step import Step

from .node import Node, shortened, waited


class AgentTrace(Struct, frozen=True, kw_only=True):
    """The part of `flatout.agents.Outcome` that a tree needs."""

    trace: tuple[Step, ...]
    answer: Any = None
    next_action: str | None = None
    verified: bool | None = None
    usage: Usage = Usage()


def trace_of(output: bytes) -> AgentTrace | None:
    """The trace in an item's output; None if the output is not an agent's outcome."""
    try:
        return msgspec.json.decode(output, type=AgentTrace)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def is_trace(kept: KeptStep) -> bool:
    """Whether a journalled step is the trace of a run that failed."""
    return kept.name == "trace" and trace_of(bytes(kept.value)) is not None


def agent_steps(agent: AgentTrace) -> list[Node]:
    """The steps of a run as nodes in one flat list."""
    return [_node(step) for step in agent.trace]


def _returned(step: Step) -> tuple[Node, ...]:
    return (Node(kind="result", detail=shortened(step.result)),) if step.result is not None else ()


def _node(step: Step) -> Node:
    asked = step.kind == "call" or step.attempts > 0
    detail = " · ".join(shortened(text) for text in (step.error, step.detail) if text)
    return Node(
        kind=step.kind,
        name=step.name,
        start=step.started,
        seconds=step.seconds,
        input_tokens=step.input_tokens if asked else UNSET,
        output_tokens=step.output_tokens if asked else UNSET,
        cost=step.cost if asked else UNSET,
        outcome=step.verdict or ("failed" if step.error is not None else None),
        detail=detail or None,
        children=(*waited(step.waits), *_returned(step)),
    )
