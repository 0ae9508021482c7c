"""Streamed answers, in all four wire formats: the same Reply as in one piece, or an error by name."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import errors
from flatout.errors import CallError
from flatout.layer import Response
from flatout.providers import codec_for, registry
from flatout.providers.formats.anthropic import ANSWER_TOOL
from flatout.values import Call, Reply, Target, Usage

CODECS = {
    name: codec_for(Target(registry.find(name), model))
    for name, model in {
        "openai": "gpt-5-mini", "openai-responses": "gpt-5-mini",
        "anthropic": "claude-opus-5", "gemini": "gemini-3-pro",
    }.items()
}  # fmt: skip
PLAIN = Call("hello")
SCHEMA = Call("x", output={"type": "object"})
HEADERS = {"content-type": "text/event-stream", "x-request-id": "req_1"}


def frames(*events: Any) -> bytes:
    return b"".join(b"data: " + (e if isinstance(e, bytes) else json.dumps(e).encode()) + b"\n\n" for e in events)


def chat(*deltas: Any, reason: Any = "stop", done: bool = True) -> bytes:
    def chunk(delta: Any, reason: Any = None) -> dict[str, Any]:
        return {"model": "m-1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": None}

    usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
    end = [chunk({}, reason), usage, b"[DONE]"] if done else []
    return b": OPENROUTER PROCESSING\n\n" + frames(*(chunk(delta) for delta in deltas), *end)


def chat_text(*texts: str, reason: str = "stop", done: bool = True) -> bytes:
    return chat({"role": "assistant", "content": ""}, *({"content": text} for text in texts), reason=reason, done=done)


def messages(*events: Any, reason: Any = "end_turn", done: bool = True) -> bytes:
    start = {"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "model": "m-1", "content": [], "stop_reason": None,
        "usage": {"input_tokens": 9, "output_tokens": 1},
    }}  # fmt: skip
    end = [
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason},
            "usage": {"output_tokens": 3, "input_tokens": None},
        },
        {"type": "message_stop"},
    ]
    return frames(start, {"type": "ping"}, *events, *(end if done else []))


def block(index: int, begun: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": begun},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def messages_text(*texts: str, reason: str = "end_turn", done: bool = True) -> bytes:
    deltas = ({"type": "text_delta", "text": text} for text in texts)
    return messages(*block(0, {"type": "text", "text": ""}, *deltas), reason=reason, done=done)


def google(*parts: Any, reason: Any = "STOP", done: bool = True) -> bytes:
    def chunk(*parts: Any, **more: Any) -> dict[str, Any]:
        usage = {"promptTokenCount": 9, "candidatesTokenCount": 3}
        content = {"role": "model", "parts": list(parts)}
        return {"candidates": [{"content": content, **more}], "usageMetadata": usage, "modelVersion": "m-1"}

    return frames(*(chunk(part) for part in parts), *([chunk({"text": ""}, finishReason=reason)] if done else []))


def google_text(*texts: str, reason: str = "STOP", done: bool = True) -> bytes:
    return google(*({"text": text} for text in texts), reason=reason, done=done)


def responses(*events: Any, end: Any = None) -> bytes:
    created = {
        "type": "response.created",
        "response": {"id": "r", "status": "in_progress", "model": "m-1", "output": []},
    }
    return frames(created, *events, *([end] if end else []))


def finished(*items: Any, status: str = "completed", **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 9, "output_tokens": 3}
    whole = {"status": status, "model": "m-1", "error": None, "output": list(items), "usage": usage, **more}
    return {"type": f"response.{status}", "response": whole}


def responses_text(*texts: str, reason: str = "", done: bool = True) -> bytes:
    item = {"type": "message", "content": [{"type": "output_text", "text": "".join(texts)}]}
    more: dict[str, Any] = {"status": "incomplete", "incomplete_details": {"reason": reason}} if reason else {}
    deltas = ({"type": "response.output_text.delta", "delta": text} for text in texts)
    return responses(*deltas, end=finished(item, **more) if done else None)


SPOKEN: dict[str, Callable[..., bytes]] = {
    "openai": chat_text, "openai-responses": responses_text, "anthropic": messages_text, "gemini": google_text,
}  # fmt: skip
CUT = {
    "openai": "length", "openai-responses": "max_output_tokens", "anthropic": "max_tokens", "gemini": "MAX_TOKENS",
}  # fmt: skip
each_format = pytest.mark.parametrize("name", CODECS)


def decoded(name: str, body: bytes, call: Call = PLAIN, headers: dict[str, str] = HEADERS) -> tuple[str, Reply]:
    decoder = CODECS[name].stream_decoder(call, headers)
    texts = decoder.feed(body)
    return "".join(texts), decoder.reply()


def failed(name: str, body: bytes, call: Call = PLAIN) -> CallError:
    with pytest.raises(CallError) as caught:
        decoded(name, body, call)
    return caught.value


@each_format
def test_text_comes_in_pieces_and_whole(name: str) -> None:
    """Streamed text would be lost or doubled, and a streamed answer have no cost."""
    decoder = CODECS[name].stream_decoder(PLAIN, HEADERS)
    assert decoder.feed(SPOKEN[name]("Hel", "lo, ", "wörld")) == ["Hel", "lo, ", "wörld"]
    reply = decoder.reply()
    assert (reply.text, reply.finish_reason, reply.model, reply.request_id) == ("Hello, wörld", "stop", "m-1", "req_1")
    assert reply.usage == Usage(input_tokens=9, output_tokens=3)
    again = CODECS[name].decode(PLAIN, Response(200, HEADERS, reply.body))
    assert again == reply
    assert decoder.reply() == reply


@each_format
@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 2_000), max_size=20))
def test_cuts_do_not_matter(name: str, cuts: list[int]) -> None:
    """An answer would depend on how the network happened to cut it, in the middle of a character for one."""
    body = SPOKEN[name]("ein ", "größeres ", "Übel 😀")
    edges = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    decoder = CODECS[name].stream_decoder(PLAIN, HEADERS)
    texts = [text for start, end in itertools.pairwise(edges) for text in decoder.feed(body[start:end])]
    assert ("".join(texts), decoder.reply()) == decoded(name, body)


@each_format
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.95])
def test_half_a_stream_is_no_answer(name: str, keep: float) -> None:
    """A broken connection would pass for the end of the answer."""
    body = SPOKEN[name]("a whole answer", " that goes on")
    error = failed(name, body[: int(len(body) * keep)])
    assert type(error) is errors.ProtocolError
    error = failed(name, SPOKEN[name]("a whole ", "answer", done=False))
    assert type(error) is errors.ProtocolError
    assert error.reply is not None
    assert error.reply.text == "a whole answer"  # it was paid for


@each_format
@pytest.mark.parametrize("body", [b"", b"\n\n", b": keep-alive\n\n: keep-alive\n\n", b"data: \n\n", b"event: x\n\n"])
def test_a_stream_of_nothing_is_no_answer(name: str, body: bytes) -> None:
    """A server that closes at once would have answered with nothing."""
    error = failed(name, body)
    assert type(error) is errors.ProtocolError
    assert error.reply is None


@each_format
def test_a_stream_that_was_cut_by_the_limit(name: str) -> None:
    """A schema's answer cut at max_tokens would be taken for a whole one; a text's be thrown away."""
    body = SPOKEN[name]('{"a": ', reason=CUT[name])
    assert decoded(name, body)[1].finish_reason == "length"
    error = failed(name, body, SCHEMA)
    assert type(error) is errors.Truncated
    assert error.reply is not None
    assert error.reply.usage == Usage(input_tokens=9, output_tokens=3)


@each_format
def test_a_schema_holds_for_streams(name: str) -> None:
    """A streamed object would not be validated."""
    assert decoded(name, SPOKEN[name]('{"a"', ": 1}"), SCHEMA)[1].output == {"a": 1}
    assert type(failed(name, SPOKEN[name]("[", "1]"), SCHEMA)) is errors.SchemaMismatch
    assert type(failed(name, SPOKEN[name](" "))) is errors.EmptyAnswer


ERRORS = {
    "openai": {"error": {"code": 503, "message": "gone"}},
    "openai-responses": {"type": "error", "code": "server_is_overloaded", "message": "Overloaded"},
    "anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    "gemini": {"error": {"code": 503, "status": "UNAVAILABLE", "message": "gone"}},
}


@each_format
def test_an_error_in_the_stream(name: str) -> None:
    """An error after the first words would pass for a cut connection, and be counted as one."""
    at_once = failed(name, frames(ERRORS[name]))
    assert type(at_once) in (errors.Overloaded, errors.ServerError)
    assert at_once.reply is None
    later = failed(name, SPOKEN[name]("half ", "an", done=False) + frames(ERRORS[name]))
    assert type(later) is type(at_once)
    assert later.reply is not None
    assert later.reply.text == "half an"


@each_format
@pytest.mark.parametrize("body", [frames(b"{oops"), frames([1]), frames(b"5"), b"data: \xff\n\n"])
def test_an_event_that_is_none(name: str, body: bytes) -> None:
    """A garbled event would crash the run, or be skipped and leave a hole in the answer."""
    assert type(failed(name, body)) is errors.ProtocolError
    whole = SPOKEN[name]("a", "b")
    assert type(failed(name, whole[: whole.index(b"data", 40)] + body + whole)) is errors.ProtocolError


@each_format
def test_a_server_that_does_not_stream(name: str) -> None:
    """An answer, paid for, would be lost because it came in one piece; a login page would pass for a cut stream."""
    reply = decoded(name, SPOKEN[name]("whole"))[1]
    decoder = CODECS[name].stream_decoder(PLAIN, {"content-type": "application/json"})
    assert [decoder.feed(piece) for piece in (b"", b"\n ", reply.body[:20], reply.body[20:])] == [[], [], [], []]
    assert decoder.reply().text == "whole"
    assert type(failed(name, json.dumps(ERRORS[name]).encode())) in (errors.Overloaded, errors.ServerError)
    assert type(failed(name, b"<html>login</html>")) is errors.ProtocolError


@each_format
def test_an_event_without_end_stops_the_reading(name: str) -> None:
    """A hostile server would fill the memory."""
    decoder = CODECS[name].stream_decoder(PLAIN, {})
    with pytest.raises(errors.ProtocolError, match="larger than"):
        decoder.feed(b"data: " + b"x" * 2**24)


@each_format
def test_a_stream_is_asked_for(name: str) -> None:
    """The answer would come in one piece, or without its usage."""
    whole, stream = (CODECS[name].encode(PLAIN, stream=stream) for stream in (False, True))
    assert (whole.headers["accept"], stream.headers["accept"]) == ("application/json", "text/event-stream")
    assert b'"stream"' not in whole.body
    assert b'"stream":true' in stream.body or "alt=sse" in stream.url
    asked = json.loads(CODECS["openai"].encode(PLAIN, stream=True).body)
    assert asked["stream_options"] == {"include_usage": True}
    mistral = codec_for(Target(registry.find("mistral"), "m")).encode(PLAIN, stream=True)
    assert "stream_options" not in json.loads(mistral.body)


# -- what only one of them has


def test_tool_calls_come_in_pieces() -> None:
    """An agent would see half of a tool's arguments, or one call's mixed with another's."""
    openai = chat(
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}]},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": ""}}]},
        {
            "tool_calls": [
                {"index": 0, "function": {"arguments": ": 1}"}},
                {"index": 1, "function": {"arguments": "{}"}},
            ]
        },
        reason="tool_calls",
    )
    anthropic = messages(
        *block(0, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "hm"},
               {"type": "signature_delta", "signature": "s"}),
        *block(1, {"type": "tool_use", "id": "a", "name": "f", "input": {}},
               {"type": "input_json_delta", "partial_json": '{"x"'},
               {"type": "input_json_delta", "partial_json": ": 1}"}),
        *block(2, {"type": "tool_use", "id": "b", "name": "g", "input": {}}),
        reason="tool_use",
    )  # fmt: skip
    gemini = google(
        {"text": "hm", "thought": True}, {"text": " hm", "thought": True},
        {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}}, {"functionCall": {"id": "b", "name": "g"}},
    )  # fmt: skip
    calls = [
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x": 1}'},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": "{}"},
    ]
    bodies = {
        "openai": openai, "anthropic": anthropic, "gemini": gemini, "openai-responses": responses(end=finished(*calls)),
    }  # fmt: skip
    for name, body in bodies.items():
        text, reply = decoded(name, body)
        assert text == reply.text == "", name
        assert [(c.id, c.name, c.parsed()) for c in reply.tool_calls] == [("a", "f", {"x": 1}), ("b", "g", {})], name
        assert reply.finish_reason == "tool_calls", name


def test_arguments_that_were_cut_are_kept_as_they_came() -> None:
    """Half of a tool's arguments would be called none, and the tool be run with its defaults."""
    begun = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    error = failed("anthropic", messages(*block(0, begun, {"partial_json": '{"a'}), reason="max_tokens"))
    assert type(error) is errors.Truncated
    assert error.reply is not None
    assert error.reply.tool_calls[0].arguments == '{"a'


def test_usage_that_comes_early() -> None:
    """The cost would be unknown where a later chunk says nothing of it."""
    early = frames({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    late = chat({"content": "x"}, done=False) + frames({"choices": [{"delta": {}, "finish_reason": "stop"}]}, b"[DONE]")
    assert decoded("openai", early + late)[1].usage == Usage(input_tokens=1, output_tokens=2)


def test_refusals_in_a_stream() -> None:
    """A streamed refusal would be an empty answer, and be tried again."""
    refused = responses(end=finished({"type": "message", "content": [{"type": "refusal", "refusal": "I cannot"}]}))
    assert type(failed("openai", chat({"refusal": "I "}, {"refusal": "cannot"}))) is errors.Refused
    assert type(failed("openai-responses", refused)) is errors.Refused
    assert type(failed("anthropic", messages_text("I", reason="refusal"))) is errors.Refused
    assert type(failed("gemini", google_text("I", reason="SAFETY"))) is errors.ContentFiltered
    blocked = frames({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9}})
    assert type(failed("gemini", blocked)) is errors.ContentFiltered


def test_an_upstream_that_fails_in_a_choice() -> None:
    """OpenRouter's word for a failed upstream would be skipped."""
    body = chat_text("half", done=False) + frames(
        {"choices": [{"error": {"code": 502, "message": "gone"}, "delta": {}}]}
    )
    assert type(failed("openai", body + frames(b"[DONE]"))) is errors.ServerError


def test_a_failed_response_says_why() -> None:
    """A throttle inside a stream would be taken for a fault of the server."""
    body = responses(end=finished(status="failed", error={"code": "rate_limit_exceeded", "message": "slow"}))
    assert type(failed("openai-responses", body)) is errors.RateLimited


def test_an_object_by_way_of_a_tool_is_streamed_as_text() -> None:
    """Where Anthropic answers by a tool, nothing would be seen until the end."""
    deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in ('{"a"', ":1}"))
    body = messages(
        *block(0, {"type": "tool_use", "id": "t", "name": ANSWER_TOOL, "input": {}}, *deltas), reason="tool_use"
    )
    text, reply = decoded("anthropic", body, SCHEMA)
    assert (text, reply.text, reply.output, reply.tool_calls) == ('{"a":1}', '{"a":1}', {"a": 1}, ())
    cut = messages(
        *block(0, {"type": "tool_use", "id": "t", "name": ANSWER_TOOL}, {"partial_json": '{"a'}), reason="max_tokens"
    )
    assert type(failed("anthropic", cut, SCHEMA)) is errors.Truncated


def test_other_choices_are_left_out() -> None:
    """Two answers to one prompt would be mixed word by word."""
    second = {"choices": [{"index": 1, "delta": {"content": "other"}}]}
    text, reply = decoded("openai", frames(second) + chat_text("one"))
    assert text == reply.text == "one"


# -- what must always hold

NAMES = (
    "type index delta content_block message content text partial_json choices tool_calls function name arguments id"
    " finish_reason error candidates parts finishReason promptFeedback response output usage"
)
KINDS = (
    "content_block_delta content_block_start message_start message_delta message_stop error response.created"
    " response.completed response.output_text.delta text tool_use message"
)
wire = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 600) | st.sampled_from(["", "x", "stop", *KINDS.split()]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=5),
    max_leaves=15,
)


@each_format
@settings(max_examples=120)
@given(
    events=st.lists(wire | st.binary(max_size=10), max_size=6),
    done=st.booleans(),
    call=st.sampled_from([PLAIN, SCHEMA]),
)
def test_any_stream_is_a_reply_or_an_error(name: str, events: list[Any], done: bool, call: Call) -> None:
    """A surprise in a stream would crash the run, or be an answer of nothing."""
    body = frames(*events) + (frames(b"[DONE]", {"type": "message_stop"}) if done else b"")
    try:
        text, reply = decoded(name, body, call)
    except (errors.ProviderError, errors.OutputError, errors.ProtocolError):
        return
    assert reply.text.strip() or reply.tool_calls
    assert isinstance(text, str)


@each_format
def test_a_broken_stream_says_so_at_once(name: str) -> None:
    """The rest of an answer that is lost already would be waited for, and paid."""
    decoder = CODECS[name].stream_decoder(PLAIN, HEADERS)
    decoder.feed(SPOKEN[name]("Hel", done=False))
    assert not decoder.broken
    decoder.feed(b'data: {"half": \n\n')
    assert decoder.broken
