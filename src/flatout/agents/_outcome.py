"""The outcome of an agent's run, with the trace of its steps, and the limits that may end it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Generic

from msgspec import Struct

from flatout.errors import ConfigError
from flatout.text.shown import beginning, dollars, shown
from flatout.values import OutputT, Usage
from flatout.values.agent_step import Step
from flatout.values.checks import is_positive

DETAIL = 500
"""Characters of a text that a step keeps."""


class UsageLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most that one run of an agent may use; None is no limit.

    A run that reaches a limit raises `UsageLimitReached`. Limits are checked before each step, so a run that has
    finished its last step is finished, whatever it used.

    Args:
        turns: turns of the model in its loop with the tools.
        calls: calls to models in all: turns, stages and guardrails that ask a model.
        tool_calls: tool calls of the model.
        tokens: tokens of input and output together.
        cost: US dollars.
        seconds: seconds from the run's start to its end. In a resumed run they begin again.

    Raises:
        ConfigError: a limit is not a number above 0.
    """

    turns: int | None = 25
    calls: int | None = None
    tool_calls: int | None = 100
    tokens: int | None = None
    cost: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and not is_positive(value):
                raise ConfigError(f"the limit {name} is a number above 0, not {value!r}")


class PlanStep(Struct, frozen=True):
    """One step of a plan.

    Args:
        what: the step's task.
        tools: the names of the tools that it may use.
    """

    what: str
    tools: tuple[str, ...] = ()

    def line(self, number: int) -> str:
        """The step as text for a model."""
        return f"{number}. {self.what} (tools: {', '.join(self.tools) or 'none'})"


class Outcome(Struct, Generic[OutputT], frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of a run.

    Attributes:
        answer: the text, or an object of the agent's ``output``; None if there is no answer.
        next_action: the answer's own ``next_action``, if it has one; ``review`` if the verification failed.
        verified: whether the verification passed; None if there was none.
        executed: the return value of ``execute``.
        classification: the result of ``classify``.
        plan: the planned steps.
        trace: all steps of the run.
        usage: tokens in all; None if a provider did not count them.
        cost: US dollars in all; None if unknown.
        calls, turns, tool_calls: their numbers.
        seconds: how long the run took.
        waits: the calls' seconds by cause; see `flatout.events.WAITS`.
    """

    answer: OutputT = None  # type: ignore[assignment]  # a failed run has no answer
    next_action: str | None = None
    verified: bool | None = None
    executed: Any = None
    classification: Any = None
    plan: tuple[PlanStep, ...] | None = None
    trace: tuple[Step, ...] = ()
    usage: Usage = Usage()
    cost: float | None = 0.0
    calls: int = 0
    turns: int = 0
    tool_calls: int = 0
    seconds: float = 0.0
    waits: Mapping[str, float] = {}

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # any iterable is what rich wants
        for name in ("answer", "next_action", "verified", "executed", "classification"):
            value = getattr(self, name)
            if value is not None:
                yield name, beginning(value)
        for name in ("turns", "calls", "tool_calls"):
            if number := getattr(self, name):
                yield name, number
        if self.usage.total_tokens is not None:
            yield "tokens", self.usage.total_tokens
        if self.cost is not None:
            yield "cost", dollars(self.cost)
        yield "seconds", round(self.seconds, 3)

    def __repr__(self) -> str:
        return shown("Outcome", self.__rich_repr__())

    @property
    def times(self) -> dict[str, float]:
        """Seconds by kind of step, the longest first. A step inside another counts in both."""
        found: Counter[str] = Counter()
        for step in self.trace:
            found[step.kind] += step.seconds  # type: ignore[assignment]  # a Counter counts floats just as well
        return dict(found.most_common())
