"""The record of one run: its steps, their sums, and whether the sums are within the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from flatout.errors import UsageLimitReached
from flatout.telemetry._spans import Span, execute_tool, invoke_agent, stage
from flatout.text.redact import excerpt
from flatout.values import Result, ToolCall, Usage
from flatout.values.agent_step import Step

from ._outcome import DETAIL, UsageLimits

if TYPE_CHECKING:
    from flatout.journey import Account


_STAGES = frozenset({"classify", "plan", "act", "execute", "verify"})


class _Here(NamedTuple):
    """The place of the current task in a run: the index of its step, and the innermost open span."""

    step: int | None
    span: Span


_NOWHERE = _Here(None, Span())
_here: ContextVar[_Here] = ContextVar("flatout_agent_step", default=_NOWHERE)


class Record:
    """Collects the steps of one run, and ends the run when it reaches a limit.

    Attributes:
        steps: the steps, in the order in which they began.
        calls, turns, tool_calls: their numbers.
        input_tokens, output_tokens: their sums; None if a provider did not count them.
        cost: US dollars; None if unknown.
        waits: the calls' seconds by cause.
    """

    def __init__(self, limits: UsageLimits) -> None:
        self.steps: list[Step] = []
        self.calls: int = 0
        self.turns: int = 0
        self.tool_calls: int = 0
        self.input_tokens: int | None = 0
        self.output_tokens: int | None = 0
        self.cost: float | None = 0.0
        self.waits: dict[str, float] = {}
        self._limits = limits
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()

    @property
    def seconds(self) -> float:
        """Seconds since the run's start."""
        return self._clock() - self._began

    @property
    def usage(self) -> Usage:
        """Tokens in all."""
        return Usage(input_tokens=self.input_tokens, output_tokens=self.output_tokens)

    @contextmanager
    def run(self, agent: str, model: str | None) -> Iterator[None]:
        """Record the block as the whole run."""
        with invoke_agent(agent, model=model) as span, _at(None, span):
            yield

    def step(self, kind: str, name: str) -> AbstractContextManager[Step]:
        """Record the block as a step. Steps inside it are its children. An error that leaves the block is noted."""
        return self._step(kind, name, stage(kind) if kind in _STAGES else nullcontext(_here.get().span))

    @contextmanager
    def tool(self, asked: ToolCall) -> Iterator[Step]:
        """Record the block as the step of a tool call."""
        span = execute_tool(asked.name, call_id=asked.id, arguments=asked.arguments)
        with self._step("tool", asked.name, span) as step:
            step.detail = short(asked.arguments)
            yield step

    def note_result(self, step: Step, told: str, *, failed: bool) -> None:
        """Note a tool's result, as the model reads it, in the tool's step."""
        if failed:
            step.error = short(told)
        else:
            step.result = short(told)
        _here.get().span.result(told, error=step.verdict or "tool_failed" if failed else None)

    def note_verdict(self, step: Step, kind: str, reason: str) -> None:
        """Note the verdict of a guardrail, an approval or a verification in its step, which has ended."""
        step.verdict = kind
        step.detail = short(reason) if reason else None
        _here.get().span.guardrail(step.name, kind, reason)

    @contextmanager
    def _step(self, kind: str, name: str, span: AbstractContextManager[Span]) -> Iterator[Step]:
        began = self._clock()
        index = len(self.steps)
        step = Step(kind=kind, name=name, parent=_here.get().step, started=began - self._began)
        self.steps.append(step)
        try:
            with span as opened, _at(index, opened):
                yield step
        except Exception as error:
            step.error = short(f"{type(error).__name__}: {error}")
            raise
        finally:
            step.seconds = self._clock() - began

    def count(self, step: Step, result: Result[Any]) -> None:
        """Add a call's result to the step and to the run."""
        reply = result.reply if result.reply is not None else getattr(result.error, "reply", None)
        if reply is not None:
            step.input_tokens, step.output_tokens = reply.usage.input_tokens, reply.usage.output_tokens
            self.input_tokens = _sum(self.input_tokens, step.input_tokens)
            self.output_tokens = _sum(self.output_tokens, step.output_tokens)
        self._add(step, result.attempts, result.cost, dict(result.waits))

    def count_own(self, step: Step, account: Account) -> None:
        """Add the calls that a user's function made itself. Their tokens are unknown."""
        if account.attempts:
            self._add(step, account.attempts, account.cost, account.waits)

    def take(self, *, turns: int = 0, calls: int = 0, tool_calls: int = 0) -> None:
        """Add to the counts.

        Raises:
            UsageLimitReached: the sums would exceed a limit.
        """
        self.check(turns=turns, calls=calls, tool_calls=tool_calls)
        self.turns += turns
        self.calls += calls
        self.tool_calls += tool_calls

    def check(self, *, turns: int = 0, calls: int = 0, tool_calls: int = 0) -> None:
        """Check that the run may continue with these additional turns and calls.

        Raises:
            UsageLimitReached: it may not.
        """
        limits = self._limits
        self._check("turns", limits.turns, self.turns, wanted=turns)
        self._check("calls", limits.calls, self.calls, wanted=calls)
        self._check("tool_calls", limits.tool_calls, self.tool_calls, wanted=tool_calls)
        if limits.tokens is not None:
            self._check("tokens", limits.tokens, _sum(self.input_tokens, self.output_tokens))
        if limits.cost is not None:
            self._check("cost", limits.cost, self.cost)

    def _check(self, name: str, allowed: float | None, used: float | None, *, wanted: int | None = None) -> None:
        """``wanted`` is how much more is needed; None if that is unknown, in which case something must be left."""
        if allowed is None or (used is not None and (used < allowed if wanted is None else used + wanted <= allowed)):
            return
        if used is None:
            message = f"the limit on {name} cannot be kept: the use so far is unknown"
        else:
            message = f"the run reached its limit of {allowed:g} {name.replace('_', ' ')}: {used:g} used"
            if wanted is not None:
                message += ", and another was wanted" if wanted == 1 else f", and {wanted} more were wanted"
        raise UsageLimitReached(message, limit=name, allowed=allowed, used=used)

    def _add(self, step: Step, attempts: int, cost: float | None, waits: dict[str, float]) -> None:
        step.attempts += attempts
        step.cost = _sum(step.cost, cost)
        step.waits = waits
        self.cost = _sum(self.cost, cost)
        for cause, seconds in waits.items():
            self.waits[cause] = self.waits.get(cause, 0.0) + seconds


def short(text: str) -> str:
    """A text as a step keeps it: without anything that looks like a key, and cut."""
    return excerpt(text, DETAIL)


@contextmanager
def _at(step: int | None, span: Span) -> Iterator[None]:
    token = _here.set(_Here(step, span))
    try:
        yield
    finally:
        _here.reset(token)


def _sum(one: Any, other: Any) -> Any:
    return None if one is None or other is None else one + other
