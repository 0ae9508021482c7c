"""Agents with a run file: a killed run goes on at its turn, and nothing in the world is done twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from flatout import (
    Client,
    GuardrailTripped,
    Limits,
    Result,
    RunMismatch,
    SchemaMismatch,
    StepUnknown,
    UsageLimitReached,
)
from flatout.agents import (
    Agent,
    Approval,
    Checked,
    Guardrail,
    Outcome,
    PlanStep,
    Step,
    UsageLimits,
    fail,
    idempotency_key,
    tool,
)
from flatout.store import RunFile
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport


class Stop(BaseException):
    """Ends a run as a crash would: no function can handle it."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits are not gathered: with so few steps there is nothing to wait for."""
    monkeypatch.setitem(RunFile.open.__func__.__kwdefaults__, "group_seconds", 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.flatout"


class World:
    """A scripted model and the things that tools do, with places where the process can die."""

    def __init__(self) -> None:
        self.die_at: str | None = None
        self.asked: list[str] = []
        self.done: list[str] = []
        self.keys: list[str] = []

    def die(self, place: str) -> None:
        if place == self.die_at:
            raise Stop(place)

    def script(self, body: dict[str, Any]) -> Any:
        """Look something up, then send two letters, then say so."""
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        self.die(f"turn {turn}")
        self.asked.append(f"turn {turn}")
        if turn == 0:
            return calls(("look_up", {"word": "a"}))
        if turn == 1:
            return calls(("send", {"to": "ann"}), ("send", {"to": "bob"}))
        return "sent"

    def tools(self) -> list[Any]:
        async def look_up(word: str) -> str:
            self.die("look_up")
            self.done.append(f"look_up {word}")
            return word.upper()

        @tool(side_effects=True)
        async def send(to: str) -> str:
            self.die(f"before {to}")
            self.done.append(f"send {to}")
            self.keys.append(f"{to} {idempotency_key()}")
            self.die(f"after {to}")
            return f"sent to {to}"

        return [look_up, send]

    def agent(self, **more: Any) -> Agent:
        return Agent(**{"tools": self.tools(), "instructions": "Send letters.", **more})


def calls(*asked: tuple[str, Any]) -> dict[str, Any]:
    made = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for n, (name, arguments) in enumerate(asked)
    ]
    return {"content": None, "tool_calls": made}


def run(agent: Any, path: Path | None, script: Any, intents: tuple[Any, ...] = ("go",), **options: Any) -> list[Any]:
    async def main() -> list[Result[Any]]:
        model = ProviderModel(ProviderSettings(latency=0.0), script=script)
        async with Client(
            "m",
            base_url="http://sim/v1",
            config={},
            seed=1,
            retries=0,
            reasks=0,
            limits=Limits(rpm=600_000),
            transport=SimulatedTransport(model),
        ) as client:
            return [result async for result in client.map(agent, intents, store=path, **options)]

    return sorted(asyncio.run(main()), key=lambda result: result.index)


def crash(world: World, place: str, path: Path, **more: Any) -> None:
    world.die_at = place
    with pytest.raises(Stop):
        run(world.agent(**more), path, world.script)
    world.die_at = None


def journal(path: Path) -> list[tuple[str, str, dict[str, Any]]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT place, kind, value FROM journal ORDER BY rowid").fetchall()
    return [(place, kind, json.loads(value)) for place, kind, value in rows]


@pytest.mark.parametrize(
    ("place", "again"),
    [
        ("turn 0", ["turn 0", "look_up a", "turn 1", "send ann", "send bob", "turn 2"]),
        ("look_up", ["look_up a", "turn 1", "send ann", "send bob", "turn 2"]),
        ("turn 1", ["turn 1", "send ann", "send bob", "turn 2"]),
        ("turn 2", ["turn 2"]),
    ],
)
def test_a_killed_run_goes_on_where_it_was(path, place, again):
    """Each crash would pay for all turns again, and run every tool again."""
    world = World()
    crash(world, place, path)
    before = len(world.asked), len(world.done)
    (result,) = run(world.agent(), path, world.script)
    assert sorted([*world.asked[before[0] :], *world.done[before[1] :]]) == sorted(again)
    assert sorted(world.done) == ["look_up a", "send ann", "send bob"]
    outcome = result.output
    assert (outcome.answer, outcome.turns, outcome.tool_calls, outcome.calls) == ("sent", 3, 3, 3)
    assert outcome.usage.input_tokens > 0
    assert result.attempts == 3


KEPT = {
    "call": [
        "0841bf9f9f3f29633510d194792207f4",
        "6274d3957ac02ff58f91a6194a301d9b",
        "6764567d558c3ae3dcb6eacfffcd36f3",
    ],
    "classify": ["f931d22ef33860be696615202fea1aee"],
    "execute": ["0983de0a341fbb37c5292787fdd8f2e8"],
    "guard own": [
        "089926f81ee2f4e80d834edc5c158698",
        "bf82d52d223e49ed1277241c5d3a8d4d",
        "c45cc715d16dad11c7fb165e0273082f",
        "c5dfa933c5cb0d64e42557a612b4a329",
        "cb36abdb17838bf7e3881e04d5fdaeda",
        "e14aa6ac5378358bfe51ac61930fd80d",
        "e7d5ec69bed82e9c9d9738b323909f5f",
        "f6499247ccbc561bfe2edf3b3564f407",
    ],
    "tool look_up": ["596b50dbec7a5525473cd67c7bcc19a0"],
    "tool send": ["cc9a39d5deec5afb57617471c9c674dd", "cd14a2ee43eab5bc925093b1aa039dc9"],
}
"""The fingerprints that version 0.1.0 gave to an agent's calls and steps."""


def test_steps_are_found_again_in_run_files_of_earlier_versions(path):
    """A run that an earlier version began would ask everybody again, and do once more what it did."""
    world = World()

    def verify(_: Checked) -> bool:
        world.die("verify")
        return True

    async def classify(intent: Any, client: Client) -> dict[str, Any]:
        return {"é": intent, "a": 1}

    async def execute(answer: Any, key: str) -> str:
        return "executed"

    def own(_: Checked) -> bool:
        return True

    rail = Guardrail(own, at=("input", "output", "tool_input", "tool_output"))
    stages = {"classify": classify, "execute": execute, "verify": verify, "guardrails": [rail]}
    crash(world, "verify", path, **stages, approve=lambda _: True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT hex(fingerprint), value FROM journal").fetchall()
    named = [(json.loads(value).get("name", "call"), fingerprint.lower()) for fingerprint, value in rows]
    assert {name: sorted(mark for other, mark in named if other == name) for name, _ in named} == KEPT


def test_what_was_finished_comes_back_as_it_was(path):
    """A finished run would come back as a dict, or be paid for again."""
    world = World()
    first = run(world.agent(), path, world.script)[0]
    asked = len(world.asked)
    again = run(world.agent(), path, world.script)[0]
    assert isinstance(again.output, Outcome)
    assert again.output == first.output
    assert isinstance(again.output.trace[0], Step)
    assert len(world.asked) == asked


@pytest.mark.parametrize("place", ["before ann", "after ann"])
def test_an_effect_of_unknown_end_is_not_repeated(path, place):
    """A letter would be sent, or money paid, twice."""
    world = World()
    crash(world, place, path)
    done = list(world.done)
    (result,) = run(world.agent(), path, world.script)
    assert isinstance(result.error, StepUnknown)
    assert "item 1 began tool send before" in str(result.error)
    assert world.done.count("send ann") == done.count("send ann")
    assert "tool" in [step.kind for step in result.error.outcome.trace]
    (kept,) = run(world.agent(), path, world.script)
    assert isinstance(kept.error, StepUnknown)


def test_somebody_can_say_that_it_may_be_repeated(path):
    """A run with an unknown step could never be ended; or the service could not tell the repetition."""
    world = World()
    crash(world, "after ann", path)
    asked: list[Approval] = []

    def approve(approval: Approval) -> Any:
        asked.append(approval)
        return yes

    yes: Any = fail("it was sent")
    (result,) = run(world.agent(approve=approve), path, world.script)
    assert isinstance(result.error, StepUnknown)
    assert [(a.tool, a.arguments, a.why) for a in asked[:1]] == [("send", {"to": "ann"}, "unknown")]
    yes = True
    (result,) = run(world.agent(approve=approve), path, world.script, retry_failed=True)
    assert result.output.answer == "sent"
    assert world.done.count("send ann") == 2
    ann = [key for key in world.keys if key.startswith("ann")]
    assert ann[0] == ann[1] == f"ann {asked[0].key}"
    assert len({key.split()[1] for key in world.keys}) == 2


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["turn 0", "look_up", "turn 1", "turn 2", "before ann", "after bob"]), max_size=3))
def test_whatever_dies_nothing_is_done_twice(tmp_path_factory, places):
    """Some order of crashes would send a letter twice, or lose one without a word."""
    path = tmp_path_factory.mktemp("agent") / "run.flatout"
    world = World()
    for place in places:
        world.die_at = place
        with contextlib.suppress(Stop):
            run(world.agent(), path, world.script)
    world.die_at = None
    (result,) = run(world.agent(), path, world.script)
    assert world.done.count("send ann") <= 1
    assert world.done.count("send bob") <= 1
    if result.ok:
        assert sorted(world.done) == ["look_up a", "send ann", "send bob"]
    else:
        assert isinstance(result.error, StepUnknown)
        assert {"before ann", "after bob"} & set(places)


def test_keys_are_others_in_another_run(tmp_path):
    """A run that is started over on purpose would be taken for a repetition, and nothing would happen."""
    world = World()
    for name in ("one", "two"):
        run(world.agent(), tmp_path / name, world.script, ("go", "stay"))
    assert len({key.split()[1] for key in world.keys}) == len(world.keys) == 8


def test_an_action_is_executed_once(path):
    """The accepted action would be done again because the process died after it."""
    world = World()
    done: list[str] = []

    async def execute(answer: str, key: str) -> str:
        done.append(key)
        return f"did {answer}"

    def verify(checked: Checked) -> bool:
        world.die("verify")
        return checked.executed == "did sent"

    crash(world, "verify", path, execute=execute, verify=verify)
    (result,) = run(world.agent(execute=execute, verify=verify), path, world.script)
    assert (result.output.executed, result.output.verified, len(done)) == ("did sent", True, 1)


def test_an_action_that_returns_what_json_cannot_hold_is_done_all_the_same(path):
    """It would stand in the file as if nobody knew whether it took effect."""
    world = World()

    async def execute(answer: str, key: str) -> object:
        world.done.append("executed")
        return slice(1, 2)

    for _ in range(2):
        (result,) = run(world.agent(execute=execute), path, world.script)
        assert result.output.executed == "slice(1, 2, None)"
    assert world.done.count("executed") == 1


def test_an_action_of_unknown_end_is_not_repeated(path):
    """An order would be placed twice."""
    world = World()
    done: list[str] = []

    async def execute(answer: str, key: str) -> None:
        done.append(key)
        world.die("execute")

    crash(world, "execute", path, execute=execute)
    (result,) = run(world.agent(execute=execute), path, world.script)
    assert isinstance(result.error, StepUnknown)
    assert result.error.outcome.answer == "sent"
    assert len(done) == 1


def test_approvals_and_ones_own_functions_are_not_asked_again(path):
    """A person would be asked the same question after each crash; and a check that depends on chance would make the
    run take another way.
    """
    world = World()
    asked: list[str] = []

    @tool(ask_before=True)
    async def send(to: str) -> str:
        return f"sent to {to}"

    async def approve(approval: Approval) -> bool:
        asked.append(f"approve {approval.arguments['to']}")
        return approval.arguments["to"] == "ann"

    async def classify(intent: str, client: Client) -> dict[str, str]:
        asked.append("classify")
        return {"by": (await client.call("classify me")).text}

    async def plan(intent: str, client: Client) -> list[PlanStep]:
        asked.append("plan")
        return [PlanStep("all", ("look_up", "send"))]

    def check(checked: Checked) -> bool:
        asked.append(f"check {checked.at}")
        return True

    more = {
        "tools": [world.tools()[0], send], "approve": approve, "classify": classify, "plan": plan,
        "guardrails": [Guardrail(check, at=("input", "tool_output"))],
    }  # fmt: skip
    crash(world, "turn 2", path, **more)
    before = sorted(asked)
    assert before == ["approve ann", "approve bob", *["check input", "check tool_output", "check tool_output"],
                      "classify", "plan"]  # fmt: skip
    (result,) = run(world.agent(**more), path, world.script)
    assert sorted(asked) == before
    assert result.output.classification == {"by": ""}  # the model asked for a tool
    assert result.output.plan == (PlanStep("all", ("look_up", "send")),)
    assert [step.verdict for step in result.output.trace if step.kind == "tool"] == [None, None, "denied"]
    classified = next(step for step in result.output.trace if step.kind == "classify")
    assert classified.attempts == 1


def test_calls_within_a_tool_are_not_missed_when_it_is_replayed(path, recwarn):
    """A resumed run would warn of a change that nobody made, or refuse to go on."""
    world = World()

    async def look_up(
        word: str,
    ) -> str:
        return (await client_of["it"].call(f"inner {word}")).text

    client_of: dict[str, Client] = {}

    async def agent(intent: str, client: Client) -> Any:
        client_of["it"] = client
        return await Agent(tools=[look_up, world.tools()[1]])(intent, client)

    def script(body: dict[str, Any]) -> Any:
        if str(body["messages"][0]["content"]).startswith("inner"):
            return "inside"
        return world.script(body)

    world.die_at = "turn 2"
    with pytest.raises(Stop):
        run(agent, path, script)
    world.die_at = None
    (result,) = run(agent, path, script)
    assert result.output["answer"] == "sent"
    assert result.attempts == 4
    assert not recwarn.list


def test_arguments_that_did_not_fit_do_so_again(path):
    """A run that had gone on after a slip of the model would fail when it is resumed."""
    world = World()

    def script(body: dict[str, Any]) -> Any:
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        world.die(f"turn {turn}")
        world.asked.append(f"turn {turn}")
        return calls(("look_up", {"wrod": 1})) if turn == 0 else "sorry"

    world.die_at = "turn 1"
    with pytest.raises(Stop):
        run(world.agent(), path, script)
    world.die_at = None
    (result,) = run(world.agent(), path, script)
    assert (result.output.answer, world.asked) == ("sorry", ["turn 0", "turn 1"])
    assert result.output.usage.output_tokens > 0


def test_another_agent_is_refused(path):
    """Outcomes of two agents would stand in one file as if they were of one."""
    world = World()
    run(world.agent(), path, world.script)
    with pytest.raises(RunMismatch, match=r"instructions was 'Send letters.', is now 'Burn letters.'"):
        run(world.agent(instructions="Burn letters."), path, world.script)
    with pytest.raises(RunMismatch, match="tools was"):
        run(world.agent(tools=world.tools()[:1]), path, world.script)
    with pytest.raises(RunMismatch, match="agent_model was not set, is now 'n'"):
        run(world.agent(model="n"), path, world.script)
    assert run(world.agent(limits=UsageLimits(turns=1)), path, world.script)[0].ok  # a limit may be raised


def test_a_failed_run_keeps_its_trace(path):
    """After a failure in the night nobody could see what it did."""
    world = World()
    (result,) = run(world.agent(limits=UsageLimits(turns=2)), path, world.script)
    assert isinstance(result.error, UsageLimitReached)
    assert result.error.outcome.turns == 2
    (trace,) = [value for _, _, value in journal(path) if value.get("name") == "trace"]
    assert [step["kind"] for step in trace["value"]["trace"]] == ["act", "call", "tool", "call", "tool", "tool"]
    (kept,) = run(world.agent(limits=UsageLimits(turns=2)), path, world.script)
    assert isinstance(kept.error, UsageLimitReached)
    (result,) = run(world.agent(), path, world.script, retry_failed=True)
    assert result.output.answer == "sent"
    assert sorted(world.done) == ["look_up a", "send ann", "send bob"]


class Label(BaseModel):
    kind: Literal["a", "b"]


def test_typed_answers_come_back_as_their_type(path):
    """Code that works on the first run would fail on the second."""
    agent = Agent(output=list[Label], classify=["x", "y"])
    answers = {True: '{"answer": "x"}', False: '{"answer": [{"kind": "a"}]}'}
    for _ in range(2):
        (result,) = run(agent, path, lambda body: answers["Classify" in body["messages"][0]["content"]])
        assert result.output.answer == [Label(kind="a")]
        assert result.output.classification == "x"


def test_a_function_that_drops_an_effect_is_told(path):
    """A changed function would leave a payment behind that nobody knows of."""
    world = World()
    crash(world, "turn 2", path)

    async def other(intent: str, client: Client) -> str:
        return "nothing"

    other.job = world.agent().job  # type: ignore[attr-defined]
    with pytest.warns(RuntimeWarning) as warned:
        run(other, path, world.script)
    assert "item 1 did tool send before, and not this time" in str(warned[0].message)


def test_errors_keep_their_names(path):
    """A guardrail's verdict would be another error after a resume."""
    agent = Agent(guardrails=[Guardrail(lambda checked: False, at=("input",), name="never")])
    for _ in range(2):
        (result,) = run(agent, path, lambda body: "x")
        assert isinstance(result.error, GuardrailTripped)
        assert "not accepted: never says no" in str(result.error)
    assert SchemaMismatch("x").complaints == {}


def test_a_thought_goes_back_with_its_turn_after_a_crash_too(path):
    """A model that reasons would refuse the conversation: at its second turn, at a resume, or when it is sent back."""
    world = World()
    thoughts: list[list[Any]] = []

    def script(body: dict[str, Any]) -> Any:
        said = world.script(body)
        thoughts.append([m.get("reasoning_content") for m in body["messages"] if m["role"] == "assistant"])
        message = said if isinstance(said, dict) else {"content": said}
        return {**message, "reasoning_content": f"thought {len(thoughts[-1])}"}

    refused: list[str] = []

    def once(checked: Checked) -> Any:
        refused.append(checked.text)
        return True if len(refused) > 1 else fail("say it again")

    agent = world.agent(guardrails=[once])
    world.die_at = "turn 2"
    with pytest.raises(Stop):
        run(agent, path, script)
    world.die_at = None
    (result,) = run(agent, path, script)
    assert result.output.answer == "sent"
    assert thoughts[-2:] == [["thought 0", "thought 1"], ["thought 0", "thought 1", "thought 2"]]
