"""Anthropic's messages: what goes out, and what every kind of answer becomes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from flatout import errors
from flatout.errors import CallError, InvalidRequest
from flatout.layer import Response
from flatout.providers import codec_for, registry
from flatout.providers.formats.anthropic import ANSWER_TOOL
from flatout.values import Call, Reply, Target, Usage
from flatout.values.secret import Secret

ENDPOINT = msgspec.structs.replace(registry.find("anthropic"), api_key=Secret("sk-ant-0123456789"))
MODEL = "claude-sonnet-4-6"
CODEC = codec_for(Target(ENDPOINT, MODEL))
PLAIN = Call("hello")
PNG = "data:image/png;base64,iVBORw0KGgo="


class City(BaseModel):
    name: str


class Node(BaseModel):
    children: list[Node]


class Scores(BaseModel):
    by_name: dict[str, int]


def sent(call: Call, model: str = MODEL) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(codec_for(Target(ENDPOINT, model)).encode(call).body)
    return body


def turns(*messages: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = sent(Call(messages=list(messages), **more))["messages"]
    return made


def answer(*content: Any, stop_reason: Any = "end_turn", **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": list(content),
        "stop_reason": stop_reason, "usage": {"input_tokens": 9, "output_tokens": 3}, **more,
    }  # fmt: skip


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def decoded(body: Any, call: Call = PLAIN, status: int = 200) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return CODEC.decode(call, Response(status, {"request-id": "req_1"}, raw))


def failed(body: Any, call: Call = PLAIN, status: int = 200) -> CallError:
    with pytest.raises(CallError) as caught:
        decoded(body, call, status)
    return caught.value


# -- requests


def test_a_whole_call() -> None:
    """A parameter would be dropped, or sent under a name that the API does not know."""
    call = Call(
        "hi", system="be kind", max_tokens=50, temperature=0.5, top_p=0.9, stop="END", service_tier="auto",
        tools=[{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
        tool_choice="required", extra={"top_k": 4, "temperature": 0.7}, logprobs=False,
    )  # fmt: skip
    assert sent(call) == {
        "model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}], "system": "be kind",
        "temperature": 0.7, "top_p": 0.9, "stop_sequences": ["END"], "service_tier": "auto", "top_k": 4,
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
    }  # fmt: skip
    assert sent(PLAIN) == {"model": MODEL, "max_tokens": 4096, "messages": [{"role": "user", "content": "hello"}]}
    assert sent(Call("x", stop=["a", "b"]))["stop_sequences"] == ["a", "b"]


def test_headers_and_address() -> None:
    """The API would answer 400 without its version, and 401 to a key in the wrong header."""
    request = CODEC.encode(PLAIN)
    assert (request.method, request.url) == ("POST", "https://api.anthropic.com/v1/messages")
    assert request.headers["x-api-key"] == "sk-ant-0123456789"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    beta = msgspec.structs.replace(ENDPOINT, headers={"Anthropic-Version": "2030-01-01"}, query={"a": "b"})
    other = codec_for(Target(beta, MODEL)).encode(PLAIN, stream=True)
    assert other.headers["anthropic-version"] == "2030-01-01"
    assert other.headers["accept"] == "text/event-stream"
    assert other.url.endswith("/messages?a=b")
    assert json.loads(other.body)["stream"] is True


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (Call("x", seed=1), "^seed: anthropic has none; leave it out"),
        (Call("x", logprobs=True), "^logprobs: anthropic has none"),
        (Call("x", logprobs=3), "^logprobs"),
        (Call("x", reasoning_effort="huge"), "^reasoning_effort: .*minimal, low.*'huge'"),
        (Call("x", reasoning_effort=10**5000), "^reasoning_effort"),  # type: ignore[arg-type]  # rows are not typed
        (Call("x", stop=5), "^stop takes"),  # type: ignore[arg-type]  # likewise
        (Call("x", tool_choice="any tool"), "^tool_choice"),
        (Call("x", tools=[{"type": "function", "function": {}}]), "^tools"),
        (Call("x", tools=[print]), "^tools: .*print"),
        (Call("x", extra={"stream": True}), "^extra.stream"),
        (Call("x", output="text"), "^output takes"),
        (Call(messages=["x"]), "^messages takes"),  # type: ignore[list-item]  # likewise
        (Call(messages=[{"role": "user", "content": 5}]), "^messages: content"),
        (Call(messages=[{"role": "user", "content": [5]}]), "^messages: a part"),
        (Call(messages=[{"role": "tool", "content": "x"}]), "^messages: .*tool_call_id"),
        (Call(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "^messages: .*image_url"),
        (
            Call(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
            "^messages: .*neither",
        ),
        (
            Call(messages=[{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x"}}]}]),
            "^messages: anthropic takes no audio",
        ),
        (
            Call(messages=[{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}]),
            "^messages: the arguments of the tool call 'f' are not a JSON object",
        ),
        (Call(messages=[{"role": "assistant", "tool_calls": [{"function": {}}]}]), "^messages: a tool call"),
    ],
)
def test_what_cannot_be_sent_is_named(call: Call, said: str) -> None:
    """A parameter would be dropped without a word, or its fault have to be guessed from a 400."""
    with pytest.raises(InvalidRequest, match=said):
        CODEC.encode(call)


def test_a_conversation_with_tools() -> None:
    """Tools' results would be refused: all of a round have to stand in one turn of the user's, ids included."""
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "b.2~signed", "type": "function", "function": {"name": "g", "arguments": ""}},
    ]
    made = turns(
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "well", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b.2~signed", "content": [{"type": "text", "text": "2"}]},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": ""},
    )
    other = made[1]["content"][2]["id"]
    assert other.startswith("call_")
    assert made == [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [
            text("well"),
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": other, "name": "g", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": "1"},
            {"type": "tool_result", "tool_use_id": other, "content": [text("2")]},
            text("and?"),
        ]},
        {"role": "assistant", "content": ""},
    ]  # fmt: skip


def test_system_prompts_stand_apart() -> None:
    """A system prompt would be refused, or its cache marker lost."""
    marked = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    both = [{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, {"role": "user", "content": "x"}]
    assert sent(Call(messages=both))["system"] == "a\n\nb"
    both[0] = {"role": "system", "content": [marked]}  # type: ignore[dict-item]  # parts instead of a text
    assert sent(Call(messages=both))["system"] == [marked, text("b")]
    default = msgspec.structs.replace(ENDPOINT, system="default")
    assert json.loads(codec_for(Target(default, MODEL)).encode(PLAIN).body)["system"] == "default"


def test_images_files_and_cache_markers() -> None:
    """An image or a file would be refused, or fetched by us; a prompt would be paid in full each time."""
    cache = {"type": "ephemeral"}
    made = turns({"role": "user", "content": [
        {"type": "text", "text": "look", "cache_control": cache},
        {"type": "text", "text": ""},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
        {"type": "image_url", "image_url": "https://x/y.png", "cache_control": cache},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
        {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain,h%C3%A9"}},
        {"type": "file", "file": {"file_id": "file_1"}},
        {"type": "search_result", "source": "own"},
    ]})  # fmt: skip
    assert made[0]["content"] == [
        {"type": "text", "text": "look", "cache_control": cache},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}, "cache_control": cache},
        {"type": "document", "title": "a.pdf",
         "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}},
        {"type": "document", "title": "a.txt", "source": {"type": "text", "media_type": "text/plain", "data": "hé"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "search_result", "source": "own"},
    ]  # fmt: skip
    assert turns({"role": "user", "content": "x", "cache_control": cache})[0]["content"] == [
        {**text("x"), "cache_control": cache}
    ]
    tool = {"type": "function", "function": {"name": "f", "strict": True}, "cache_control": cache}
    own = {"type": "web_search_20250305", "name": "web_search"}
    assert sent(Call("x", tools=[tool, own]))["tools"] == [
        {"name": "f", "input_schema": {"type": "object", "properties": {}}, "strict": True, "cache_control": cache},
        own,
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        ({"type": "any"}, {"type": "any"}),
    ],
)
def test_tool_choice(choice: Any, expected: dict[str, Any]) -> None:
    """The model would be free where it was not to be, or the request be refused."""
    assert sent(Call("x", tool_choice=choice))["tool_choice"] == expected


def test_one_tool_at_a_time() -> None:
    """OpenAI's word for it would be a 400."""
    one = {"parallel_tool_calls": False}
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert sent(Call("x", tools=tools, extra=one))["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert sent(Call("x", tools=tools, tool_choice="required", extra=one))["tool_choice"] == {
        "type": "any", "disable_parallel_tool_use": True
    }  # fmt: skip
    assert sent(Call("x", tools=tools, tool_choice="none", extra=one))["tool_choice"] == {"type": "none"}
    assert "tool_choice" not in sent(Call("x", extra=one))
    assert "parallel_tool_calls" not in sent(Call("x", extra={"parallel_tool_calls": True}))


@pytest.mark.parametrize(
    ("model", "effort", "max_tokens", "expected"),
    [
        ("claude-opus-4-6", "high", 100, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        ("claude-opus-5", "minimal", 100, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        ("next", "max", None, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
        ("claude-sonnet-4-5-20250929", "low", 9000, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("claude-sonnet-4-20250514", "high", 9000, {"thinking": {"type": "enabled", "budget_tokens": 4500}}),
        ("claude-3-7-sonnet-20250219", "medium", None, {"thinking": {"type": "enabled", "budget_tokens": 8192}}),
        ("claude-opus-4-6", "none", 100, {"thinking": {"type": "disabled"}}),
    ],
)
def test_reasoning_effort(model: str, effort: str, max_tokens: int | None, expected: dict[str, Any]) -> None:
    """The request would be refused, or thinking leave no token for the answer."""
    body = sent(Call("x", reasoning_effort=effort, max_tokens=max_tokens), model)
    assert {name: body[name] for name in ("thinking", "output_config") if name in body} == expected
    assert body["max_tokens"] == (max_tokens or 4096 + (24_576 if effort == "max" else 8_192))
    if "budget_tokens" in body["thinking"]:
        assert body["thinking"]["budget_tokens"] < body["max_tokens"]


def test_too_few_tokens_to_think_in() -> None:
    """The API's 400 would have to be understood."""
    with pytest.raises(InvalidRequest, match="max_tokens=500"):
        sent(Call("x", reasoning_effort="low", max_tokens=500), "claude-sonnet-4-5")


def test_a_schema_is_asked_for() -> None:
    """The API takes schemas of the strict form alone; others would be refused, or not be kept to."""
    native = sent(Call("x", output=City, reasoning_effort="low", extra={"output_config": {"mine": 1}}))
    assert native["output_config"]["format"]["type"] == "json_schema"
    assert native["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert (native["output_config"]["effort"], native["output_config"]["mine"]) == ("low", 1)
    assert sent(Call("x", output=Node))["tools"][0]["name"] == ANSWER_TOOL
    assert "tools" not in sent(Call("x", output=list[City]))
    loose = sent(Call("x", output=Scores))
    assert loose["tool_choice"] == {"type": "tool", "name": ANSWER_TOOL}
    assert loose["tools"][0]["input_schema"] == Scores.model_json_schema()
    old = sent(Call("x", output=City), "claude-3-5-haiku-20241022")
    assert old["tools"][0]["name"] == ANSWER_TOOL
    tool = {"type": "function", "function": {"name": "f"}}
    assert sent(Call("x", output=Scores, tools=[tool]))["tool_choice"] == {"type": "any"}
    assert sent(Call("x", output=Scores, tools=[tool], tool_choice="auto"))["tool_choice"] == {"type": "auto"}
    assert sent(Call("x", output=Scores, reasoning_effort="low"))["tool_choice"] == {"type": "auto"}


# -- answers


def test_a_plain_answer() -> None:
    """The answer, its tokens or its model would be wrong; cached tokens would vanish from the bill."""
    body = answer({"type": "thinking", "thinking": "hm", "signature": "s"}, text("Hi"), text("!"))
    body["usage"] = {
        "input_tokens": 9, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 4},
    }  # fmt: skip
    reply = decoded(body)
    assert (reply.text, reply.finish_reason, reply.model, reply.request_id) == ("Hi!", "stop", "claude-x", "req_1")
    assert reply.usage == Usage(
        input_tokens=129, output_tokens=7, cached_tokens=100, cache_write_tokens=20, reasoning_tokens=4
    )
    assert reply.raw == body
    assert decoded(answer(text("x"), usage=None)).usage == Usage()
    assert decoded(answer(text("x"), usage={"cache_read_input_tokens": 5})).usage == Usage(cached_tokens=5)


def test_tool_calls() -> None:
    """An agent would not see what the model asks for."""
    asked = [
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "name": "g", "input": {}},
        {"type": "tool_use", "id": "t3", "input": {}},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
    ]
    reply = decoded(answer(text("let me see"), *asked, stop_reason="tool_use"))
    assert [(call.id, call.name, call.parsed()) for call in reply.tool_calls] == [
        ("t1", "f", {"a": 1}), ("call_1", "g", {}),
    ]  # fmt: skip
    assert (reply.text, reply.finish_reason) == ("let me see", "tool_calls")


def test_an_answer_by_way_of_a_tool() -> None:
    """The object that was asked for would be taken for a tool call."""
    given = {"type": "tool_use", "id": "t", "name": ANSWER_TOOL, "input": {"by_name": {"a": 1}}}
    reply = decoded(answer(given, stop_reason="tool_use"), Call("x", output=Scores))
    assert (reply.output, reply.tool_calls, reply.finish_reason) == (Scores(by_name={"a": 1}), (), "stop")
    assert json.loads(reply.text) == {"by_name": {"a": 1}}
    other = {"type": "tool_use", "id": "u", "name": "f", "input": {}}
    both = decoded(answer(other, stop_reason="tool_use"), Call("x", output=Scores))
    assert (both.output, both.tool_calls[0].name, both.finish_reason) == (None, "f", "tool_calls")
    wrong = {**given, "input": {"by_name": 5}}
    assert type(failed(answer(wrong, stop_reason="tool_use"), Call("x", output=Scores))) is errors.SchemaMismatch
    cut = answer({**given, "input": {}}, stop_reason="max_tokens")
    assert type(failed(cut, Call("x", output=Scores))) is errors.Truncated
    assert decoded(answer(text('{"by_name": {}}')), Call("x", output=Scores)).output == Scores(by_name={})


@pytest.mark.parametrize(
    ("body", "call", "kind"),
    [
        (answer(), PLAIN, errors.EmptyAnswer),
        (answer(text(" \n")), PLAIN, errors.EmptyAnswer),
        (answer({"type": "thinking", "thinking": "hm"}, stop_reason="max_tokens"), PLAIN, errors.Truncated),
        (answer(text('{"na'), stop_reason="max_tokens"), Call("x", output=City), errors.Truncated),
        (answer(text('{"na'), stop_reason="model_context_window_exceeded"), Call("x", output=City), errors.Truncated),
        (answer(text("I"), stop_reason="refusal"), PLAIN, errors.Refused),
        (answer(stop_reason="refusal", stop_details={"explanation": "bio"}), PLAIN, errors.Refused),
        (answer(text("half"), stop_reason="pause_turn"), PLAIN, errors.Truncated),
        (answer(text("sorry")), Call("x", output=City), errors.SchemaMismatch),
    ],
)
def test_an_unusable_answer_keeps_its_bill(body: Any, call: Call, kind: type[CallError]) -> None:
    """An empty, cut or refused answer would pass for a good one, or its cost be forgotten."""
    error = failed(body, call)
    assert type(error) is kind
    assert error.reply is not None
    assert error.reply.usage == Usage(input_tokens=9, output_tokens=3)


@pytest.mark.parametrize(
    ("reason", "finish"), [("max_tokens", "length"), ("stop_sequence", "stop"), ("compaction", "compaction")]
)
def test_why_it_stopped(reason: str, finish: str) -> None:
    """A script that looks for ``length`` would find a word of the provider's own."""
    assert decoded(answer(text("once upon"), stop_reason=reason)).finish_reason == finish


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, errors.Overloaded),
        (200, {"id": "x"}, errors.ProtocolError),
        (200, [1], errors.ProtocolError),
        (200, b'{"content": [{"type": "te', errors.ProtocolError),
        (200, {"content": 5}, errors.EmptyAnswer),
        (400, {"error": {"type": "invalid_request_error", "message": "bad"}}, errors.InvalidRequest),
        (400, {"error": {"type": "invalid_request_error",
               "message": "prompt is too long: 210000 tokens > 200000 maximum"}}, errors.ContextTooLong),
        (400, {"error": {"type": "invalid_request_error",
               "message": "You have reached your specified API usage limits."}}, errors.QuotaExhausted),
        (401, {"error": {"type": "authentication_error", "message": "invalid x-api-key"}}, errors.AuthenticationError),
        (402, {"error": {"type": "billing_error", "message": "pay"}}, errors.QuotaExhausted),
        (404, {"error": {"type": "not_found_error", "message": "model: claude-9"}}, errors.InvalidRequest),
        (413, {"error": {"type": "request_too_large", "message": "large"}}, errors.InvalidRequest),
        (429, {"error": {"type": "rate_limit_error", "message": "slow"}}, errors.RateLimited),
        (500, {"error": {"type": "api_error", "message": "oops"}}, errors.ServerError),
        (529, {"error": {"type": "overloaded_error", "message": "Overloaded"}}, errors.Overloaded),
    ],
)  # fmt: skip
def test_failures_have_names(status: int, body: Any, kind: type[CallError]) -> None:
    """A failure would be retried in vain, or a passing one be final."""
    error = failed(body, status=status)
    assert type(error) is kind
    assert (error.status, error.request_id) == (status, "req_1")
