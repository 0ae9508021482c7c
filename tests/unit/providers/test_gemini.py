"""Gemini's generateContent: what goes out, and what every kind of answer becomes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, Field

from flatout import errors
from flatout.errors import CallError, InvalidRequest
from flatout.layer import Response
from flatout.providers import codec_for, registry
from flatout.values import Call, Reply, Target, Usage
from flatout.values.secret import Secret

ENDPOINT = msgspec.structs.replace(registry.find("gemini"), api_key=Secret("AIza0123456789"))
MODEL = "gemini-2.5-flash"
CODEC = codec_for(Target(ENDPOINT, MODEL))
PLAIN = Call("hello")


class City(BaseModel):
    name: str


class Trip(BaseModel):
    start: City = Field(description="where it begins")
    days: int = Field(ge=1)


def sent(call: Call, model: str = MODEL) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(codec_for(Target(ENDPOINT, model)).encode(call).body)
    return body


def contents(*messages: dict[str, Any], model: str = MODEL) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = sent(Call(messages=list(messages)), model)["contents"]
    return made


def config(model: str = MODEL, **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = sent(Call("x", **options), model)["generationConfig"]
    return made


def answer(*parts: Any, reason: Any = "STOP", **more: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": reason, "index": 0}
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-x", **more}


def decoded(body: Any, call: Call = PLAIN, status: int = 200) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return CODEC.decode(call, Response(status, {}, raw))


def failed(body: Any, call: Call = PLAIN, status: int = 200) -> CallError:
    with pytest.raises(CallError) as caught:
        decoded(body, call, status)
    return caught.value


# -- requests


def test_a_whole_call() -> None:
    """A parameter would be dropped, or sent under a name that the API does not know."""
    function = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
    call = Call(
        "hi", system="be kind", max_tokens=50, temperature=0.5, top_p=0.9, stop="END", seed=0, logprobs=3,
        service_tier="flex", reasoning_effort="low", tools=[{"type": "function", "function": function}],
        tool_choice="required", extra={"safetySettings": [], "generationConfig": {"topK": 4, "temperature": 0.7}},
    )  # fmt: skip
    declared = {"name": "f", "description": "d", "parametersJsonSchema": {"type": "object", "properties": {}}}
    assert sent(call) == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "systemInstruction": {"parts": [{"text": "be kind"}]},
        "generationConfig": {
            "maxOutputTokens": 50, "temperature": 0.7, "topP": 0.9, "seed": 0, "stopSequences": ["END"],
            "responseLogprobs": True, "logprobs": 3, "thinkingConfig": {"thinkingBudget": 1024}, "topK": 4,
        },
        "tools": [{"functionDeclarations": [declared]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}, "serviceTier": "flex", "safetySettings": [],
    }  # fmt: skip
    assert sent(PLAIN) == {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
    assert config(logprobs=True) == {"responseLogprobs": True}


def test_headers_and_address() -> None:
    """The model, which is part of the address here, would be another one; or the key stand in a URL."""
    request = CODEC.encode(PLAIN)
    base = "https://generativelanguage.googleapis.com/v1beta"
    assert request.url == f"{base}/models/gemini-2.5-flash:generateContent"
    assert request.headers["x-goog-api-key"] == "AIza0123456789"
    assert "AIza" not in request.url
    assert CODEC.encode(PLAIN, stream=True).url == f"{base}/models/{MODEL}:streamGenerateContent?alt=sse"
    queried = msgspec.structs.replace(ENDPOINT, query={"a": "b"})
    tuned = codec_for(Target(queried, "tunedModels/my one"))
    assert tuned.encode(PLAIN, stream=True).url == f"{base}/tunedModels/my%20one:streamGenerateContent?a=b&alt=sse"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (Call("x", extra={"parallel_tool_calls": False}), "^parallel_tool_calls: gemini"),
        (Call("x", reasoning_effort="xhigh"), "^reasoning_effort: gemini-2.5-flash knows none, minimal.*'xhigh'"),
        (Call("x", tool_choice=5), "^tool_choice"),
        (Call(messages=[{"role": "poet", "content": "x"}]), "^messages: gemini knows no role 'poet'"),
        (Call(messages=[{"role": "user", "content": [{"type": "tool_use"}]}]), "^messages: .*'tool_use'"),
        (Call(messages=[{"role": "system", "content": [{"type": "image_url"}]}]), "^messages: a system prompt"),
        (Call(messages=[{"role": "tool", "tool_call_id": "a", "content": "x"}]), "^messages: a tool's result answers"),
        (Call("x", output=print), "^output takes"),
    ],
)
def test_what_cannot_be_sent_is_named(call: Call, said: str) -> None:
    """A parameter would be dropped without a word, or its fault have to be guessed from a 400."""
    with pytest.raises(InvalidRequest, match=said):
        CODEC.encode(call)


def test_a_conversation_with_tools() -> None:
    """Tools' results would be refused: they carry the function's name, and an object."""
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    made = contents(
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "well", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": '{"y": 2}'},
        {"role": "tool", "tool_call_id": "b", "content": "7"},
        {"role": "tool", "tool_call_id": "z", "name": "h", "content": [{"type": "text", "text": "sunny"}]},
        {"role": "user", "content": "and?"},
        {"role": "user", "content": ""},
    )
    assert made == [
        {"role": "user", "parts": [{"text": "go"}]},
        {"role": "model", "parts": [
            {"text": "well"},
            {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}},
            {"functionCall": {"id": "b", "name": "g", "args": {}}},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"id": "a", "name": "f", "response": {"y": 2}}},
            {"functionResponse": {"id": "b", "name": "g", "response": {"result": 7}}},
            {"functionResponse": {"id": "z", "name": "h", "response": {"result": "sunny"}}},
            {"text": "and?"},
        ]},
    ]  # fmt: skip


def test_signatures_come_back() -> None:
    """Gemini 3 would refuse the second turn of every conversation with tools."""
    part = {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "c2ln=="}
    call = decoded(answer(part)).tool_calls[0]
    said = {"role": "assistant", "tool_calls": [
        {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}, "signature": call.signature}
    ]}  # fmt: skip
    result = {"role": "tool", "tool_call_id": call.id, "content": "1"}
    assert (call.id, call.signature) == ("call_0", "c2ln==")
    made = contents({"role": "user", "content": "x"}, said, result, model="gemini-3-pro")
    assert made[1]["parts"] == [
        {"functionCall": {"id": "call_0", "name": "f", "args": {"x": 1}}, "thoughtSignature": "c2ln=="}
    ]
    assert made[2]["parts"][0]["functionResponse"]["id"] == "call_0"
    other = {"role": "assistant", "tool_calls": [{"id": i, "function": {"name": "f"}} for i in "ab"]}
    unsigned = contents(other, model="gemini-3-pro")[0]["parts"]
    assert ["thoughtSignature" in part for part in unsigned] == [True, False]
    assert "thoughtSignature" not in contents(other)[0]["parts"][0]


def test_images_and_files() -> None:
    """An image or a file would be refused, or fetched by us."""
    made = contents({"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "AAAA"}},
        {"type": "file", "file": {"file_id": "https://generativelanguage.googleapis.com/v1beta/files/1"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"videoMetadata": {}, "fileData": {"fileUri": "gs://own"}},
        "text",
    ]})  # fmt: skip
    assert made[0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"fileData": {"fileUri": "https://x/y.png"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/1"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
        {"videoMetadata": {}, "fileData": {"fileUri": "gs://own"}},
        {"text": "text"},
    ]


def test_a_schema_is_asked_for() -> None:
    """The schema would be refused: nothing may stand beside a reference. Its limits would be lost."""
    made = config(output=Trip)
    assert made["responseMimeType"] == "application/json"
    assert made["responseJsonSchema"]["properties"]["start"] == {"$ref": "#/$defs/City"}
    assert made["responseJsonSchema"]["properties"]["days"]["minimum"] == 1
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert config(output=schema)["responseJsonSchema"] == schema


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("gemini-2.5-pro", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "high", {"thinkingBudget": 24_576}),
        ("gemini-3-flash", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-flash-latest", "high", {"thinkingLevel": "HIGH"}),
    ],
)
def test_reasoning_effort(model: str, effort: str, expected: dict[str, Any]) -> None:
    """The request would be refused: models before 3 take a budget, later ones a level."""
    assert config(model, reasoning_effort=effort)["thinkingConfig"] == expected


def test_tools_of_geminis_own() -> None:
    """Search could not be asked for; a choice of one function would be free."""
    tools = [{"type": "function", "function": {"name": "f"}}, {"googleSearch": {}}]
    assert sent(Call("x", tools=tools))["tools"] == [{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}]
    one = sent(Call("x", tool_choice={"type": "function", "function": {"name": "f"}}))
    assert one["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}
    own = {"retrievalConfig": {}}
    assert sent(Call("x", tool_choice=own))["toolConfig"] == own


# -- answers


def test_a_plain_answer() -> None:
    """The answer, its tokens or its model would be wrong; thinking would be read as the answer, or not be billed."""
    usage = {
        "promptTokenCount": 100, "cachedContentTokenCount": 60, "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 7, "thoughtsTokenCount": 20, "totalTokenCount": 132,
    }  # fmt: skip
    body = answer({"text": "hm", "thought": True}, {"text": "Hi"}, {"text": "!"}, usageMetadata=usage)
    reply = decoded(body)
    assert (reply.text, reply.finish_reason, reply.model) == ("Hi!", "stop", "gemini-x")
    assert reply.usage == Usage(input_tokens=105, output_tokens=27, cached_tokens=60, reasoning_tokens=20)
    assert reply.raw == body


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, Usage()),
        ({"promptTokenCount": 5}, Usage(input_tokens=5)),
        ({"promptTokenCount": 5, "totalTokenCount": 5}, Usage(input_tokens=5, output_tokens=0)),
        (
            {"promptTokenCount": 5, "thoughtsTokenCount": 4, "totalTokenCount": 9},
            Usage(input_tokens=5, output_tokens=4, reasoning_tokens=4),
        ),
    ],
)
def test_counts_that_are_left_out(usage: Any, expected: Usage) -> None:
    """A count of nothing, which Google leaves out, would be unknown; or an unknown one be nothing."""
    assert decoded(answer({"text": "x"}, usageMetadata=usage)).usage == expected


def test_tool_calls() -> None:
    """An agent would not see what the model asks for, or take the answer for finished."""
    reply = decoded(
        answer({"functionCall": {"id": "q", "name": "f", "args": {"a": 1}}}, {"functionCall": {"name": "g"}})
    )
    assert [(call.id, call.name, call.parsed()) for call in reply.tool_calls] == [
        ("q", "f", {"a": 1}),
        ("call_1", "g", {}),
    ]
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")


SCHEMA = Call("x", output=City)


@pytest.mark.parametrize(
    ("body", "call", "kind"),
    [
        (answer(), PLAIN, errors.EmptyAnswer),
        (answer({"text": "hm", "thought": True}, reason="MAX_TOKENS"), PLAIN, errors.Truncated),
        (answer({"text": '{"na'}, reason="MAX_TOKENS"), SCHEMA, errors.Truncated),
        (answer({"text": "half"}, reason="SAFETY"), PLAIN, errors.ContentFiltered),
        (answer(reason="RECITATION"), PLAIN, errors.ContentFiltered),
        (answer(reason="PROHIBITED_CONTENT"), PLAIN, errors.ContentFiltered),
        (answer(reason="MALFORMED_FUNCTION_CALL"), PLAIN, errors.SchemaMismatch),
        (answer(reason="UNEXPECTED_TOOL_CALL"), PLAIN, errors.SchemaMismatch),
        (answer({"text": "half"}, reason="OTHER"), PLAIN, errors.ServerError),
        (answer(reason="MISSING_THOUGHT_SIGNATURE"), PLAIN, errors.InvalidRequest),
        (answer({"text": "sorry"}), SCHEMA, errors.SchemaMismatch),
        ({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9}}, PLAIN,
         errors.ContentFiltered),
        ({"usageMetadata": {"promptTokenCount": 9}}, PLAIN, errors.EmptyAnswer),
        ({"candidates": [], "usageMetadata": {"promptTokenCount": 9}}, PLAIN, errors.EmptyAnswer),
        (answer(reason="NEW_WORD"), PLAIN, errors.EmptyAnswer),
    ],
)  # fmt: skip
def test_an_unusable_answer_keeps_its_bill(body: Any, call: Call, kind: type[CallError]) -> None:
    """A blocked, cut or empty answer would pass for a good one, or its cost be forgotten."""
    error = failed(body, call)
    assert type(error) is kind
    assert error.reply is not None
    assert error.reply.usage.input_tokens == 9


def test_why_it_stopped() -> None:
    """A script that looks for ``length`` would find a word of the provider's own."""
    assert decoded(answer({"text": "once"}, reason="MAX_TOKENS")).finish_reason == "length"
    assert decoded(answer({"text": "once"}, reason="NEW_WORD")).finish_reason == "NEW_WORD"
    assert "blocked the prompt (SAFETY)" in str(failed({"promptFeedback": {"blockReason": "SAFETY"}}))


def google(status: str, message: str = "no", *details: Any) -> dict[str, Any]:
    return {"error": {"code": 1, "status": status, "message": message, "details": list(details)}}


PER_DAY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
PER_MINUTE = {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {}, errors.ProtocolError),
        (200, [{"candidates": []}], errors.ProtocolError),
        (200, google("UNAVAILABLE"), errors.Overloaded),
        (400, google("INVALID_ARGUMENT", "bad"), errors.InvalidRequest),
        (400, google("INVALID_ARGUMENT", "API key not valid. Please pass one."), errors.AuthenticationError),
        (400, google("INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
         errors.ContextTooLong),
        (403, google("PERMISSION_DENIED"), errors.AuthenticationError),
        (404, google("NOT_FOUND", "models/x is not found for API version v1beta"), errors.InvalidRequest),
        (429, google("RESOURCE_EXHAUSTED", "slow", PER_MINUTE, {"retryDelay": "34.07s"}), errors.RateLimited),
        (429, google("RESOURCE_EXHAUSTED", "slow", PER_DAY), errors.QuotaExhausted),
        (500, google("INTERNAL"), errors.ServerError),
        (503, google("UNAVAILABLE", "The model is overloaded."), errors.Overloaded),
        (504, google("DEADLINE_EXCEEDED"), errors.ServerError),
    ],
)  # fmt: skip
def test_failures_have_names(status: int, body: Any, kind: type[CallError]) -> None:
    """A failure would be retried in vain, or a passing one be final."""
    error = failed(body, status=status)
    assert type(error) is kind
    assert error.retry_after == (34.07 if "34.07" in str(body) else None)
