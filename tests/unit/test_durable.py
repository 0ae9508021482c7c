"""What a run file keeps of a call and its result, and how both come back from it."""

from __future__ import annotations

import dataclasses
import datetime
import json
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from flatout import (
    AuthenticationError,
    BudgetExceeded,
    Call,
    CallError,
    CircuitOpen,
    ConfigError,
    ConnectError,
    DeadlineExceeded,
    InvalidRequest,
    QuotaExhausted,
    RateLimited,
    Reply,
    Result,
    ServerError,
    ToolCall,
    Truncated,
    Usage,
)
from flatout.durable.records import content, error_of, fingerprint, item_of, may_go_again, parts, plain, result_of


class Label(BaseModel):
    name: str
    score: float


@dataclasses.dataclass
class Point:
    x: int


def back(result: Result, **options) -> Result:
    made = content(result.call) if result.call is not None else b"{}"
    return result_of(item_of(result, made=made, row=b'{"text": "x"}', **options), result.call)


def test_a_call_is_its_content():
    """A changed prompt or parameter would be answered from the old run."""
    calls = [
        Call("a"), Call("b"), Call("a", temperature=0), Call("a", model="m"), Call("a", system="s"),
        Call(messages=[{"role": "user", "content": "a"}]), Call("a", extra={"top_k": 1}), Call("a", output=Label),
        Call("a", tools=[{"type": "function"}]), Call("a", max_tokens=5), Call("a", seed=0),
    ]  # fmt: skip
    assert len({fingerprint(content(call)) for call in calls}) == len(calls)
    assert all(len(fingerprint(content(call))) == 16 for call in calls)


@pytest.mark.parametrize(
    "call",
    [
        Call("Hi", id="7", metadata={"a": 1}, timeout=3),
        Call(messages=[{"role": "user", "content": "Hi", "a": {"z": 1, "b": 2}}], model="a/b", max_tokens=1, seed=0),
        Call("half a pair \ud800", system="s", temperature=0.0, stop=["x"], sample=2, logprobs=False),
        Call("Hi", output=dict[str, int], extra={}),
        Call("Hi", tools=[{1: "a key that is no text"}]),
        Call("Hi", extra={"api_key": "sk-secret", "a": 1}),
    ],
)
def test_a_call_has_the_same_content_as_in_earlier_versions(call):
    """Otherwise a run that goes on with this version would find that all its rows have changed."""
    assert content(call) == plain(parts(call))


def test_a_calls_name_and_time_limits_are_not_its_content():
    """A longer timeout would pay for every row again."""
    plain = content(Call("a"))
    assert content(Call("a", id="x", metadata={"k": 1}, timeout=5, deadline=50)) == plain


def test_the_order_of_keys_is_not_content():
    """The same row, read from another file format, would be paid again."""
    one = Call("a", extra={"x": 1, "y": {"p": 1, "q": 2}})
    two = Call("a", extra={"y": {"q": 2, "p": 1}, "x": 1})
    assert content(one) == content(two)


@given(st.text())
def test_any_prompt_has_a_content(prompt):
    """One strange row would end the run."""
    assert json.loads(content(Call(prompt)))["prompt"] == prompt
    assert content(Call(prompt)) == content(Call(prompt))


def test_half_a_surrogate_pair_has_a_content():
    """A row cut in the middle of an emoji would end the run."""
    one, two = content(Call("x\ud83d")), content(Call("x\ud83e"))
    assert one != two
    assert json.loads(one)["prompt"] == "x\ud83d"


def test_what_is_no_json_has_a_content_too():
    """A model class, a frozen mapping or a function among a call's options would end the run."""
    assert "score" in json.loads(content(Call("x", output=Label)))["output"]["properties"]
    assert content(Call("x", output=Label)) == content(Call("x", output=Label))
    assert content(Call("x", tools=[back])) == content(Call("x", tools=[back]))
    assert content(Call("x", extra=MappingProxyType({"a": 1})))


def test_an_answer_comes_back_as_it_was():
    """A resumed run would show other answers than the first."""
    reply = Reply(
        text="hi", finish_reason="stop", usage=Usage(input_tokens=5, output_tokens=7), model="m-1", output={"a": 1}
    )
    result = Result(
        index=3, id="row", call=Call("x", id="row"), reply=reply, output={"a": 1}, attempts=2, cost=0.5, elapsed=1.5,
        waits={"backoff": 0.5},
    )  # fmt: skip
    assert back(result) == result


@pytest.mark.parametrize("native", [b"", b'{"dialect":"anthropic","server":"a","turn":[{"signature":"s"}]}'])
def test_a_turn_with_tool_calls_comes_back_complete(native):
    """A conversation that goes on from a run file would be refused, since the model's thought is missing."""
    asked = tuple(ToolCall(id=f"c{n}", name="f", arguments="{}") for n in range(2))
    result = Result(index=0, call=Call("x"), reply=Reply(text="", tool_calls=asked, native=native))
    assert back(result) == result
    assert back(result).reply.message == result.reply.message


@pytest.mark.parametrize(
    ("output", "plain"),
    [
        (Label(name="spam", score=0.5), {"name": "spam", "score": 0.5}),
        ([Label(name="spam", score=0.5)], [{"name": "spam", "score": 0.5}]),
        (Point(3), {"x": 3}),
        ({"a": [1, None]}, {"a": [1, None]}),
        (0, 0),
        ("", ""),
        (False, False),
    ],
)
def test_an_output_is_kept_as_its_value(output, plain):
    """The run file would hold a model's schema instead of what was extracted and paid for."""
    item = item_of(Result(index=0, reply=Reply(text="x"), output=output), made=b"{}", row=None)
    assert msgspec.json.decode(item.output) == plain


def test_what_is_not_known_stays_unknown():
    """A run file would turn unknown costs and tokens into zeros."""
    result = Result(index=0, call=Call("x"), reply=Reply(text="hi"), cost=None)
    item = item_of(result, made=b"{}", row=None)
    assert (item.cost, item.input_tokens, item.output_tokens, item.output) == (None, None, None, None)
    assert back(result).cost is None
    assert back(result).reply.usage == Usage()


@pytest.mark.parametrize("kind", [ServerError, RateLimited, InvalidRequest, BudgetExceeded, DeadlineExceeded])
def test_a_failure_comes_back_as_it_was(kind):
    """``except RateLimited`` would not catch an error that was read from a run file."""
    result = Result(index=1, call=Call("x"), error=kind("it failed", attempts=3), attempts=3, cost=0.0)
    again = back(result)
    assert type(again.error) is kind
    assert str(again.error) == "it failed"
    assert again.error.attempts == again.attempts == 3
    assert not again.ok


def test_an_answer_behind_an_error_keeps_its_tokens():
    """A truncated answer was paid for, and would look free."""
    error = Truncated("cut", reply=Reply(text="half", usage=Usage(input_tokens=5, output_tokens=9), model="m"))
    item = item_of(Result(index=0, error=error, attempts=1), made=b"{}", row=None)
    assert (item.state, item.answer, item.output_tokens, item.model) == ("failed", "half", 9, "m")
    back = result_of(item)
    assert (back.ok, back.text, back.reply) == (False, None, None)
    assert isinstance(back.error, Truncated)
    assert (back.error.reply.text, back.error.reply.usage.output_tokens) == ("half", 9)


def test_a_thought_without_an_answer_is_kept():
    """All that a model said before it was cut off would be lost, and nobody see why."""
    error = Truncated("cut", reply=Reply(text=" ", reasoning="Let me see"))
    assert item_of(Result(index=0, error=error), made=b"{}", row=None).answer == "Let me see"
    assert item_of(Result(index=0, error=Truncated("cut")), made=b"{}", row=None).answer is None


def test_names_in_a_run_file_make_nothing_but_errors():
    """A run file from somebody else could name any class, and have it made."""
    for name in ("Mapping", "annotations", "BODY_CAP", "__builtins__", "os.system", "StoreError", "FlatoutError", "x"):
        error = error_of(name, "message", 2)
        assert type(error) is CallError
        assert str(error) == f"{name}: message"
        assert error.attempts == 2
    assert type(error_of("ConfigError", "wrong", 0)) is ConfigError


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (BudgetExceeded("x"), True),
        (CircuitOpen("x"), True),
        (AuthenticationError("x"), True),
        (QuotaExhausted("x"), True),
        (ConnectError("x", attempts=3), True),
        (DeadlineExceeded("x", attempts=0), True),
        (DeadlineExceeded("x", attempts=1), False),
        (ServerError("x"), False),
        (InvalidRequest("x"), False),
        (InvalidRequest("x", code="model_not_found"), False),
        (InvalidRequest("x", code="path_not_found"), True),
        (ConfigError("x"), False),
        (ValueError("x"), False),
    ],
)
def test_only_what_was_not_the_calls_own_failure_goes_again(error, again):
    """A resumed run would pay twice for what cannot succeed, or leave out what was never sent."""
    assert may_go_again(error) is again
    item = item_of(Result(index=0, error=error), made=b"{}", row=None)
    assert item.state == ("unsent" if again else "failed")


def test_prompts_need_not_be_kept():
    """Private prompts would stand in the run file against their owner's wish."""
    result = Result(index=0, call=Call("private"), reply=Reply(text="x"))
    item = item_of(result, made=content(result.call), row=b'{"text": "private"}', keep_prompts=False)
    assert (item.prompt, item.input) == (None, None)
    assert item.fingerprint == fingerprint(content(result.call))
    assert b"private" not in msgspec.json.encode(item)


def test_what_took_effect_is_kept_whatever_it_returned():
    """An action that was carried out would count as one of unknown end, over a key that is no text."""
    assert plain({2024: [datetime.date(2026, 1, 2), print]}) == b'{"2024": ["2026-01-02", "print"]}'
