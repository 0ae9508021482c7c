"""The checks of one run: its guardrails, ``approve``, and the verification at its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Struct

from flatout.errors import GuardrailTripped
from flatout.values import Call, Reply

from ._context import RunContext
from ._functions import name_of
from ._guard import At, Checked, Guardrail, Verdict, judged, stop
from ._json import as_json, text_of, utf8


class Approval(Struct, frozen=True, kw_only=True):
    """The question to an agent's ``approve``.

    Attributes:
        tool: the tool's name, or ``execute``.
        arguments: the arguments that it would run with.
        intent: the agent's request.
        why: ``ask_before``, or ``unknown`` if the step began before a crash and may have taken effect. In that case yes
            means to run it, perhaps again.
        key: for ``unknown``, the idempotency key with which the step began.
    """

    tool: str
    arguments: Any
    intent: Any
    why: str = "ask_before"
    key: str = ""


class Oversight:
    """Asks guardrails, ``approve`` and ``verify``, and keeps their verdicts.

    Args:
        context: makes their calls to models.
        intent: the agent's request.
        guardrails: the guardrails, in the order in which they are asked.
        approve: the agent's ``approve``, if it has one.
        corrections: how often the guardrails may send the run back.
    """

    def __init__(
        self,
        context: RunContext,
        intent: Any,
        guardrails: Sequence[Guardrail],
        approve: Callable[..., Any] | None,
        corrections: int,
    ) -> None:
        self._context = context
        self._intent = intent
        self._guardrails = guardrails
        self._approve = approve
        self._corrections = corrections
        self._sent_back = 0
        self._sources: list[str] = []

    def add_source(self, text: str) -> None:
        """Remember a tool's result."""
        self._sources.append(text)

    async def guard(self, at: At, text: str, value: Any = None, tool: str | None = None) -> str | None:
        """Ask the guardrails of a place. Returns the reason of a fail, or None if all of them pass.

        Raises:
            GuardrailTripped: a guardrail said stop, or the run was sent back too often.
        """
        standing = [guardrail for guardrail in self._guardrails if at in guardrail.at]
        if not standing:
            return None
        about = self._about(at, text, value, tool=tool)
        given = as_json([at, tool, text], "guard")
        for guardrail in standing:
            verdict = await self._ask("guard", guardrail.title, guardrail.check, about, given, pure=guardrail.pure)
            if verdict.kind == "stop":
                raise GuardrailTripped(f"{guardrail.title}: {verdict.reason}")
            if verdict.kind == "fail":
                return self._send_back(guardrail.title, verdict.reason)
        return None

    async def approve(self, tool: str, arguments: Any, text: str) -> Verdict:
        """The verdict of the agent's ``approve`` on a tool. A resumed run does not ask again.

        Raises:
            GuardrailTripped: the verdict is stop.
        """
        about = Approval(tool=tool, arguments=arguments, intent=self._intent)
        verdict = await self._ask("approve", tool, self._approve, about, utf8(text))
        if verdict.kind == "stop":
            raise GuardrailTripped(f"{tool} was not approved: {verdict.reason}")
        return verdict

    async def may_repeat(self, tool: str, arguments: Any, key: str) -> bool:
        """Whether to run a step again that began before a crash and may have taken effect."""
        if self._approve is None:
            return False
        about = Approval(tool=tool, arguments=arguments, intent=self._intent, why="unknown", key=key)
        return (await self._ask("approve", tool, self._approve, about, b"", pure=True)).kind == "pass"

    async def verify(self, check: Any, text: str, answer: Any, executed: Any) -> Verdict:
        """The verdict of the agent's ``verify``. If it raises, that is stop: the model could not correct it."""
        about = self._about("verify", text, answer, executed=executed)
        given = as_json([text, text_of(executed)], "verify")
        try:
            return await self._ask("verify", name_of(check), check, about, given, pure=getattr(check, "pure", False))
        except GuardrailTripped as error:
            return stop(str(error))

    def _send_back(self, title: str, reason: str) -> str:
        if self._sent_back >= self._corrections:
            raise GuardrailTripped(f"{title}: {reason} (sent back {self._sent_back} times before)")
        self._sent_back += 1
        return reason

    async def _ask(self, kind: str, name: str, check: Any, about: Any, given: bytes, *, pure: bool = False) -> Verdict:
        async def go(_key: str) -> Verdict:
            return await judged(name, check, about)

        record = self._context.record
        with record.step(kind, name) as step:
            verdict: Verdict = (
                await go("") if pure else await self._context.kept(f"{kind} {name}", given, go, step, into=Verdict)
            )
        record.note_verdict(step, verdict.kind, verdict.reason)
        return verdict

    def _about(self, at: str, text: str, value: Any, **more: Any) -> Checked:
        def ask(call: Call) -> Awaitable[Reply]:
            return self._context.ask(at, call)

        return Checked(
            at=at, text=text, value=value, intent=self._intent, sources=tuple(self._sources), ask=ask, **more
        )
