"""The follow-up to an answer that did not fit."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from flatout.errors import RateLimited, SchemaMismatch, Truncated
from flatout.policies.reask import reask
from flatout.providers import codec_for, registry
from flatout.values import Call, Reply, Target, ToolCall

NOT_FIT = SchemaMismatch("the answer does not fit the schema: n: too small", reply=Reply(text='{"n": -1}'))
CALLS = (
    ToolCall(id="a", name="look", arguments='{"x": 1', signature="c2ln"),
    ToolCall(id="b", name="look", arguments='{"x": 2}'),
)
MALFORMED = SchemaMismatch(
    "the arguments of look do not fit: no JSON",
    reply=Reply(text="", tool_calls=CALLS),
    complaints={"a": "the arguments of look do not fit: no JSON"},
)


def follow_up(call: Call, error: SchemaMismatch) -> Call:
    made = reask(call, error)
    assert made is not None
    return made


def test_the_model_sees_its_answer_and_what_is_wrong() -> None:
    """Asked the same again, it would give the same answer again."""
    call = Call(
        "how many?", system="be short", id="7", model="openai/gpt", temperature=0, output=int, metadata={"a": 1}
    )
    made = follow_up(call, NOT_FIT)
    assert made.messages is not None
    assert list(made.messages[:2]) == [
        {"role": "user", "content": "how many?"}, {"role": "assistant", "content": '{"n": -1}'}
    ]  # fmt: skip
    assert made.messages[2]["role"] == "user"
    assert "n: too small" in made.messages[2]["content"]
    assert "with JSON only" in made.messages[2]["content"]
    assert [message["role"] for message in made.chat()] == ["system", "user", "assistant", "user"]
    assert msgspec.structs.replace(made, prompt="how many?", messages=None) == call


def test_follow_ups_add_up() -> None:
    """The model would forget what was wrong the first time."""
    call = Call(messages=[{"role": "user", "content": "x"}], output=int)
    twice = follow_up(follow_up(call, NOT_FIT), NOT_FIT)
    assert twice.messages is not None
    assert len(twice.messages) == 5
    assert call.messages == [{"role": "user", "content": "x"}]


def test_each_tool_call_is_answered() -> None:
    """Providers refuse a conversation in which a tool call has no result."""
    made = follow_up(Call("x", tools=[{}]), MALFORMED)
    assert made.messages is not None
    asked, first, second = made.messages[1:]
    assert [entry["id"] for entry in asked["tool_calls"]] == ["a", "b"]
    assert asked["tool_calls"][0]["signature"] == "c2ln"
    assert [json.loads(entry["function"]["arguments"]) for entry in asked["tool_calls"]] == [{}, {"x": 2}]
    assert (first["role"], first["tool_call_id"]) == ("tool", "a")
    assert "no JSON" in first["content"]
    assert '{"x": 1' in first["content"]
    assert second["content"].startswith("not run: another call")


@pytest.mark.parametrize("name", ["openai", "openai-responses", "anthropic", "gemini", "deepseek"])
@pytest.mark.parametrize("error", [NOT_FIT, MALFORMED])
def test_every_wire_format_takes_it(name: str, error: SchemaMismatch) -> None:
    """The follow-up itself would be refused, before it is sent or by the provider."""
    call = Call("x", output={"type": "object"}, tools=[{"type": "function", "function": {"name": "look"}}])
    target = Target(registry.find(name), "gemini-3-pro")
    sent = json.loads(codec_for(target).encode(follow_up(call, error)).body)
    text = json.dumps(sent)
    assert ("n: too small" in text) == (error is NOT_FIT)
    assert ("c2ln" in text) == (name == "gemini" and error is MALFORMED)
    assert '"signature"' not in text


def test_an_empty_answer_is_not_repeated() -> None:
    """Providers refuse an assistant's message without content."""
    made = follow_up(Call("x"), SchemaMismatch("a tool call of no use", reply=Reply(text="")))
    assert made.messages is not None
    assert [message["role"] for message in made.messages] == ["user", "user"]
    assert "JSON" not in made.messages[1]["content"]


@pytest.mark.parametrize(
    "error", [SchemaMismatch("x"), Truncated("x", reply=Reply(text="{")), RateLimited("x", reply=Reply(text="{"))]
)
def test_what_would_not_get_better_is_not_asked_again(error: Any) -> None:
    """Money would be spent on an answer that is cut off again, or without the model knowing what is wrong."""
    assert reask(Call("x", output=int), error) is None
