"""What the stages of one run share: asking a model, guarding, approvals, and the journal, all on one account.

Everything that is not the same each time (a call, a tool's result, a verdict of the user's own function) is kept in the
journal of the durable run that this one is part of, if it is; so a run that was killed goes on where it was.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from flatout.durable.map import as_json
from flatout.durable.records import plain
from flatout.edge.fan_out import cancelled_alone
from flatout.errors import GuardrailTripped
from flatout.journey import Journey, current_journey, reset_journey, set_journey
from flatout.values import Call, Reply
from flatout.values.agent_step import Step

from ._guard import At, Checked, Verdict, judged, stop
from ._stages import marked, text_of
from ._tool import Tool, use_key
from ._trace import Trace, note, short

if TYPE_CHECKING:
    from ._agent import Agent


class Approval(Struct, frozen=True, kw_only=True):
    """What an agent's ``approve`` is asked.

    Attributes:
        tool: the tool's name, or ``execute``.
        arguments: what it would be run with.
        intent: what the agent was asked to do.
        why: ``ask_before``, or ``unknown``: it was begun before a crash, and nobody knows whether it took effect. Then
            yes means to run it (again).
        key: for ``unknown``, the idempotency key with which it was begun.
    """

    tool: str
    arguments: Any
    intent: Any
    why: str = "ask_before"
    key: str = ""


class _Worked(Struct, frozen=True, omit_defaults=True):
    """A journalled step: what it returned, and what the calls that it made by itself came to."""

    value: msgspec.Raw
    attempts: int = 0
    cost: float | None = 0.0
    waits: dict[str, float] = {}


class Work:
    """What the stages of one run share.

    Attributes:
        agent, intent, client: as given.
        text: the intent as text.
        tools: the agent's tools, by name.
        allowed: those of them that the plan allows.
        sources: what tools have returned.
        trace: the steps so far.
    """

    def __init__(self, agent: Agent, intent: Any, client: Any) -> None:
        self.agent = agent
        self.intent = intent
        self.client = client
        self.text = text_of(intent)
        self.tools: dict[str, Tool] = {tool.name: tool for tool in agent.kit}
        self.allowed = self.tools
        self.sources: list[str] = []
        self.trace = Trace(agent.limits)
        self.offered = [tool.schema for tool in self.tools.values()]
        self.system: str | None = agent.instructions or None
        outer = current_journey(None)
        self._base = Journey(asyncio.get_running_loop().time()) if outer is None else outer
        self._rails = agent.rails
        self._id, self._steps = token_hex(8), 0
        self._corrections = 0

    async def ask(self, name: str, call: Call) -> Reply:
        """Ask a model, on the run's account.

        Raises:
            UsageLimitReached: nothing may be asked any more.
            CallError: there is no answer.
        """
        self.trace.check(calls=1)
        self.trace.calls += 1
        with self.trace.step("call", name) as step:
            token = set_journey(self._base)
            try:
                result = await self.client.result(call)
            finally:
                reset_journey(token)
            self.trace.count(step, result)
            if result.error is not None:
                raise result.error
            reply: Reply = result.reply
            return reply

    async def guard(self, at: At, text: str, value: Any = None, tool: str | None = None) -> str | None:
        """Why something is not let through; None when it is.

        Raises:
            GuardrailTripped: a guardrail said stop, or the run was sent back too often.
        """
        about: Checked | None = None
        for guardrail in self._rails:
            if at not in guardrail.at:
                continue
            about = about or self.about(at, text, value, tool=tool)
            made = as_json([at, tool, text], "guard")
            verdict = await self.say("guard", guardrail.title, guardrail.check, about, made, pure=guardrail.pure)
            if verdict.kind == "stop":
                raise GuardrailTripped(f"{guardrail.title}: {verdict.reason}")
            if verdict.kind == "fail":
                if self._corrections >= self.agent.corrections:
                    times = self._corrections
                    raise GuardrailTripped(f"{guardrail.title}: {verdict.reason} (sent back {times} times before)")
                self._corrections += 1
                return verdict.reason
        return None

    async def approve(self, tool: str, arguments: Any, text: str) -> Verdict:
        """What the agent's ``approve`` says of a tool. A resumed run does not ask again.

        Raises:
            GuardrailTripped: it says stop.
        """
        about = Approval(tool=tool, arguments=arguments, intent=self.intent)
        verdict = await self.say("approve", tool, self.agent.approve, about, text.encode(errors="replace"))
        if verdict.kind == "stop":
            raise GuardrailTripped(f"{tool} was not approved: {verdict.reason}")
        return verdict

    async def may_repeat(self, tool: str, arguments: Any, key: str) -> Verdict:
        """Whether a step of which only the beginning is known is to be run."""
        if self.agent.approve is None:
            return stop("nobody was asked")
        about = Approval(tool=tool, arguments=arguments, intent=self.intent, why="unknown", key=key)
        return await self.say("approve", tool, self.agent.approve, about, b"", pure=True)

    async def kept(
        self,
        name: str,
        made: bytes,
        function: Callable[[str], Awaitable[Any]],
        step: Step,
        *,
        into: Any = Any,
        once: bool = False,
        again: Callable[[str], Awaitable[bool]] | None = None,
    ) -> Any:
        """What a function returns, kept in the journal if there is one; see `flatout.layer.Journal.step`."""
        journey = Journey(asyncio.get_running_loop().time())
        account = journey.account
        journey.journal = journal = self._base.journal

        async def go(key: str) -> Any:
            token = set_journey(journey)
            try:
                with use_key(key):
                    return await function(key)
            finally:
                reset_journey(token)

        async def go_to_keep(key: str) -> bytes:
            returned = await go(key)
            # What took effect is done, whatever it returned: an error here would leave it as one of unknown end.
            value = plain(returned) if once else as_json(returned, f"{name} returned what cannot be kept as JSON")
            return msgspec.json.encode(_Worked(msgspec.Raw(value), account.attempts, account.cost, account.waits))

        try:
            if journal is None:
                self._steps += 1
                return await go(f"{self._id}{self._steps:08x}")
            worked = msgspec.json.decode(
                await journal.step(name, made, go_to_keep, once=once, again=again), type=_Worked
            )
            account.attempts, account.cost, account.waits = worked.attempts, worked.cost, worked.waits
            return msgspec.json.decode(worked.value, type=into)
        finally:
            self._base.account.add(account)
            self.trace.count_own(step, account)

    async def own(self, name: str, function: Any, step: Step) -> Any:
        """A stage of the user's own: ``async def stage(intent, client)``."""

        async def go(_key: str) -> Any:
            return await called(function, self.intent, self.client)

        return await self.kept(name, self.text.encode(errors="replace"), go, step)

    async def say(self, kind: str, name: str, check: Any, about: Any, made: bytes, *, pure: bool = False) -> Verdict:
        async def go(_key: str) -> Verdict:
            return await judged(name, check, about)

        with self.trace.step(kind, name) as step:
            verdict: Verdict = await go("") if pure else await self.kept(f"{kind} {name}", made, go, step, into=Verdict)
            step.verdict = verdict.kind
            step.detail = short(verdict.reason) if verdict.reason else None
        note(name, verdict.kind, verdict.reason)
        return verdict

    def about(self, at: str, text: str, value: Any, **more: Any) -> Checked:
        def ask(call: Call) -> Awaitable[Reply]:
            return self.ask(at, msgspec.structs.replace(call, model=call.model or self.agent.model))

        return Checked(at=at, text=text, value=value, intent=self.intent, sources=tuple(self.sources), ask=ask, **more)

    @property
    def framed(self) -> str:
        """The request between marks, for stages that are not to follow it."""
        return f"The request:\n{marked(self.text)}"


async def called(function: Any, *arguments: Any) -> Any:
    """What a function returns, plain or async."""
    with cancelled_alone():
        returned = function(*arguments)
        return await returned if inspect.isawaitable(returned) else returned
