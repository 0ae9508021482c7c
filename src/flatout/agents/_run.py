"""One run of an agent: its stages in order, and what they share.

::

    guard input → classify → plan → act (model ⇄ tools) → guard output → execute → verify → outcome
                                     ↑                        │                       │
                                     └── fail: the reason ────┴───────────────────────┘ (once)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flatout.durable.map import as_json
from flatout.errors import GuardrailTripped, StoreError, UsageLimitReached
from flatout.telemetry._spans import invoke_agent
from flatout.values import Message, Reply

from ._act import act, conversation
from ._guard import Verdict, name_of, stop
from ._outcome import Outcome, PlanStep
from ._stages import Classify, Plan, as_plan, check_tools, text_of
from ._trace import opened, short
from ._work import Work, called

if TYPE_CHECKING:
    from ._agent import Agent


async def run_agent(agent: Agent, intent: Any, client: Any) -> Outcome:
    """Run an agent for one intent. See `Agent` for what is raised."""
    run = Run(agent, intent, client)
    try:
        with opened(invoke_agent(agent.name, model=agent.model)):
            return await run.bounded()
    except Exception as error:
        vars(error)["outcome"] = outcome = run.outcome()
        if not isinstance(error, StoreError):
            await run.keep_trace(outcome)
        raise


class Run(Work):
    """The stages in their order, and what has come of them."""

    def __init__(self, agent: Agent, intent: Any, client: Any) -> None:
        super().__init__(agent, intent, client)
        self._done: dict[str, Any] = {}
        self._executed: dict[bytes, Any] = {}

    async def bounded(self) -> Outcome:
        """All stages, within the limit on seconds."""
        seconds = self.agent.limits.seconds
        clock = asyncio.timeout(seconds)
        try:
            async with clock:
                return await self._stages()
        except TimeoutError as error:
            if not clock.expired():
                raise
            used = self.trace.seconds
            message = f"the run came to its limit of {seconds:g} seconds"
            raise UsageLimitReached(message, limit="seconds", allowed=seconds, used=used) from error

    async def _stages(self) -> Outcome:
        agent = self.agent
        if reason := await self.guard("input", self.text, self.intent):
            raise GuardrailTripped(f"the request was not let in: {reason}")
        if agent.classify is not None:
            self._done["classification"] = await self._classify(agent.classify)
        if agent.plan is not None:
            self._allow(await self._plan(agent.plan))
        self.system = "\n\n".join(self._briefing()) or None
        messages = conversation(self.intent)
        sent_back = False
        while True:
            answer, reply = await self._answer(messages)
            text = reply.text
            if agent.execute is not None:
                self._done["executed"] = await self._execute(answer, text)
            if agent.verify is None:
                return self.outcome()
            verdict = await self._verify(answer, text)
            self._done["verified"] = verdict.kind == "pass"
            if verdict.kind == "fail" and not sent_back:
                sent_back = True
                messages += _back(reply, f"What came of it did not pass verification: {verdict.reason}. Mend it.")
                continue
            return self.outcome()

    async def _classify(self, stage: Any) -> Any:
        with self.trace.step("classify", name_of(stage)) as step:
            found = await (stage.ask(self) if isinstance(stage, Classify) else self.own("classify", stage, step))
            step.detail = short(text_of(found))
            return found

    async def _plan(self, stage: Any) -> tuple[PlanStep, ...]:
        with self.trace.step("plan", name_of(stage)) as step:
            steps = await (stage.ask(self) if isinstance(stage, Plan) else self.own("plan", stage, step))
            plan = as_plan(steps)
            check_tools(plan, self.tools)
            step.detail = short(text_of(plan))
            return plan

    def _allow(self, plan: tuple[PlanStep, ...]) -> None:
        self._done["plan"] = plan
        named = {name for step in plan for name in step.tools}
        self.allowed = {name: tool for name, tool in self.tools.items() if name in named}
        self.offered = [tool.schema for tool in self.allowed.values()]

    async def _answer(self, messages: list[Message]) -> tuple[Any, Reply]:
        """The answer that the guardrails let out, and its reply."""
        output = self.agent.output
        with self.trace.step("act", self.agent.name):
            while True:
                reply = await act(self, messages)
                answer = reply.text if output is None else reply.output
                reason = await self.guard("output", reply.text, answer)
                if reason is None:
                    break
                messages += _back(reply, f"That was not accepted: {reason}. Answer again.")
        self._done["answer"] = answer
        return answer, reply

    async def _execute(self, answer: Any, text: str) -> Any:
        self.trace.check()
        made = text.encode(errors="replace")
        if made in self._executed:  # the very same action again: it was executed
            return self._executed[made]
        function = self.agent.execute

        async def go(key: str) -> Any:
            return await called(function, answer, key)

        async def again(key: str) -> bool:
            return (await self.may_repeat("execute", answer, key)).kind == "pass"

        with self.trace.step("execute", name_of(function)) as step:
            done = await self.kept("execute", made, go, step, once=True, again=again)
            step.detail = short(text_of(done))
        self._executed[made] = done
        return done

    async def _verify(self, answer: Any, text: str) -> Verdict:
        check, executed = self.agent.verify, self._done.get("executed")
        about = self.about("verify", text, answer, executed=executed)
        made = as_json([text, text_of(executed)], "verify")
        try:
            return await self.say("verify", name_of(check), check, about, made, pure=getattr(check, "pure", False))
        except GuardrailTripped as error:  # it raised: that is no pass, and nothing that the model could mend
            return stop(str(error))

    def outcome(self) -> Outcome:
        """What the run has come to so far."""
        trace, done = self.trace, self._done
        next_action = _next_action(done.get("answer"))
        if done.get("verified") is False:
            next_action = "review"
        return Outcome(
            **done,
            next_action=next_action,
            trace=tuple(trace.steps),
            usage=trace.usage,
            cost=trace.cost,
            calls=trace.calls,
            turns=trace.turns,
            tool_calls=trace.tool_calls,
            seconds=trace.seconds,
            waits=trace.waits,
        )

    async def keep_trace(self, outcome: Outcome) -> None:
        """Keep the trace of a run that failed; the outcome of one that did not is kept by its item."""
        journal = self._base.journal
        if journal is None:
            return
        kept = as_json(outcome, "the outcome")

        async def go(_key: str) -> bytes:
            return kept

        await journal.step("trace", kept, go)

    def _briefing(self) -> list[str]:
        parts = [self.agent.instructions] if self.agent.instructions else []
        if "classification" in self._done:
            parts.append(f"The request was classified as: {text_of(self._done['classification'])}")
        if plan := self._done.get("plan"):
            lines = (f"{number}. {step.what} (tools: {', '.join(step.tools) or 'none'})" for number, step in
                     enumerate(plan, 1))  # fmt: skip
            parts.append("The plan:\n" + "\n".join(lines))
        return parts


def _back(said: Reply, complaint: str) -> list[Message]:
    """The answer, and why it is not the last one."""
    return [said.message, {"role": "user", "content": complaint}]


def _next_action(answer: Any) -> str | None:
    found = answer.get("next_action") if isinstance(answer, Mapping) else getattr(answer, "next_action", None)
    return found if isinstance(found, str) else None
