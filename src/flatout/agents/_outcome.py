"""What comes out of an agent's run: the outcome, the trace of its steps, and the limits that may end it."""

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
"""Characters of what was said that a step keeps."""


class UsageLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one run of an agent may use; None is no limit. A run that comes to a limit raises `UsageLimitReached`.

    Limits are looked at before the next step: a run that is done with its last one is done.

    Args:
        turns: turns of the model in the loop with its tools.
        calls: calls to models in all: turns, stages and judging guardrails.
        tool_calls: tools that the model asks for.
        tokens: tokens of input and output together.
        cost: US dollars.
        seconds: from the run's start to its end. A resumed run's seconds begin anew.

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
        what: what is to be done.
        tools: the names of the tools that it may use.
    """

    what: str
    tools: tuple[str, ...] = ()

    def line(self, number: int) -> str:
        """The step as a model reads it."""
        return f"{number}. {self.what} (tools: {', '.join(self.tools) or 'none'})"


class Outcome(Struct, Generic[OutputT], frozen=True, kw_only=True, omit_defaults=True):
    """What a run came to.

    Attributes:
        answer: the text, or the object that the agent's ``output`` asks for; None while there is none.
        next_action: what is to be done next, when something is: the answer's own ``next_action``, if it has one, or
            ``review`` when the verification failed.
        verified: whether the verification passed; None when there was none.
        executed: what ``execute`` returned.
        classification: what the intent was found to be.
        plan: the steps that were planned.
        trace: every step that was taken.
        usage: tokens in all; None where a provider did not count.
        cost: US dollars in all; None when not known.
        calls, turns, tool_calls: how many there were.
        seconds: how long the run took.
        waits: where the calls' seconds went, by cause; see `flatout.events.WAITS`.
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
        """Seconds by kind of step, the longest first. Steps within others count in both."""
        found: Counter[str] = Counter()
        for step in self.trace:
            found[step.kind] += step.seconds  # type: ignore[assignment]  # a Counter counts floats just as well
        return dict(found.most_common())
