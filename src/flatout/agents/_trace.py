"""The trace of one run: its steps as they are taken, what they add up to, and whether that is still allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from flatout.errors import UsageLimitReached
from flatout.telemetry._spans import Span, execute_tool, stage
from flatout.text.redact import excerpt
from flatout.values import Result, Usage
from flatout.values.agent_step import Step

from ._outcome import DETAIL, UsageLimits

if TYPE_CHECKING:
    from flatout.journey import Account

_parent: ContextVar[int | None] = ContextVar("flatout_agent_step", default=None)

_STAGES = frozenset({"classify", "plan", "act", "execute", "verify"})


class Trace:
    """Collects the steps of one run, and ends it when a limit is reached.

    Attributes:
        steps: the steps, in the order in which they began.
        calls, turns, tool_calls: how many there were.
        tokens: input and output together; None when a provider did not count them.
        cost: US dollars; None when not known.
    """

    def __init__(self, limits: UsageLimits) -> None:
        self.steps: list[Step] = []
        self.calls = self.turns = self.tool_calls = 0
        self.input_tokens: int | None = 0
        self.output_tokens: int | None = 0
        self.cost: float | None = 0.0
        self.waits: dict[str, float] = {}
        self._limits = limits
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()

    @property
    def seconds(self) -> float:
        """Since the run's start."""
        return self._clock() - self._began

    @property
    def usage(self) -> Usage:
        """Tokens in all."""
        return Usage(input_tokens=self.input_tokens, output_tokens=self.output_tokens)

    @contextmanager
    def step(self, kind: str, name: str) -> Iterator[Step]:
        """A step around a block; steps within are its children. An error that leaves the block is noted."""
        began = self._clock()
        step = Step(kind=kind, name=name, parent=_parent.get(), started=began - self._began)
        token = _parent.set(len(self.steps))
        self.steps.append(step)
        try:
            if kind in _STAGES or kind == "tool":
                with _span(kind, name):
                    yield step
            else:
                yield step
        except Exception as error:
            step.error = short(f"{type(error).__name__}: {error}")
            raise
        finally:
            _parent.reset(token)
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
        """Add the calls that a function of the user's made by itself. Their tokens are not known."""
        if account.attempts:
            self._add(step, account.attempts, account.cost, account.waits)

    def check(self, *, turns: int = 0, calls: int = 0, tool_calls: int = 0) -> None:
        """Find out whether the run may go on, with so many more of these.

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
        """``wanted``: how many more there are to be; None where nobody knows yet, so that something must be left."""
        if allowed is None or (used is not None and (used < allowed if wanted is None else used + wanted <= allowed)):
            return
        if used is None:
            message = f"the limit on {name} cannot be kept: what was used is not known"
        else:
            message = f"the run came to its limit of {allowed:g} {name.replace('_', ' ')}: {used:g} used"
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
    """A text as a trace keeps it: without what looks like a key, and cut."""
    return excerpt(text, DETAIL)


def note(name: str, verdict: str, reason: str) -> None:
    """Tell the span that is open here, if any, what a guardrail decided."""
    span = _open_span.get()
    if span is not None:
        span.guardrail(name, verdict, reason)


_open_span: ContextVar[Span | None] = ContextVar("flatout_agent_span", default=None)


@contextmanager
def opened(span: AbstractContextManager[Span]) -> Iterator[Span]:
    """A span whose block hears of the guardrails within it."""
    with span as made:
        token = _open_span.set(made)
        try:
            yield made
        finally:
            _open_span.reset(token)


def tell(name: str, value: str | None) -> None:
    """Set an attribute of the span that is open here, if any."""
    span = _open_span.get()
    if span is not None:
        span.set(name, value)


def _span(kind: str, name: str) -> AbstractContextManager[Span]:
    return opened(execute_tool(name) if kind == "tool" else stage(kind))


def _sum(one: Any, other: Any) -> Any:
    return None if one is None or other is None else one + other
