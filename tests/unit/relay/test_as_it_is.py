"""Requests to a target of the same format: nothing is added, lost, or asked twice without need."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout import Client
from flatout.edge.relay import RelayedStream
from flatout.errors import CallError
from flatout.layer import Response

from .scripted import ANTHROPIC, ASKED, CLAUDE, CUT, OPENAI, RESPONSE, Server, answered, call, chat, chunks, event, run

START = event({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3}}}, "message_start")
PING = event({"type": "ping"}, "ping")
BLOCK = event(
    {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f"}},
    "content_block_start",
)
ENDED = event({"type": "content_block_stop", "index": 0}, "content_block_stop") + event(
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}, "message_delta"
)
STOP = event({"type": "message_stop"}, "message_stop")
OVERLOADED = event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
STREAM = b": hello\r\n\r\n" + START + PING + BLOCK + ENDED + STOP


@pytest.mark.parametrize(
    "message",
    [
        {"content": ""},
        {"content": None, "audio": {"id": "a", "data": "AAAA"}},
        {"content": None, "refusal": "No."},
        {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"content": None, "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}]},
    ],
)
def test_whatever_the_model_says_is_the_programs(message: dict[str, Any]):
    """An answer that flatout would refuse for its own calls would be paid for again, or lost."""
    answer = chat(message)
    server = Server(answer)
    got = run(server, lambda client: answered(client, call("openai", ASKED, OPENAI)))
    assert (got.status, got.body) == (200, answer.body)
    assert len(server.requests) == 1


def test_a_stream_that_was_not_asked_for_is_written_as_a_whole_answer():
    """Some servers stream whatever they are asked: a program would not be able to read its answer."""
    body = b"".join(each for each in chunks({"content": "ham"}) if isinstance(each, bytes))
    server = Server(Response(200, {"content-type": "text/event-stream"}, body))
    got = run(server, lambda client: answered(client, call("openai", ASKED, OPENAI)))
    assert json.loads(got.body)["choices"][0]["message"]["content"] == "ham"
    assert got.headers["content-type"] == "application/json"


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_a_streams_bytes_are_the_providers_however_they_are_cut(cuts: list[int]):
    """A program would miss a byte where a piece ends, or a comment."""
    places = [0, *sorted(cuts), len(STREAM)]
    pieces: Any = [STREAM[begin:end] for begin, end in pairwise(places)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ANTHROPIC_API_KEY", "sk-ant-test-1234567890")
        got = run(
            Server(pieces), lambda client: answered(client, call("anthropic", {**CLAUDE, "stream": True}, ANTHROPIC))
        )
    assert got.body == STREAM


def test_an_overload_after_the_events_that_begin_an_answer_is_waited_out():
    """A program would have to retry what flatout can retry unseen, however large the first events are."""
    created = event({"type": "response.created", "response": {"id": "r", "instructions": "x" * 4_000}})
    failed = event({"type": "error", "error": {"type": "server_error", "code": "server_error", "message": "Sorry"}})
    done = event(
        {
            "type": "response.completed",
            "response": {
                "id": "r",
                "status": "completed",
                "output": [{"type": "message", "content": [{"type": "output_text", "text": "ham"}]}],
            },
        }
    )
    server = Server([created, failed], [created, done])
    got = run(
        server,
        lambda client: answered(client, call("openai-responses", {**RESPONSE, "stream": True}, "openai/gpt-5-mini")),
    )
    assert (got.status, got.body) == (200, created + done)


def test_an_error_in_the_middle_is_passed_on_and_not_retried():
    """A program would get the beginning of two answers."""
    server = Server([START, BLOCK, 1.0, OVERLOADED])
    got = run(server, lambda client: answered(client, call("anthropic", {**CLAUDE, "stream": True}, ANTHROPIC)))
    assert got.body == START + BLOCK + OVERLOADED
    assert len(server.requests) == 1


@pytest.mark.parametrize(("before", "requests"), [([START], 2), ([START, BLOCK, 1.0], 1)])
def test_a_cut_stream_is_asked_again_only_if_nothing_was_delivered(before: list[Any], requests: int):
    """A program would lose a call that could be saved, or get two answers in one."""
    server = Server([*before, CUT], [STREAM])

    async def main(client: Client) -> bytes | None:
        try:
            return (await answered(client, call("anthropic", {**CLAUDE, "stream": True}, ANTHROPIC))).body
        except CallError:
            return None

    assert run(server, main) == (STREAM if requests == 2 else None)
    assert len(server.requests) == requests


@pytest.mark.parametrize("first", [BLOCK, *chunks({"tool_calls": [{"index": 0, "id": "c"}]})[:1]])
def test_tool_calls_are_not_held_back(first: bytes):
    """A program would see the beginning of a long tool call only at its end."""
    dialect, data, model = ("anthropic", CLAUDE, ANTHROPIC) if first is BLOCK else ("openai", ASKED, OPENAI)

    async def main(client: Client) -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with RelayedStream(client._engine, call(dialect, {**data, "stream": True}, model)):
            return loop.time() - begun

    assert run(Server([first, 60.0, STREAM]), main) < 2.0


def test_an_answer_in_the_background_is_fetched_by_the_program():
    """A response that is queued would be taken for a failure, and asked for again and again."""
    queued = Response(200, {}, json.dumps({"id": "r", "status": "queued", "output": [], "error": None}).encode())
    server = Server(queued)
    got = run(
        server, lambda client: answered(client, call("openai-responses", {**RESPONSE, "background": True}, OPENAI))
    )
    assert (got.status, got.body) == (200, queued.body)
    assert len(server.requests) == 1


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    (
        *("messages", "input", "instructions", "system", "contents", "systemInstruction", "generationConfig"),
        *("max_tokens", "max_output_tokens", "temperature", "stop", "stop_sequences", "tools", "tool_choice", "n"),
        *("response_format", "text", "reasoning", "output_config", "logprobs", "top_logprobs", "stream_options"),
        *("service_tier", "reasoning_effort", "modalities", "metadata", "seed", "include"),
    )
)
DIALECTS = {
    "openai": OPENAI,
    "openai-responses": OPENAI,
    "anthropic": ANTHROPIC,
    "embeddings": "openai/text-embedding-3-small",
}


@given(dialect=st.sampled_from(sorted(DIALECTS)), data=st.dictionaries(NAMES, ANY, max_size=5))
def test_values_of_any_type_reach_the_provider(dialect: str, data: dict[str, Any]):
    """A program would see a fault of flatout where its provider says what is wrong with the request."""
    refusal = Response(400, {}, b'{"error": {"message": "no", "type": "invalid_request_error"}}')
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OPENAI_API_KEY", "sk-test-1234567890")
        patched.setenv("ANTHROPIC_API_KEY", "sk-ant-test-1234567890")
        server = Server(refusal)
        got = run(server, lambda client: answered(client, call(dialect, data, DIALECTS[dialect])))
    assert (got.status, got.body) == (400, refusal.body)
    assert {**server.sent[0], "model": None} == {**data, "model": None}
