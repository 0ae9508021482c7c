"""The description of an agent: what it is told, what it may do, who checks it, and what it may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic

import msgspec
from msgspec import Struct

from flatout.durable.records import plain
from flatout.errors import ConfigError
from flatout.values import Call, OutputT, OutputType

from ._guard import Guardrail, name_of
from ._outcome import Outcome, UsageLimits
from ._stages import Classify, Plan, check_kind, is_kind, typed
from ._tool import Tool

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
        options: parameters of the acting model's calls, such as ``{"temperature": 0}``.
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
        put(self, "tools", _tools(self.tools, asks=self.approve is not None))
        put(self, "guardrails", tuple(Guardrail.of(each) for each in _listed("guardrails", self.guardrails)))
        check_kind("output", self.output)
        put(self, "classify", _classify(self.classify))
        put(self, "plan", _plan(self.plan))
        if taken := sorted(_OWN & self.options.keys()):
            raise ConfigError(f"options: {', '.join(taken)} is said by the agent itself")
        Call("", **self.options)

    async def __call__(self, intent: Any, client: Client) -> Outcome[OutputT]:
        """Run it for one intent.

        Raises:
            GuardrailTripped: a guardrail said stop, or fail too often.
            UsageLimitReached: a limit was reached; ``limit`` says which.
            StepUnknown: something with side effects was begun before a crash, and its end is not known.
            CallError: a model gave no answer. All of these hold the `Outcome` so far as ``outcome``.
        """
        from ._run import run_agent

        return await run_agent(self, intent, client)

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


def _tools(given: Any, *, asks: bool) -> tuple[Tool, ...]:
    tools = tuple(Tool.of(each) for each in _listed("tools", given))
    names: set[str] = set()
    for tool in tools:
        if tool.name in names:
            raise ConfigError(f"two tools have the name {tool.name}")
        names.add(tool.name)
        if tool.ask_before and not asks:
            raise ConfigError(f"the tool {tool.name} asks before it runs, and the agent has no approve")
    return tools


def _classify(given: Any) -> Any:
    if given is None or isinstance(given, Classify) or (callable(given) and not is_kind(given)):
        return given
    return Classify(given)


def _plan(given: Any) -> Any:
    if given is None or given is False:
        return None
    if given is True:
        return Plan()
    if isinstance(given, Plan) or callable(given):
        return given
    raise ConfigError(f"plan takes True, a Plan or a function, not {type(given).__name__}")


def _listed(name: str, given: Any) -> Sequence[Any]:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise ConfigError(f"{name} takes a list, not {type(given).__name__}")
    return given
