"""What must hold for every wire format, whatever a call or an answer holds."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flatout import errors
from flatout.errors import ConfigError, InvalidRequest
from flatout.layer import Response
from flatout.providers import codec_for, registry
from flatout.values import Call, Target

CODECS = [
    codec_for(Target(registry.find(name), model))
    for name, model in [
        ("openai", "gpt-5-mini"), ("openai-responses", "gpt-5-mini"), ("anthropic", "claude-opus-5"),
        ("anthropic", "claude-sonnet-4-0"), ("gemini", "gemini-3-pro"), ("gemini", "gemini-2.5-pro"),
    ]
]  # fmt: skip
PLAIN = Call("hello")
SCHEMA = Call("x", output={"type": "object", "properties": {"a": {"type": "string"}}})

texts = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates too
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=4) | st.just(object())
KEYS = (
    "role content type text image_url url file file_data file_id filename input_audio tool_calls tool_call_id function"
    " name arguments id parameters properties $ref cache_control parallel_tool_calls"
)
anything = st.recursive(
    scalars | st.sampled_from(["user", "assistant", "tool", "system", "text", "image_url", "function", "data:,x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner)
        | st.dictionaries(st.sampled_from(KEYS.split()) | texts | st.integers(), inner, max_size=4)
    ),
    max_leaves=10,
)  # fmt: skip
OPTIONS = (
    "system max_tokens temperature top_p stop seed logprobs reasoning_effort service_tier output tools tool_choice"
)
PARTS = ("text", "image_url", "file", "input_audio", "refusal")
calls_like = st.lists(st.fixed_dictionaries({"function": anything}, optional={"id": anything}), max_size=2)
parts_like = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(PARTS)}, optional=dict.fromkeys((*PARTS, "cache_control"), anything)
    ),
    max_size=3,
)
messages_like = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", None])},
        optional={
            "content": texts | parts_like | anything, "tool_calls": calls_like, "tool_call_id": texts, "name": texts,
            "cache_control": anything,
        },
    ),
    max_size=4,
)  # fmt: skip


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
@settings(max_examples=120)
@given(
    prompt=texts,
    fields=st.dictionaries(st.sampled_from([*OPTIONS.split(), "extra"]), anything, max_size=3),
    messages=st.none() | messages_like | st.lists(anything, max_size=2),
    stream=st.booleans(),
)
def test_any_call_is_encoded_or_refused(codec: Any, prompt: str, fields: Any, messages: Any, stream: bool) -> None:
    """One odd row would crash a run of millions."""
    try:
        call = Call(prompt, **fields) if messages is None else Call(messages=messages, **fields)
        request = codec.encode(call, stream=stream)
    except (ConfigError, InvalidRequest):  # the call itself refuses some values
        return
    assert isinstance(json.loads(request.body), dict)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_nesting_without_end_is_refused(codec: Any) -> None:
    """A structure that holds itself would crash the run."""
    loop: dict[str, Any] = {"type": "object"}
    loop["properties"] = {"a": loop}
    parts: list[Any] = []
    parts.append({"type": "own", "more": parts})
    tool = {"type": "function", "function": {"name": "f", "parameters": loop}}
    for call in (
        Call("x", output=loop), Call("x", tools=[tool]), Call(messages=[{"role": "user", "content": parts}]),
    ):  # fmt: skip
        with pytest.raises(InvalidRequest):
            codec.encode(call)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_a_call_is_left_as_it_was(codec: Any) -> None:
    """A retry, or the same call to another provider, would send something else."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    said = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
    }
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
        said,
        {"role": "tool", "tool_call_id": "a"},
    ]
    call = Call(messages=messages, tools=[tool], output={"type": "object"}, extra={"metadata": {"a": "b"}})
    before = repr(call)
    assert codec.encode(call).body == codec.encode(call).body
    assert repr(call) == before


ANSWERS = (
    "choices message content text refusal finish_reason tool_calls function name arguments error code type object usage"
    " prompt_tokens output status incomplete_details reason stop_reason input id input_tokens candidates parts thought"
    " finishReason promptFeedback blockReason usageMetadata functionCall args call_id"
)
WORDS = "text tool_use message output_text refusal function_call stop end_turn STOP completed failed incomplete SAFETY"
wire = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 600) | st.floats(allow_nan=False)
    | st.sampled_from(["", " ", "error", *WORDS.split()]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(ANSWERS.split()), inner, max_size=5),
    max_leaves=15,
)  # fmt: skip


def holding(kind: str, field: str) -> st.SearchStrategy[Any]:
    return st.lists(st.fixed_dictionaries({"type": st.just(kind)}, optional={field: wire, "name": wire, "input": wire}))


shaped = (
    st.fixed_dictionaries({"content": holding("text", "text") | wire, "stop_reason": wire, "usage": wire})
    | st.fixed_dictionaries({"output": holding("message", "content") | wire, "status": wire, "usage": wire})
    | st.fixed_dictionaries({
        "candidates": st.lists(st.fixed_dictionaries({
            "content": st.fixed_dictionaries({"parts": st.lists(wire, max_size=3)}), "finishReason": wire
        }), max_size=2),
        "usageMetadata": wire,
    })
)  # fmt: skip


@pytest.mark.parametrize("codec", CODECS[:3] + CODECS[4:5], ids=lambda codec: type(codec).__name__)
@settings(max_examples=150)
@given(
    body=st.binary(max_size=40) | wire.map(msgspec.json.encode) | shaped.map(msgspec.json.encode),
    status=st.sampled_from([200, 200, 200, 201, 302, 400, 404, 429, 500, 999]),
    call=st.sampled_from([PLAIN, SCHEMA]),
)
@example(body=b'{"output":[{"type":[]}]}', status=200, call=PLAIN)
def test_any_answer_is_a_reply_or_an_error(codec: Any, body: bytes, status: int, call: Call) -> None:
    """A silent empty answer would be taken for the model's, and a surprise would crash the run."""
    try:
        reply = codec.decode(call, Response(status, {}, body))
    except (errors.ProviderError, errors.OutputError, errors.ProtocolError):
        return
    assert 200 <= status < 300
    assert reply.text.strip() or reply.tool_calls
    msgspec.json.encode(reply)


@pytest.mark.parametrize("codec", CODECS[:3] + CODECS[4:5], ids=lambda codec: type(codec).__name__)
def test_an_empty_answer_counts_as_one(codec: Any) -> None:
    """An answer without usage might have been billed, and nobody would know what it was."""
    body = {"choices": [], "content": [], "output": [], "candidates": []}
    with pytest.raises(errors.EmptyAnswer) as caught:
        codec.decode(PLAIN, Response(200, {}, json.dumps(body).encode()))
    assert caught.value.reply is not None
    assert caught.value.reply.raw == body


@pytest.mark.parametrize("codec", CODECS[:3] + CODECS[4:5], ids=lambda codec: type(codec).__name__)
def test_no_key_gets_into_an_error(codec: Any) -> None:
    """A key that the provider quotes would be printed, logged and stored."""
    key = "AIzaSy0123456789abcdef"
    body = json.dumps({"error": {"message": f"bad key {key}", "status": "INVALID_ARGUMENT"}}).encode()
    with pytest.raises(errors.CallError) as caught:
        codec.decode(PLAIN, Response(400, {"x-echo": f"Bearer {key}"}, body))
    assert key not in f"{caught.value} {caught.value.body} {caught.value.headers}"


@pytest.mark.parametrize("codec", CODECS)
def test_malformed_arguments_are_a_named_error(codec: Any) -> None:
    """A function would be called with half its arguments; or a paid answer be lost without a word."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "required": ["n"]}}}
    bodies = {
        "OpenAIChat": {
            "choices": [{"message": {"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]}}]
        },
        "OpenAIResponses": {"output": [{"type": "function_call", "call_id": "1", "name": "f", "arguments": "{"}]},
        "Anthropic": {"content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
        "Gemini": {"candidates": [{"content": {"parts": [{"functionCall": {"id": "1", "name": "f", "args": {}}}]}}]},
    }
    response = Response(200, {}, json.dumps(bodies[type(codec).__name__]).encode())
    with pytest.raises(errors.SchemaMismatch, match="the arguments of f do not fit") as caught:
        codec.decode(Call("x", tools=[tool]), response)
    assert caught.value.reply is not None
    assert caught.value.complaints.keys() == {"1"}
    assert len(codec.decode(Call("x"), response).tool_calls) == 1


@pytest.mark.parametrize("codec", CODECS)
def test_the_tier_that_answered_is_told(codec: Any) -> None:
    """A half-price or a dearer answer would be billed by the usual price."""
    bodies = {
        "OpenAIChat": {"choices": [{"message": {"content": "x"}}], "service_tier": "flex"},
        "OpenAIResponses": {
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}], "service_tier": "flex"
        },
        "Anthropic": {"content": [{"type": "text", "text": "x"}], "usage": {"service_tier": "flex"}},
    }  # fmt: skip
    if (body := bodies.get(type(codec).__name__)) is not None:
        assert codec.decode(PLAIN, Response(200, {}, json.dumps(body).encode())).service_tier == "flex"
