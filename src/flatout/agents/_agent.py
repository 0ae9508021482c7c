"""An agent: its instructions, tools, checks and limits, and the order of its stages.

::

    guard input → classify → plan → act (model ⇄ tools) → guard output → execute → verify → outcome
                                     ↑                        │                       │
                                     └── fail: the reason ────┴───────────────────────┘ (once)

A run passes down through the modules of this package and back: the stages here, the loop, the toolbox, the oversight,
and at the bottom the context, which calls the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic

import msgspec
from msgspec import Struct

from flatout.edge.parameters import CALL, check_names
from flatout.errors import ConfigError, GuardrailTripped, SchemaMismatch, StoreError, UsageLimitReached
from flatout.values import Call, Message, OutputT, OutputType, Reply
from flatout.values.agent_step import Step

from ._context import RunContext
from ._functions import called, name_of
from ._guard import PASSED, Guardrail, Verdict
from ._json import check_kind, plain, text_of, typed, utf8
from ._loop import act
from ._outcome import Outcome, UsageLimits
from ._oversight import Oversight
from ._record import short
from ._stages import Classify, Plan, as_plan, unknown_tools
from ._tool import Tool, tools_of
from ._toolbox import Toolbox

if TYPE_CHECKING:
    from flatout.client import Client

_OWN = frozenset({"prompt", "messages", "system", "model", "output", "tools", "reasks", "sample"})
"""The parameters of a turn's call that the agent sets itself."""


class Agent(Struct, Generic[OutputT], frozen=True, kw_only=True):
    """A small loop of model and tools, with stages around it. Each stage can be left out.

    Run it with `Client.run_agent`, or for many intents with `Client.map`. With ``store=``, it continues after a crash
    at the turn where it was.

    Args:
        model: the model that acts; the client's model when None.
        instructions: the system prompt.
        tools: the functions that the model may call, plain or made with `tool`. It can call no others.
        output: the type of the answer, or a dict with a JSON schema; text when None.
        classify: finds the kind of intent: a type, a list of choices, a `Classify` with its own models, or your
            ``async def classify(intent, client)``.
        plan: plans the steps: True, a `Plan` with its own model, or your ``async def plan(intent, client)``, which
            returns `PlanStep` values. Tools outside the plan are refused.
        guardrails: functions (of the answer), `Guardrail` values, or those of `flatout.agents.guards`.
        execute: your ``async def execute(answer, key)``, which carries out the accepted answer, once. ``key`` is its
            idempotency key. Its return value is kept as JSON.
        verify: your ``async def verify(checked)``, or a `Judge`: checks the answer and what ``execute`` returned. The
            first fail goes back to the model; stop does not.
        approve: your ``async def approve(approval)``. It is asked before tools with ``ask_before``, and whether to
            repeat a step that may or may not have taken effect.
        limits: the most that a run may use.
        corrections: how often guardrails may send a run back.
        options: parameters of the acting model's calls, such as ``{"temperature": 0}``. Names that flatout does not
            know are sent to the provider as they are.
        name: the agent's name in traces and run files.

    Raises:
        ConfigError: an argument is wrong: two tools have the same name, for example.
    """

    model: str | None = None
    instructions: str = ""
    tools: Sequence[Tool | Callable[..., Any]] = ()
    output: OutputType[OutputT] | None = None
    classify: Any = None
    plan: Any = None
    guardrails: Sequence[Guardrail | Callable[..., Any]] = ()
    execute: Callable[..., Any] | None = None
    verify: Callable[..., Any] | None = None
    approve: Callable[..., Any] | None = None
    limits: UsageLimits = UsageLimits()
    corrections: int = 3
    options: Mapping[str, Any] = {}
    name: str = "agent"

    def __post_init__(self) -> None:
        instructions: Any = self.instructions
        if not isinstance(instructions, str):
            raise ConfigError(f"instructions is a string, not {type(self.instructions).__name__}")
        if not isinstance(self.limits, UsageLimits):
            raise ConfigError(f"limits takes UsageLimits, not {type(self.limits).__name__}")
        corrections: Any = self.corrections
        if not isinstance(corrections, int) or isinstance(corrections, bool) or corrections < 0:
            raise ConfigError(f"corrections is a whole number from 0 on, not {corrections!r}")
        for name in ("execute", "verify", "approve"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise ConfigError(f"{name} takes a function, not {type(getattr(self, name)).__name__}")
        put = msgspec.structs.force_setattr
        put(self, "tools", tools_of(_listed("tools", self.tools), asks=self.approve is not None))
        put(self, "guardrails", tuple(Guardrail.of(each) for each in _listed("guardrails", self.guardrails)))
        check_kind("output", self.output)
        put(self, "classify", Classify.of(self.classify))
        put(self, "plan", Plan.of(self.plan))
        options = _copied(self.options)
        put(self, "options", options)  # so a key among refused names is concealed here too
        if taken := sorted(_OWN & options.keys()):
            raise ConfigError(f"options cannot set {', '.join(taken)}: the agent sets it itself")
        check_names(options, CALL)
        Call.of({"prompt": "", **options})

    async def __call__(self, intent: Any, client: Client) -> Outcome[OutputT]:
        """Run the agent for one intent.

        Raises:
            GuardrailTripped: a guardrail said stop, or said fail too often.
            UsageLimitReached: a limit was reached; ``limit`` names it.
            StepUnknown: a step with side effects began before a crash, and its outcome is unknown.
            CallError: a model gave no answer. The ``outcome`` of each of these errors is the `Outcome` so far.
        """
        return await _Run(self, intent, client).ended()

    @property
    def kit(self) -> tuple[Tool, ...]:
        """The tools, each made a `Tool`."""
        return tuple(map(Tool.of, self.tools))

    @property
    def rails(self) -> tuple[Guardrail, ...]:
        """The guardrails, each made a `Guardrail`."""
        return tuple(map(Guardrail.of, self.guardrails))

    def job(self) -> dict[str, Any]:
        """The agent's description in the run file. If it changes, the run is another job."""
        described = {
            "function": f"agent {self.name}",
            "agent_model": self.model,
            "instructions": self.instructions,
            "tools": [tool.schema for tool in self.kit],
            "side_effects": [tool.name for tool in self.kit if tool.side_effects],
            "output": self.output,
            "classify": self.classify,
            "plan": self.plan,
            "guardrails": [(rail.title, rail.at) for rail in self.rails],
            "execute": self.execute and name_of(self.execute),
            "verify": self.verify and name_of(self.verify),
            "options": dict(self.options),
        }
        return {name: msgspec.json.decode(plain(value)) for name, value in described.items()}

    def restore(self, kept: Any) -> Outcome[OutputT]:
        """An outcome from its form in a run file."""
        outcome = msgspec.convert(kept, Outcome)
        into = self.classify.into if isinstance(self.classify, Classify) else None
        return msgspec.structs.replace(
            outcome,
            answer=typed(self.output, outcome.answer),
            classification=typed(into, outcome.classification),
        )


def _listed(name: str, given: Any) -> Sequence[Any]:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise ConfigError(f"{name} takes a list, not {type(given).__name__}")
    return given


def _copied(options: Any) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise ConfigError(f"options takes a dict of parameters by their names, not {type(options).__name__}")
    return dict(options)


class _Run:
    """One run for one intent: the stages in order, and their results."""

    def __init__(self, agent: Agent, intent: Any, client: Client) -> None:
        self._agent = agent
        self._intent = intent
        self._client = client
        self._text = text_of(intent)
        self._context = RunContext(client, agent.model, agent.limits)
        self._record = self._context.record
        self._oversight = Oversight(self._context, intent, agent.rails, agent.approve, agent.corrections)
        self._toolbox = Toolbox(agent.kit, self._context, self._oversight)
        self._done: dict[str, Any] = {}
        self._executed: dict[bytes, Any] = {}

    async def ended(self) -> Outcome:
        """The outcome. An error that ends the run carries the outcome so far."""
        try:
            with self._record.run(self._agent.name, self._agent.model):
                await self._in_time()
        except Exception as error:
            outcome = self._outcome()
            _attach(error, outcome)
            if not isinstance(error, StoreError):
                await self._context.note("trace", outcome)
            raise
        return self._outcome()

    async def _in_time(self) -> None:
        seconds = self._agent.limits.seconds
        clock = asyncio.timeout(seconds)
        try:
            async with clock:
                await self._stages()
        except TimeoutError as error:
            if not clock.expired():
                raise
            used = self._record.seconds
            message = f"the run reached its limit of {seconds:g} seconds"
            raise UsageLimitReached(message, limit="seconds", allowed=seconds, used=used) from error

    async def _stages(self) -> None:
        if reason := await self._oversight.guard("input", self._text, self._intent):
            raise GuardrailTripped(f"the request was not accepted: {reason}")
        await self._classify()
        await self._plan()
        messages: list[Message] = [{"role": "user", "content": self._text}]
        reply, verdict = await self._answer_and_effect(messages)
        if verdict.kind == "fail":
            messages += _sent_back_with(reply, f"What came of it did not pass verification: {verdict.reason}. Mend it.")
            await self._answer_and_effect(messages)

    async def _classify(self) -> None:
        stage = self._agent.classify
        if stage is None:
            return
        with self._record.step("classify", name_of(stage)) as step:
            own = not isinstance(stage, Classify)
            found = await (self._own("classify", stage, step) if own else stage.ask(self._context, self._text))
            step.detail = short(text_of(found))
        self._done["classification"] = found

    async def _plan(self) -> None:
        stage, tools = self._agent.plan, self._toolbox.tools
        if stage is None:
            return
        with self._record.step("plan", name_of(stage)) as step:
            own = not isinstance(stage, Plan)
            plan = as_plan(
                await (self._own("plan", stage, step) if own else stage.ask(self._context, self._text, tools))
            )
            if complaint := unknown_tools(plan, tools):
                raise SchemaMismatch(complaint)
            step.detail = short(text_of(plan))
        self._done["plan"] = plan
        self._toolbox.allow({name for each in plan for name in each.tools})

    async def _own(self, name: str, function: Any, step: Step) -> Any:
        """A user's own stage: ``async def stage(intent, client)``."""

        async def go(_key: str) -> Any:
            return await called(function, self._intent, self._client)

        return await self._context.kept(name, utf8(self._text), go, step)

    async def _answer_and_effect(self, messages: list[Message]) -> tuple[Reply, Verdict]:
        """Get an answer past the guardrails, execute it, and verify both."""
        reply, answer = await self._answer(messages)
        self._done["answer"] = answer
        if self._agent.execute is not None:
            self._done["executed"] = await self._execute(answer, reply.text)
        if self._agent.verify is None:
            return reply, PASSED
        executed = self._done.get("executed")
        verdict = await self._oversight.verify(self._agent.verify, reply.text, answer, executed)
        self._done["verified"] = verdict.kind == "pass"
        return reply, verdict

    async def _answer(self, messages: list[Message]) -> tuple[Reply, Any]:
        agent = self._agent
        question = {"system": self._briefing(), "output": agent.output, **agent.options}
        with self._record.step("act", agent.name):
            while True:
                reply = await act(self._context, self._toolbox, messages, question)
                answer = reply.text if agent.output is None else reply.output
                reason = await self._oversight.guard("output", reply.text, answer)
                if reason is None:
                    return reply, answer
                messages += _sent_back_with(reply, f"That was not accepted: {reason}. Answer again.")

    async def _execute(self, answer: Any, text: str) -> Any:
        self._record.check()
        step_input = utf8(text)
        if step_input in self._executed:  # the model repeated the same answer
            return self._executed[step_input]
        function = self._agent.execute

        async def go(key: str) -> Any:
            return await called(function, answer, key)

        async def again(key: str) -> bool:
            return await self._oversight.may_repeat("execute", answer, key)

        with self._record.step("execute", name_of(function)) as step:
            done = await self._context.kept("execute", step_input, go, step, once=True, again=again)
            step.detail = short(text_of(done))
        self._executed[step_input] = done
        return done

    def _briefing(self) -> str | None:
        """The system prompt: the instructions, the classification and the plan."""
        parts = [self._agent.instructions] if self._agent.instructions else []
        if "classification" in self._done:
            parts.append(f"The request was classified as: {text_of(self._done['classification'])}")
        if plan := self._done.get("plan"):
            parts.append("The plan:\n" + "\n".join(each.line(number) for number, each in enumerate(plan, 1)))
        return "\n\n".join(parts) or None

    def _outcome(self) -> Outcome:
        """The outcome so far."""
        record, done = self._record, self._done
        return Outcome(
            **done,
            next_action="review" if done.get("verified") is False else _next_action(done.get("answer")),
            trace=tuple(record.steps),
            usage=record.usage,
            cost=record.cost,
            calls=record.calls,
            turns=record.turns,
            tool_calls=record.tool_calls,
            seconds=record.seconds,
            waits=record.waits,
        )


def _attach(error: Any, outcome: Outcome) -> None:
    """Attach the outcome to an error. A user's own error class may not accept attributes."""
    with suppress(Exception):
        error.outcome = outcome


def _sent_back_with(reply: Reply, complaint: str) -> list[Message]:
    """The answer, and the reason why the model has to answer again."""
    return [reply.message, {"role": "user", "content": complaint}]


def _next_action(answer: Any) -> str | None:
    found = answer.get("next_action") if isinstance(answer, Mapping) else getattr(answer, "next_action", None)
    return found if isinstance(found, str) else None
