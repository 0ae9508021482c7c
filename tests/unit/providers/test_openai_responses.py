"""OpenAI's responses: what goes out, and what every kind of answer becomes."""

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
from flatout.values import Call, Reply, Target, Usage
from flatout.values.secret import Secret

ENDPOINT = msgspec.structs.replace(registry.find("openai-responses"), api_key=Secret("sk-0123456789"))
CODEC = codec_for(Target(ENDPOINT, "gpt-5-mini"))
PLAIN = Call("hello")
USAGE = {
    "input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
    "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 12,
}  # fmt: skip


class City(BaseModel):
    name: str


def sent(call: Call) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(CODEC.encode(call).body)
    return body


def message(*parts: Any) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": list(parts)}


def text(words: str) -> dict[str, Any]:
    return {"type": "output_text", "text": words, "annotations": []}


def answer(*items: Any, status: Any = "completed", **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1", "object": "response", "status": status, "error": None, "incomplete_details": None,
        "model": "gpt-5-mini-2025", "output": list(items), "usage": USAGE, **more,
    }  # fmt: skip


def cut(*items: Any, reason: Any = "max_output_tokens") -> dict[str, Any]:
    return answer(*items, status="incomplete", incomplete_details={"reason": reason})


def decoded(body: Any, call: Call = PLAIN, status: int = 200) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return CODEC.decode(call, Response(status, {"x-request-id": "req_1"}, raw))


def failed(body: Any, call: Call = PLAIN) -> CallError:
    with pytest.raises(CallError) as caught:
        decoded(body, call)
    return caught.value


def test_a_whole_call() -> None:
    """A parameter would be dropped, or sent under a name that the API does not know."""
    function = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
    call = Call(
        "hi", system="be kind", max_tokens=50, temperature=0.5, top_p=0.9, logprobs=3, reasoning_effort="low",
        service_tier="flex", output=City, tools=[{"type": "function", "function": function}, {"type": "web_search"}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        extra={"store": False, "text": {"verbosity": "low"}, "temperature": 0.7},
    )  # fmt: skip
    body = sent(call)
    assert body["text"].pop("format")["name"] == "City"
    assert body == {
        "model": "gpt-5-mini",
        "input": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
        "max_output_tokens": 50, "temperature": 0.7, "top_p": 0.9, "include": ["message.output_text.logprobs"],
        "top_logprobs": 3, "reasoning": {"effort": "low"}, "service_tier": "flex",
        "tools": [{"type": "function", **function, "strict": False}, {"type": "web_search"}],
        "tool_choice": {"type": "function", "name": "f"}, "store": False, "text": {"verbosity": "low"},
    }  # fmt: skip
    assert sent(PLAIN) == {"model": "gpt-5-mini", "input": [{"role": "user", "content": "hello"}]}
    assert sent(Call("x", tool_choice="required"))["tool_choice"] == "required"
    assert "top_logprobs" not in sent(Call("x", logprobs=True))


def test_headers_and_address() -> None:
    """The provider would not know who is calling, or be called at a wrong address."""
    request = CODEC.encode(PLAIN, stream=True)
    assert request.url == "https://api.openai.com/v1/responses"
    assert request.headers["authorization"] == "Bearer sk-0123456789"
    assert json.loads(request.body)["stream"] is True
    queried = msgspec.structs.replace(ENDPOINT, query={"api-version": "v1"})
    assert codec_for(Target(queried, "m")).encode(PLAIN).url.endswith("/responses?api-version=v1")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (Call("x", seed=0), r"^seed: openai-responses has none; openai/… \(chat completions\) has it"),
        (Call("x", stop="a"), "^stop: openai-responses has none"),
        (Call("x", extra={"background": True}), "^extra.background"),
        (Call("x", extra={"stream": True}), "^extra.stream"),
        (
            Call(messages=[{"role": "user", "content": [
                {"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}
            ]}]),
            "^messages: openai-responses takes no audio",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_named(call: Call, said: str) -> None:
    """A parameter would be dropped without a word, or its fault have to be guessed from a 400."""
    with pytest.raises(InvalidRequest, match=said):
        CODEC.encode(call)


def test_a_conversation_with_tools() -> None:
    """An agent's second turn would be refused; a reasoning item could not be sent back."""
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    items = sent(Call(messages=[
        {"role": "user", "content": "go"},
        reasoning,
        {"role": "assistant", "content": "well", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "assistant", "content": [{"type": "text", "text": "done"}]},
        {"role": "assistant", "content": None},
    ]))["input"]  # fmt: skip
    assert items == [
        {"role": "user", "content": "go"},
        reasoning,
        {"type": "message", "role": "assistant", "content": "well"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x": 1}'},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]},
    ]
    long = "x" * 100
    moved = sent(Call(messages=[
        {"role": "assistant", "tool_calls": [{"id": long, "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": long, "content": "1"},
    ]))["input"]  # fmt: skip
    assert moved[0]["call_id"] == moved[1]["call_id"] != long
    assert len(moved[0]["call_id"]) <= 64


def test_images_and_files() -> None:
    """An image or a file would be refused, or fetched by us."""
    parts = sent(Call(messages=[{"role": "user", "content": [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "AAAA"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_url": "https://x/y.pdf"}},
        {"type": "input_text", "text": "own"},
    ]}]))["input"][0]["content"]  # fmt: skip
    assert parts == [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_file", "file_url": "https://x/y.pdf"},
        {"type": "input_text", "text": "own"},
    ]


def test_a_plain_answer() -> None:
    """The answer, its tokens or its model would be wrong."""
    body = answer({"type": "reasoning", "id": "r", "summary": []}, message(text("Hi"), text("!")))
    reply = decoded(body)
    assert (reply.text, reply.finish_reason, reply.model, reply.request_id) == (
        "Hi!", "stop", "gpt-5-mini-2025", "req_1",
    )  # fmt: skip
    assert reply.usage == Usage(
        input_tokens=9, output_tokens=3, cached_tokens=4, cache_write_tokens=3, reasoning_tokens=2
    )
    assert reply.raw == body
    assert decoded(answer(message(text('{"name": "Bonn"}'))), Call("x", output=City)).output == City(name="Bonn")


def test_tool_calls() -> None:
    """An agent would not see what the model asks for, or take the answer for finished."""
    items = [
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'},
        {"type": "custom_tool_call", "id": "ct_1", "call_id": "c2", "name": "g", "input": "text"},
        {"type": "web_search_call", "id": "ws_1"},
    ]
    reply = decoded(answer(*items))
    assert [(call.id, call.name, call.arguments) for call in reply.tool_calls] == [
        ("c1", "f", '{"a": 1}'), ("c2", "g", "text"),
    ]  # fmt: skip
    assert reply.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("body", "call", "kind"),
    [
        (answer(), PLAIN, errors.EmptyAnswer),
        (answer(message(text(" "))), PLAIN, errors.EmptyAnswer),
        (answer(message({"type": "refusal", "refusal": "no"})), PLAIN, errors.Refused),
        (cut(), PLAIN, errors.Truncated),
        (cut(message(text('{"na'))), Call("x", output=City), errors.Truncated),
        (cut(message(text("half")), reason="content_filter"), PLAIN, errors.ContentFiltered),
        (cut(message(text("half")), reason="else"), PLAIN, errors.ServerError),
        (answer(status="failed", error={"code": "server_error", "message": "oops"}), PLAIN, errors.ServerError),
        (answer(status="failed", error={"code": "rate_limit_exceeded", "message": "slow"}), PLAIN, errors.RateLimited),
        (answer(status="failed", error={"code": "invalid_prompt", "message": "x"}), PLAIN, errors.ContentFiltered),
        (answer(message(text("half")), status="failed"), PLAIN, errors.ServerError),
        (answer(status="cancelled"), PLAIN, errors.ServerError),
        (answer(status="in_progress"), PLAIN, errors.ServerError),
        (answer(message(text("sorry"))), Call("x", output=City), errors.SchemaMismatch),
    ],
)
def test_an_unusable_answer_keeps_its_bill(body: Any, call: Call, kind: type[CallError]) -> None:
    """A failed, refused or cut answer would pass for a good one, or its cost be forgotten."""
    error = failed(body, call)
    assert type(error) is kind
    assert error.reply is not None
    assert error.reply.usage.input_tokens == 9


@pytest.mark.parametrize("body", [{"id": "x"}, [1], b"", {"output": 5, "status": "nope"}])
def test_a_200_is_not_yet_an_answer(body: Any) -> None:
    """An error under a 200 would pass for an empty answer."""
    assert isinstance(failed(body), errors.ProtocolError | errors.EmptyAnswer)


def test_half_an_answer_is_kept_where_it_is_of_use() -> None:
    """Text cut at max_tokens would be thrown away although the user asked for no more."""
    assert decoded(cut(message(text("once upon")))).finish_reason == "length"
