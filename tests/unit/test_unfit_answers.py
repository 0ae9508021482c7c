"""Answers that do not fit, as users meet them: what is asked again, what is read, and what is said of the rest."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, field_validator

from flatout import Call, InvalidRequest, SchemaMismatch, Truncated
from flatout.agents import Agent
from flatout.layer import Response
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client

CHOICES = Literal["spam", "ham"]


class Half(BaseModel):
    name: str
    age: int


def said(text: str | None, *arguments: str, finish: str = "stop", tool: str = "late") -> Response:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if arguments:
        message["tool_calls"] = [
            {"id": f"c{n}", "type": "function", "function": {"name": tool, "arguments": each}}
            for n, each in enumerate(arguments)
        ]
    usage = {"prompt_tokens": 5, "completion_tokens": 5}
    return Response(
        200, {}, json.dumps({"choices": [{"message": message, "finish_reason": finish}], "usage": usage}).encode()
    )


def asked(call: Call[Any], *answers: Any, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
    """The result of a call, and what was sent for it."""
    left = iter(answers)
    wire = Wire(lambda _: next(left))

    async def main() -> Any:
        async with client(wire, **options) as made:
            return await made.result(call)

    result = run_virtual(main())
    return result, [json.loads(request.body) for request in wire.requests]


def late(order: int, when: date, paid: bool = False) -> str:
    """Tell of a late order."""
    return f"{order} {when} {paid}"


def at(when: datetime) -> str:
    """Tell the time."""
    return str(when)


RIGHT = '{"order": 3, "when": "2026-01-02", "paid": false}'
LOOSE = ['{"order": "3", "when": "2026-01-02"}', '{"order": 3, "when": "2026-01-02", "paid": "no"}']


@pytest.mark.parametrize("loose", LOOSE)
def test_arguments_of_other_types_are_asked_for_again(loose: str) -> None:
    """The caller's function would get a text for a number, and "no" for a truth."""
    result, sent = asked(Call("x", tools=[late]), said(None, loose), said(None, RIGHT))
    assert result.reply.tool_calls[0].parsed() == {"order": 3, "when": "2026-01-02", "paid": False}
    assert "not run" in sent[1]["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("tool", "arguments", "fits"),
    [
        *((late, each, False) for each in LOOSE),
        (late, RIGHT, True),
        (late, '{"order": 3, "when": "soon"}', False),
        (at, '{"when": "2026-01-02T10:00:00"}', True),  # without an offset, as models write it
        (at, '{"when": 5}', False),
    ],
)
def test_an_agent_and_a_call_judge_arguments_alike(tool: Any, arguments: str, fits: bool) -> None:
    """What was tried with a call would fail in an agent, or the other way round."""
    asks = said(None, arguments, tool=tool.__name__)
    result, _ = asked(Call("x", tools=[tool], reasks=0), asks)
    left = iter([asks, said("done")])
    wire = Wire(lambda _: next(left))

    async def main() -> None:
        async with client(wire) as made:
            await made.run_agent(Agent(tools=[tool]), "x")

    run_virtual(main())
    told = json.loads(wire.requests[-1].body)["messages"][-1]["content"]
    assert (result.ok, not told.startswith("not run")) == (fits, fits)


def test_a_whole_number_is_an_int_however_it_is_written() -> None:
    """A function would count with 3.0 where it asks for an int."""
    result, _ = asked(Call("x", tools=[late]), said(None, RIGHT.replace("3", "3.0", 1)))
    order = result.reply.tool_calls[0].parsed()["order"]
    assert (order, type(order)) == (3, int)


def test_an_answer_that_was_cut_off_is_paid_for_once() -> None:
    """The same half would be paid for three times over."""
    result, sent = asked(Call("x", output=Half, max_tokens=50), *[said('{"name": "Ad', finish="length")] * 9)
    assert isinstance(result.error, Truncated)
    assert len(sent) == 1


def test_a_whole_answer_at_the_token_limit_is_the_answer() -> None:
    """An answer that fits would be thrown away, because not one token was left behind it."""
    result, sent = asked(Call("x", output=Half), said('{"name": "Ada", "age": 36}', finish="length"))
    assert result.output == Half(name="Ada", age=36)
    assert (result.reply.finish_reason, result.reply.repaired, len(sent)) == ("length", False, 1)


WORD = {"type": "string", "enum": ["spam", "ham"]}


@pytest.mark.parametrize(
    ("schema", "value", "inner"),
    [
        (WORD, "ham", WORD),
        ({"const": "ham"}, "ham", {"const": "ham"}),
        ({"type": "array", "items": {"type": "integer"}}, [1, 2], {"type": "array", "items": {"type": "integer"}}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"$ref": "#/$defs/w", "$defs": {"w": WORD}}, "spam", {"$ref": "#/$defs/w"}),
        ({"$ref": "#/definitions/w", "definitions": {"w": WORD}}, "spam", {"$ref": "#/definitions/w"}),
        (
            {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"$ref": "#"}]}},
            [1, [2]],
            {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"$ref": "#/properties/answer"}]}},
        ),
    ],
)
def test_a_dict_schema_that_is_no_object_travels_in_one(schema: dict[str, Any], value: Any, inner: Any) -> None:
    """Providers, which take objects alone, would refuse a label or a list that is asked for by a dict."""
    result, sent = asked(Call("x", output=schema, reasks=0), said(json.dumps({"answer": value})))
    assert (result.ok, result.output) == (True, value)
    described = sent[0]["response_format"]["json_schema"]["schema"]
    assert (described["type"], described["properties"]) == ("object", {"answer": inner})


@pytest.mark.parametrize(
    "schema", [{"properties": {"n": {}}}, {"$ref": "#/definitions/o", "definitions": {"o": {"type": "object"}}}]
)
def test_a_dict_schema_of_an_object_is_left_as_it_is(schema: dict[str, Any]) -> None:
    """An object would come back within another one."""
    result, sent = asked(Call("x", output=schema), said('{"n": 1}'))
    assert result.output == {"n": 1}
    assert sent[0]["response_format"]["json_schema"]["schema"] == schema


def explode(value: int) -> int:
    raise KeyError("mine")


class Buggy(BaseModel):
    n: int

    _explode = field_validator("n")(explode)


def count(n: Annotated[int, AfterValidator(explode)]) -> str:
    """Count."""
    return str(n)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (Call("x", output=Buggy), said('{"n": 1}')),
        (Call("x", output=Buggy), said('It is {"n": 1}.')),
        (Call("x", output=Buggy), said('{"n": 1}', finish="length")),
        (Call("x", tools=[count]), said(None, '{"n": 1}', tool="count")),
    ],
)
def test_a_fault_of_a_validator_is_the_users_to_hear(call: Call[Any], answer: Response) -> None:
    """A bug would be told to the model, and pass for its mistake; each item would be paid for twice."""
    result, sent = asked(call, *[answer] * 9)
    assert isinstance(result.error, KeyError)
    assert "explode" in "".join(result.error.__notes__)
    assert len(sent) == result.attempts == 1


@pytest.mark.parametrize("text", ["Spam", "spam.", "**spam**", "The label is spam"])
def test_a_choice_beyond_mistake_is_not_paid_for_twice(text: str) -> None:
    """Another answer would be paid for over a capital or a full stop."""
    result, sent = asked(Call("x", output=CHOICES), said(text))
    assert (result.output, result.reply.repaired, len(sent)) == ("spam", True, 1)


@pytest.mark.parametrize(
    ("output", "text", "told"),
    [
        (CHOICES, "Junk", '"spam", "ham"'),
        (CHOICES, '{"answer": "junk"}', '"spam", "ham"'),
        (WORD, "It is not spam", '"spam", "ham"'),
        (CHOICES, "<think>spam</think>", "the answer is missing"),
        (Half, '{"name": "A", "age": 1} or {"name": "B", "age": 2}', "several answers that differ"),
        (CHOICES, '{"answer": "spam"} {"answer": "ham"}', "several answers that differ"),
    ],
)
def test_a_complaint_says_what_helps(output: Any, text: str, told: str) -> None:
    """The model would hear that its JSON is malformed, and not what it may answer."""
    result, sent = asked(Call("x", output=output), said(text), said(text))
    assert told in str(result.error)
    assert told in sent[1]["messages"][-1]["content"]


NAMED = {"type": "function", "function": {"name": "late"}}


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_tool_call_that_must_come_is_asked_for_again(choice: Any) -> None:
    """An answer in words would pass where a tool call was ordered, and the caller's loop over the calls do nothing."""
    call: Call[Any] = Call("x", tools=[late], tool_choice=choice)
    result, sent = asked(call, said("Sure!"), said(None, RIGHT))
    assert result.reply.tool_calls
    assert "tool_choice" in sent[1]["messages"][-1]["content"]
    result, _ = asked(call, said("Sure!"), said("Sure!"))
    assert isinstance(result.error, SchemaMismatch)
    assert result.error.reply.text == "Sure!"


def test_words_are_an_answer_where_no_tool_call_must_come() -> None:
    """A model that may choose would be forced."""
    for choice in ("auto", "none", None):
        assert asked(Call("x", tools=[late], tool_choice=choice), said("Sure!"))[0].text == "Sure!"


def test_two_tools_of_one_name_are_refused() -> None:
    """The provider would refuse them in words of its own, or one of them never be called."""
    result, sent = asked(Call("x", tools=[late, late]))
    assert isinstance(result.error, InvalidRequest)
    assert "late" in str(result.error)
    assert not sent
