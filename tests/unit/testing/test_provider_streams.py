from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import CallError, ProtocolError
from flatout.providers import codec_for
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedResponse, digest_of
from flatout.values import Call, Endpoint, Reply, Target

WALL = 1_767_225_600.0
STEADY = {"latency": 1.0, "latency_p99": 1.0}
CODEC = codec_for(Target(Endpoint(name="simulated", base_url="http://simulated/v1"), "m"))


def ask(model: ProviderModel, prompt: str = "hello", /, **fields: Any) -> SimulatedResponse:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": True, **fields}
    outcome = model.receive(0.0, WALL, json.dumps(body).encode())
    model.finish(0.0, outcome)
    return outcome


def streamed(outcome: SimulatedResponse) -> bytes:
    assert outcome.pieces is not None
    return b"".join(data for _, data in outcome.pieces)


def chunks_of(outcome: SimulatedResponse) -> list[dict[str, Any]]:
    events = streamed(outcome).decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def read(outcome: SimulatedResponse) -> Reply:
    """What the library makes of the stream."""
    decoder = CODEC.stream_decoder(Call("hello"), outcome.headers)
    for _, data in outcome.pieces or ():
        decoder.feed(data)
    return decoder.reply()


def test_a_stream_has_openais_chunks():
    """The decoding of streams would be tested against another format."""
    first, *words, last = chunks_of(ask(ProviderModel()))
    assert {first["object"], first["model"]} == {"chat.completion.chunk", "m"}
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(word["choices"][0]["finish_reason"] is None for word in words)
    assert last["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert "usage" not in last
    assert len(words) > 5


def test_a_stream_says_what_a_whole_answer_says():
    """Streaming would change the answers, and a resumed run would differ."""
    whole = ask(ProviderModel(), stream=False)
    reply = read(ask(ProviderModel(), stream_options={"include_usage": True}))
    said = json.loads(whole.body)
    assert reply.text == said["choices"][0]["message"]["content"]
    assert reply.text.startswith(f"digest:{digest_of('hello')}")
    assert reply.finish_reason == "stop"
    assert reply.usage.input_tokens == said["usage"]["prompt_tokens"]
    assert reply.usage.output_tokens == said["usage"]["completion_tokens"] == whole.output_tokens


def test_the_usage_comes_last_and_only_when_it_is_asked_for():
    """A client that forgets to ask for the usage would pass its tests."""
    *others, last = chunks_of(ask(ProviderModel(), stream_options={"include_usage": True}))
    assert all(chunk["usage"] is None for chunk in others)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] > 10
    assert read(ask(ProviderModel())).usage.input_tokens is None


@given(st.text(max_size=300))
def test_any_text_streams_unchanged(text):
    """A scripted answer would lose its white space or its odd characters on the way."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return
    chunks = chunks_of(ask(ProviderModel(script=lambda _request: text)))
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == text


def test_scripted_tool_calls_stream():
    """Agents could not be tested on streams."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Brno", "days": [1, 2]}'}}
    reply = read(ask(ProviderModel(script=lambda _request: {"content": None, "tool_calls": [call, call]})))
    assert [(each.id, each.name, each.parsed()) for each in reply.tool_calls] == [
        ("1", "f", {"city": "Brno", "days": [1, 2]})
    ] * 2
    assert reply.finish_reason == "tool_calls"
    bare = {"id": "1", "type": "function", "function": {"name": "f"}}
    assert read(ask(ProviderModel(script=lambda _request: {"tool_calls": [bare]}))).tool_calls[0].name == "f"


def test_a_stream_takes_the_time_of_a_whole_answer():
    """Streaming would make a provider slower or faster, and the first token would tell nothing."""
    outcome = ask(ProviderModel(ProviderSettings(**STEADY)))
    assert outcome.pieces is not None
    gaps = [delay for delay, _ in outcome.pieces]
    assert outcome.delay == pytest.approx(0.2)
    assert gaps[0] == 0
    assert outcome.delay + sum(gaps) == pytest.approx(1.0)
    assert len(set(gaps[1:])) == 1


def test_the_first_token_and_the_pace_can_be_set():
    """A slow reasoning model, or a slow connection, could not be played."""
    outcome = ask(ProviderModel(ProviderSettings(first_token=5.0, word_gap=0.25, **STEADY)))
    assert outcome.pieces is not None
    assert outcome.delay == pytest.approx(5.0)
    assert {delay for delay, _ in outcome.pieces[1:]} == {0.25}
    varied = ProviderModel(ProviderSettings(first_token=5.0))
    assert len({ask(varied).delay for _ in range(5)}) == 5
    at_once = ask(ProviderModel(ProviderSettings(latency=0.0)))
    assert [delay for delay, _ in at_once.pieces or ()] == [0.0]


def test_an_overloaded_server_streams_more_slowly():
    """A server that gets slower under load would not do so in streams."""
    model = ProviderModel(ProviderSettings(slow_above=1, **STEADY))
    body = b'{"model":"m","messages":[{"role":"user","content":"a"}],"stream":true}'
    one, two = (model.receive(0.0, WALL, body) for _ in range(2))
    assert one.pieces is not None
    assert two.pieces is not None
    assert two.delay == pytest.approx(2 * one.delay)
    assert sum(delay for delay, _ in two.pieces) == pytest.approx(2 * sum(delay for delay, _ in one.pieces))


def test_a_refusal_has_its_status_before_any_stream():
    """A 429 would hide in a stream whose status says 200."""
    model = ProviderModel(ProviderSettings(rpm=1, headers="openai"))
    ask(model)
    refused = ask(model)
    assert (refused.status, refused.pieces) == (429, None)
    assert json.loads(refused.body)["error"]["code"] == "rate_limit_exceeded"
    assert refused.headers["content-type"] == "application/json"
    assert ask(ProviderModel(ProviderSettings(faults=Faults(overloaded=1.0)))).status == 503


def test_a_truncated_stream_ends_without_its_last_event():
    """A client that takes half an answer for a whole one would pass its tests."""
    outcome = ask(ProviderModel(ProviderSettings(faults=Faults(truncated=1.0))))
    assert (outcome.kind, outcome.wire, outcome.status) == ("truncated", "whole", 200)
    assert b"[DONE]" not in streamed(outcome)
    with pytest.raises(ProtocolError):
        read(outcome)


def test_an_error_comes_in_the_middle_of_a_stream():
    """A failure after the status could not be played."""
    outcome = ask(ProviderModel(ProviderSettings(faults=Faults(late_error=1.0))))
    assert b"digest:" in streamed(outcome)
    assert json.loads(streamed(outcome).decode().split("data: ")[-1])["error"]["type"] == "server_error"
    with pytest.raises(CallError, match="the server failed"):
        read(outcome)
    whole = ask(ProviderModel(ProviderSettings(faults=Faults(late_error=1.0))), stream=False)
    assert (whole.status, json.loads(whole.body)["error"]["type"]) == (200, "server_error")


def test_a_stalled_stream_stops_in_the_middle():
    """A connection that dies without a word could not be played."""
    outcome = ask(ProviderModel(ProviderSettings(faults=Faults(stall=1.0))))
    assert outcome.wire == "stall"
    assert b"digest:" in streamed(outcome)
    assert b"[DONE]" not in streamed(outcome)


def test_malformed_and_empty_streams():
    """What is no JSON, or no answer, could only be played in one piece."""
    with pytest.raises(ProtocolError, match="not a complete JSON object"):
        read(ask(ProviderModel(ProviderSettings(faults=Faults(malformed=1.0)))))
    empty = chunks_of(ask(ProviderModel(ProviderSettings(faults=Faults(empty=1.0)))))
    assert not any(chunk["choices"][0]["delta"].get("content") for chunk in empty)


@pytest.mark.parametrize("fault", ["truncated", "stall", "malformed", "late_error"])
@pytest.mark.parametrize("text", ["", "one", "two words", "some more words than that"])
def test_a_broken_stream_is_never_whole(fault, text):
    """A short answer would arrive unharmed by its fault."""
    model = ProviderModel(ProviderSettings(faults=Faults(**{fault: 1.0})), script=lambda _request: text)
    with pytest.raises(CallError):
        read(ask(model))
