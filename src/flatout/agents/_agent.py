"""An agent: what it is told, what it may do, who checks it, what it may use; and the order of its stages.

::

    guard input → classify → plan → act (model ⇄ tools) → guard output → execute → verify → outcome
                                     ↑                        │                       │
                                     └── fail: the reason ────┴───────────────────────┘ (once)

A run goes down through the modules of this package and comes back: the stages here, the loop, the toolbox, the
oversight, and at the bottom the context, which asks the client.
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
"""What a turn's call has from the agent itself."""


class Agent(Struct, Generic[OutputT], frozen=True, kw_only=True):
    """A small loop of model and tools, with stages around it. Each stage can be left out.

    Run it with `Client.run_agent`, or for many intents with `Client.map`; with ``store=``, it goes on after a crash at
    the turn where it was.

    Args:
        model: who acts; the client's model when None.
        instructions: the system prompt.
        tools: what the model may ask for: functions, or made with `tool`. It may ask for nothing else.
        output: a type that the answer has to fit, or a dict with a JSON schema; texts when None.
        classify: what the intent is: a type, a list of choices, a `Classify` with models of its own, or your
            ``async def classify(intent, client)``.
        plan: True, a `Plan` with a model of its own, or your ``async def plan(intent, client)``, which returns
            `PlanStep`. Tools outside of the plan are refused.
        guardrails: functions (of the answer), `Guardrail`, or those of `flatout.agents.guards`.
        execute: your ``async def execute(answer, key)``: does what the accepted answer says, once; ``key`` is its
            idempotency key. What it returns is kept as JSON.
        verify: your ``async def verify(checked)``, or a `Judge`: looks at the answer and at what was executed. Fail
            goes back once; stop does not.
        approve: your ``async def approve(approval)``, asked before tools that want it, and whether a step is to be
            repeated of which nobody knows whether it took effect.
        limits: what a run may use.
        corrections: how often guardrails may send a run back.
        options: parameters of the acting model's calls, such as ``{"temperature": 0}``. Names that flatout does not
            know are sent to the provider as they are.
        name: its name in traces and run files.

    Raises:
        ConfigError: something of it cannot work: two tools of one name, say.
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
            raise ConfigError(f"instructions are a text, not {type(self.instructions).__name__}")
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
        """Run it for one intent.

        Raises:
            GuardrailTripped: a guardrail said stop, or fail too often.
            UsageLimitReached: a limit was reached; ``limit`` says which.
            StepUnknown: something with side effects was begun before a crash, and its end is not known.
            CallError: a model gave no answer. All of these hold the `Outcome` so far as ``outcome``.
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
        """What makes two runs comparable, for the run file: change it, and the run is another job."""
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
        """An outcome of what a run file keeps of it."""
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
    """One run for one intent: the stages in their order, and what has come of them."""

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
        """The outcome. An error that ends the run takes with it what there is of one."""
        try:
            with self._record.run(self._agent.name, self._agent.model):
                await self._in_time()
        except Exception as error:
            outcome = self._outcome()
            _take_with(error, outcome)
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
            message = f"the run came to its limit of {seconds:g} seconds"
            raise UsageLimitReached(message, limit="seconds", allowed=seconds, used=used) from error

    async def _stages(self) -> None:
        if reason := await self._oversight.guard("input", self._text, self._intent):
            raise GuardrailTripped(f"the request was not let in: {reason}")
        await self._classify()
        await self._plan()
        messages: list[Message] = [{"role": "user", "content": self._text}]
        reply, verdict = await self._answer_and_effect(messages)
        if verdict.kind == "fail":
            messages += _back(reply, f"What came of it did not pass verification: {verdict.reason}. Mend it.")
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
        """A stage of the user's own: ``async def stage(intent, client)``."""

        async def go(_key: str) -> Any:
            return await called(function, self._intent, self._client)

        return await self._context.kept(name, utf8(self._text), go, step)

    async def _answer_and_effect(self, messages: list[Message]) -> tuple[Reply, Verdict]:
        """The answer that the guardrails let out, executed, and what the verification says of both."""
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
                messages += _back(reply, f"That was not accepted: {reason}. Answer again.")

    async def _execute(self, answer: Any, text: str) -> Any:
        self._record.check()
        made = utf8(text)
        if made in self._executed:  # the very same action again: it was executed
            return self._executed[made]
        function = self._agent.execute

        async def go(key: str) -> Any:
            return await called(function, answer, key)

        async def again(key: str) -> bool:
            return await self._oversight.may_repeat("execute", answer, key)

        with self._record.step("execute", name_of(function)) as step:
            done = await self._context.kept("execute", made, go, step, once=True, again=again)
            step.detail = short(text_of(done))
        self._executed[made] = done
        return done

    def _briefing(self) -> str | None:
        """The system prompt: the instructions, and what the stages before have found."""
        parts = [self._agent.instructions] if self._agent.instructions else []
        if "classification" in self._done:
            parts.append(f"The request was classified as: {text_of(self._done['classification'])}")
        if plan := self._done.get("plan"):
            parts.append("The plan:\n" + "\n".join(each.line(number) for number, each in enumerate(plan, 1)))
        return "\n\n".join(parts) or None

    def _outcome(self) -> Outcome:
        """What the run has come to so far."""
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


def _take_with(error: Any, outcome: Outcome) -> None:
    """Let an error hold the outcome. It may be of a user's own class, which takes no more attributes."""
    with suppress(Exception):
        error.outcome = outcome


def _back(said: Reply, complaint: str) -> list[Message]:
    """The answer, and why it is not the last one."""
    return [said.message, {"role": "user", "content": complaint}]


def _next_action(answer: Any) -> str | None:
    found = answer.get("next_action") if isinstance(answer, Mapping) else getattr(answer, "next_action", None)
    return found if isinstance(found, str) else None
