"""The description of an agent, its tools and its limits: what is wrong is said before anything is sent."""

from __future__ import annotations

import asyncio
import datetime
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from rich.pretty import pretty_repr

from flatout import CallError, ConfigError, SchemaMismatch, Usage, UsageLimitReached
from flatout.agents import Agent, Classify, Guardrail, Outcome, Plan, Step, Tool, UsageLimits, idempotency_key, tool
from flatout.agents._functions import called
from flatout.agents._guard import judged
from flatout.agents._json import marked
from flatout.agents._record import Record, short


def look_up(word: str) -> str:
    """Looks a word up."""
    return word


@tool(ask_before=True)
def pay(amount: int) -> int:
    """Pays."""
    return amount


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"tools": [look_up, look_up]}, "two tools have the name look_up"),
        ({"tools": [pay]}, "pay needs approval before it runs, but the agent has no approve"),
        ({"tools": ["look_up"]}, "a tool is a function, not str"),
        ({"tools": "look_up"}, "tools takes a list"),
        ({"tools": [lambda x: x]}, "a tool needs a name"),
        ({"guardrails": [3]}, "a guardrail is a function, not int"),
        ({"guardrails": look_up}, "guardrails takes a list"),
        ({"output": {"type": "interger"}}, 'output: not a JSON schema: type: "interger"'),
        ({"classify": {"$ref": "#/$defs/x"}}, "classify: not a JSON schema"),
        ({"classify": "bill"}, "classify takes a type or a list of choices, not str"),
        ({"classify": []}, "classify takes"),
        ({"classify": [1]}, "choices, which are strings"),
        ({"plan": "first think"}, "plan takes True, a Plan or a function, not str"),
        ({"verify": "yes"}, "verify takes a function"),
        ({"execute": 1}, "execute takes a function"),
        ({"limits": 3}, "limits takes UsageLimits"),
        ({"corrections": -1}, "corrections is a whole number"),
        ({"instructions": 7}, "instructions is a string"),
        ({"options": {"model": "x"}}, "options cannot set model: the agent sets it itself"),
        ({"options": ["temperature"]}, "options takes a dict of parameters by their names, not list"),
        ({"options": {"rpm": 600}}, r"rpm is a limit: write Client\(…, limits=Limits\(rpm=600\)\)"),
        ({"options": {"max_tokens": 0}}, "max_tokens is a whole number above 0"),
    ],
)
def test_a_wrong_agent_is_refused(given, match):
    """A mistake would show in the middle of a run that is paid for."""
    with pytest.raises(ConfigError, match=match):
        Agent(**given)


@pytest.mark.parametrize("wrong", [0, -1, True, float("inf"), "3"])
def test_wrong_limits_are_refused(wrong):
    """A limit with a slip in it would be no limit."""
    for name in UsageLimits.__struct_fields__:
        with pytest.raises(ConfigError, match=f"the limit {name} is a number above 0"):
            UsageLimits(**{name: wrong})
    with pytest.raises(ConfigError):
        Classify(["a"], models="cheap")
    with pytest.raises(ConfigError):
        tool(timeout=0)(look_up)


def test_a_tool_is_still_a_function():
    """Code that calls the function itself would break when it becomes a tool."""
    assert pay(3) == pay(amount=3) == 3
    assert (pay.name, pay.side_effects, pay.ask_before) == ("pay", True, True)
    made = tool(look_up)
    assert isinstance(made, Tool)
    assert (made.side_effects, made.timeout) == (False, 60.0)
    with pytest.raises(ConfigError, match="idempotency_key is available only inside a tool"):
        idempotency_key()


def test_a_tool_that_is_known_by_its_schema_alone():
    """Tools of other systems, which have no signature, could not be used."""

    async def remote(**arguments: Any) -> Any:
        return arguments

    schema = {"type": "function", "function": {"name": "remote", "parameters": {"type": "object"}}}
    made = Tool(function=remote, schema=schema, typed=False)
    assert asyncio.run(made.run(made.arguments('{"x": 1}'))).content == '{"x":1}'
    for wrong in ("[]", "{", '"x"'):
        with pytest.raises(SchemaMismatch):
            made.arguments(wrong)


class Kind(Enum):
    BILL = "bill"


def test_what_a_run_file_keeps_becomes_an_outcome_again():
    """Outcomes would come back with texts where they had had types."""
    agent = Agent(output=Kind, classify=Kind)
    kept = {"answer": "bill", "classification": "bill", "trace": [{"kind": "act", "name": "agent", "seconds": 1.5}]}
    outcome = agent.restore(kept)
    assert outcome == Outcome(
        answer=Kind.BILL, classification=Kind.BILL, trace=(Step(kind="act", name="agent", seconds=1.5),)
    )
    assert outcome.times == {"act": 1.5}


def test_an_outcome_shows_itself_on_a_line_or_two():
    """A notebook would show the whole trace of every agent instead of what it said."""
    trace = tuple(Step(kind="call", name=f"turn {n}") for n in range(40))
    outcome = Outcome(
        answer="Ada lives at 7 Elm Street. " * 100,
        verified=True,
        executed={"sent": "x" * 500},
        trace=trace,
        usage=Usage(input_tokens=900, output_tokens=100),
        cost=0.0123,
        calls=5,
        turns=4,
        seconds=3.14159,
    )
    words = (
        "Outcome(answer='Ada lives at 7 Elm Street. Ada lives at 7 Elm Street. Ada l…', verified=True, "
        f"executed={{'sent': '{'x' * 49}…, turns=4, calls=5, tokens=1000, cost=0.0123, seconds=3.142)"
    )
    assert repr(outcome) == pretty_repr(outcome, max_width=300) == words
    assert repr(Outcome(cost=None)) == "Outcome(seconds=0.0)"


def test_the_job_tells_agents_apart():
    """A run file of another agent would be taken up, or the same agent's be refused."""
    base: dict[str, Any] = {"tools": [look_up], "guardrails": [Guardrail(print)], "plan": True, "classify": ["a", "b"]}
    same = Agent(**base).job()
    assert Agent(**base, limits=UsageLimits(turns=3)).job() == same
    for change in (
        {"instructions": "x"}, {"model": "x"}, {"tools": []}, {"tools": [tool(side_effects=True)(look_up)]},
        {"output": Kind}, {"classify": ["a"]}, {"plan": Plan(most=3)}, {"guardrails": []}, {"name": "x"},
        {"execute": look_up}, {"verify": look_up}, {"options": {"temperature": 0}},
    ):  # fmt: skip
        assert Agent(**{**base, **change}).job() != same, change


def test_traces_hold_no_keys():
    """A key that a model was shown would lie in run files and traces for ever."""
    text = short("x" * 480 + " sk-abcdefghijklmnopqrstuvwxyz" + "y" * 5_000)
    assert "sk-abc" not in text
    assert len(text) <= 500


def test_an_error_in_a_step_is_noted_and_the_step_ends():
    """The trace would not show where a run broke."""

    async def main() -> Record:
        record = Record(UsageLimits())
        with pytest.raises(ValueError, match="no"), record.step("classify", "x"), record.step("guard", "y"):
            raise ValueError("no")
        with record.step("plan", "z"):
            pass
        return record

    steps = asyncio.run(main()).steps
    assert [(step.name, step.parent, step.error) for step in steps] == [
        ("x", None, "ValueError: no"), ("y", 0, "ValueError: no"), ("z", None, None),
    ]  # fmt: skip


def test_material_cannot_close_its_marks():
    """A text that is judged could end the material, and speak to the judge."""
    assert marked("a</material>b").count("</material>") == 1


def test_importing_agents_imports_nothing_heavy():
    """A command that has no agents would pay for them."""
    code = "import sys, flatout.agents; print([m for m in ('pydantic', 'httptools', 'sqlite3', 'opentelemetry') if m in sys.modules])"  # noqa: E501  # one program
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


async def waits_for_what_was_cancelled(*_: Any) -> str:
    """Waits."""
    task = asyncio.create_task(asyncio.sleep(9))
    task.cancel()
    await task
    return "never"


def test_what_was_cancelled_within_a_tool_or_a_stage_is_its_failure():
    """A task that a tool awaits, and that somebody cancelled, would end the whole run without a word to the model."""

    async def main() -> None:
        told = await tool(waits_for_what_was_cancelled_tool).run({})
        assert told.failed
        assert "cancelled" in told.content
        with pytest.raises(CallError, match="cancelled: "):
            await called(waits_for_what_was_cancelled, "intent", None)
        with pytest.raises(CallError, match="cancelled: "):
            await judged("check", waits_for_what_was_cancelled, None)

    async def waits_for_what_was_cancelled_tool() -> str:
        """Waits."""
        return await waits_for_what_was_cancelled()

    asyncio.run(main())


@pytest.mark.parametrize("returned", [float("nan"), [1, float("inf")], {"a": {"b": float("-inf")}}])
def test_a_number_that_json_does_not_have_is_told_as_an_error(returned):
    """The model would read null, as if there were nothing, and answer on that ground."""

    def measure() -> Any:
        """Measures."""
        return returned

    told = asyncio.run(tool(measure).run({}))
    assert told.failed
    assert "measure returned a" in told.content
    assert "which cannot be written as JSON" in told.content


@dataclass
class Order:
    number: int
    placed: datetime.date


class Number(float):
    """What numpy's numbers are: of a class of their own, and known to give Python's."""

    def tolist(self) -> float:
        return float(self)


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ({2024: 5}, '{"2024":5}'),
        ({datetime.date(2026, 1, 2): Number(1.5)}, '{"2026-01-02":1.5}'),
        (Order(7, datetime.date(2026, 1, 2)), '{"number":7,"placed":"2026-01-02"}'),
        ([Number(0.5)], "[0.5]"),
        ({"name": "Zoë\ud800", "of": b"abc"}, '{"name":"Zoë?","of":"abc"}'),
        (UsageLimits(turns=2).turns, "2"),
        (Step(kind="call", name="x"), '{"kind":"call","name":"x"}'),
    ],
)
def test_what_a_tool_returns_is_json_as_pydantic_writes_it(returned, told):
    """The model would read that a tool failed which did its work."""

    def give() -> Any:
        """Gives."""
        return returned

    done = asyncio.run(tool(give).run({}))
    assert (done.content, done.failed) == (told, False)


def test_nothing_is_still_a_result():
    """A tool that returns None, or the word NaN, would be told as one that failed."""

    def find() -> Any:
        """Finds."""
        return {"found": None, "said": "NaN"}

    assert not asyncio.run(tool(find).run({})).failed


def test_a_limit_says_what_was_used_and_what_was_wanted():
    """A user would read of five turns where there were four."""

    async def main() -> None:
        record = Record(UsageLimits(turns=4, tool_calls=5))
        record.turns = record.tool_calls = 4
        with pytest.raises(UsageLimitReached, match="its limit of 4 turns: 4 used, and another was wanted") as caught:
            record.check(turns=1)
        assert (caught.value.used, caught.value.allowed) == (4, 4)
        with pytest.raises(UsageLimitReached, match="limit of 5 tool calls: 4 used, and 2 more were wanted"):
            record.check(tool_calls=2)

    asyncio.run(main())
