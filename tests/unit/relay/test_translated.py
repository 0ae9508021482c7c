"""Requests to a target of another format: what is asked and answered keeps its meaning, or is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flatout import Client
from flatout.errors import InvalidRequest

from .scripted import Server, answered, call, chat, chunks, event, events, message, run

OPENAI, ANTHROPIC, GEMINI = "openai/gpt-5-mini", "anthropic/claude-sonnet-4-5", "gemini/gemini-3-flash"
TEXT = [{"role": "user", "content": "Spam or ham?"}]
CHAT: dict[str, Any] = {"model": "m", "messages": TEXT}
MESSAGES: dict[str, Any] = {"model": "m", "max_tokens": 50, "messages": TEXT}
RESPONSES: dict[str, Any] = {"model": "m", "input": "Spam or ham?"}
SCHEMA = {"type": "object", "properties": {"at": {"type": "integer"}}}
USES = [{"type": "tool_use", "id": f"t{n}", "name": "look", "input": {"at": n}} for n in (1, 2)]
CALLS = [
    {"id": f"t{n}", "type": "function", "function": {"name": "look", "arguments": f'{{"at":{n}}}'}} for n in (1, 2)
]


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1234567890")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-1234567890")
    monkeypatch.setenv("GROQ_API_KEY", "gsk-test-1234567890")
    monkeypatch.setenv("GEMINI_API_KEY", "test-1234567890")


def sent(dialect: str, data: dict[str, Any], model: str) -> Any:
    """What the target is sent for a request."""
    server = Server(chat({"content": "ham"}) if model == OPENAI else message([{"type": "text", "text": "ham"}]))
    run(server, lambda client: answered(client, call(dialect, data, model)))
    return server.sent[0]


def got(dialect: str, data: dict[str, Any], model: str, answer: Any) -> Any:
    """What the program is answered."""
    return run(Server(answer), lambda client: answered(client, call(dialect, data, model)))


@pytest.mark.parametrize("asks", [False, True])
def test_a_streams_usage_comes_only_if_it_is_asked_for(asks: bool) -> None:
    """A program that reads the first choice of each chunk would fail at a chunk without any."""
    pieces: Any = [
        event({"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}),
        event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ham"}}),
        event({"type": "content_block_stop", "index": 0}),
        event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}),
        event({"type": "message_stop"}),
    ]
    options = {"stream_options": {"include_usage": True}} if asks else {}
    told = events(got("openai", {**CHAT, "stream": True, **options}, ANTHROPIC, pieces).body)
    assert bool(told[-1].get("usage")) is asks
    assert all(each["choices"] for each in told) is not asks
    assert {each["id"] for each in told} == {told[0]["id"]}
    assert told[0]["created"] > 1_500_000_000


@pytest.mark.parametrize(("dialect", "data"), [("anthropic", MESSAGES), ("openai-responses", RESPONSES)])
def test_a_translated_stream_that_fails_in_the_middle_says_so(dialect: str, data: dict[str, Any]) -> None:
    """A program would take half an answer for the whole, or wait for its end."""
    failure = event({"error": {"message": "Sorry", "type": "server_error", "code": "server_error"}})
    answer = got(dialect, {**data, "stream": True}, "groq/m", [chunks({"content": "ha"})[0], 1.0, failure])
    assert "Sorry" in events(answer.body)[-1]["error"]["message"]
    assert b"event: error\n" in answer.body


def test_parallel_tool_calls_and_their_results_reach_the_other_format() -> None:
    """A model would see results of calls that it did not make, or none."""
    results = [{"type": "tool_result", "tool_use_id": f"t{n}", "content": "x"} for n in (1, 2)]
    turns = [*TEXT, {"role": "assistant", "content": USES}, {"role": "user", "content": results}]
    asked = sent("anthropic", {**MESSAGES, "messages": turns}, OPENAI)["messages"]
    assert asked[1] == {"role": "assistant", "content": None, "tool_calls": CALLS}
    assert [each["tool_call_id"] for each in asked[2:]] == ["t1", "t2"]
    back = sent("openai", {**CHAT, "messages": asked}, ANTHROPIC)["messages"]
    assert back[1:] == turns[1:]


def test_a_tool_that_failed_is_said_to_have_failed() -> None:
    """A model would take the words of an error for what it has asked for."""
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    contents = ["no such file", [{"type": "text", "text": "no such file"}], None, [picture]]
    results = [
        {"type": "tool_result", "tool_use_id": f"t{n}", "content": content, "is_error": True}
        for n, content in enumerate(contents)
    ]
    turns = [*TEXT, {"role": "assistant", "content": USES}, {"role": "user", "content": results}]
    told = [each["content"] for each in sent("anthropic", {**MESSAGES, "messages": turns}, OPENAI)["messages"][2:]]
    assert told[:3] == ["Error: no such file", "Error: no such file", "Error: "]
    assert [part["type"] for part in told[3]] == ["text", "image_url"]
    assert told[3][0]["text"] == "Error: "


def test_calls_made_at_once_stay_one_turn_when_reasoning_stands_between() -> None:
    """The target would refuse a call whose result does not follow at once."""
    calls = [{"type": "function_call", "call_id": f"t{n}", "name": "look", "arguments": "{}"} for n in (1, 2)]
    results = [{"type": "function_call_output", "call_id": f"t{n}", "output": "x"} for n in (1, 2)]
    items = [{"role": "user", "content": "?"}, calls[0], {"type": "reasoning", "summary": []}, calls[1], *results]
    turns = sent("openai-responses", {**RESPONSES, "input": items}, ANTHROPIC)["messages"]
    assert [len(turn["content"]) for turn in turns[1:]] == [2, 2]


def test_an_image_in_a_tools_result_is_kept() -> None:
    """The model would answer about a picture that it has not seen."""
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    output = [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]
    items = [
        {"type": "function_call", "call_id": "t1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "t1", "output": output},
    ]
    turns = sent("openai-responses", {**RESPONSES, "input": items}, ANTHROPIC)["messages"]
    assert turns[1]["content"][0]["content"] == [{"type": "image", "source": source}]


def test_one_tool_call_at_a_time_is_asked_for_in_each_format() -> None:
    """A program that runs one tool at a time would be given several."""
    tools = [{"name": "look", "input_schema": SCHEMA}]
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    asked = sent("anthropic", {**MESSAGES, "tools": tools, "tool_choice": choice}, OPENAI)
    assert asked["parallel_tool_calls"] is False
    functions = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]
    back = sent("openai", {**CHAT, "tools": functions, "parallel_tool_calls": False}, ANTHROPIC)
    assert back["tool_choice"] == choice


def test_values_that_say_nothing_are_no_obstacle() -> None:
    """Clients that always send their defaults could use no model of another format."""
    usual = {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "n": 1}
    assert sent("openai", {**CHAT, **usual, "response_format": {"type": "text"}}, ANTHROPIC)["messages"] == TEXT


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        ({"background": True}, "background"),
        ({"top_logprobs": 2}, "logprobs"),
    ],
)
def test_what_would_be_lost_is_refused(more: dict[str, Any], named: str) -> None:
    """A program would get an answer to another question than it asked."""

    async def main(client: Client) -> None:
        with pytest.raises(InvalidRequest, match=named):
            await answered(client, call("openai-responses", {**RESPONSES, **more}, ANTHROPIC))

    run(Server(message([{"type": "text", "text": "ham"}])), main)


@pytest.mark.parametrize(
    ("block", "named"),
    [
        ({"type": "document", "source": {"type": "text", "data": "a"}, "citations": {"enabled": True}}, "document"),
        ({"type": "image", "source": 5}, "image"),
        ({"type": "image", "source": {"type": "hologram", "data": "a"}}, "image"),
        ({"type": "search_result", "content": []}, "search_result"),
    ],
)
def test_a_block_that_would_be_lost_is_refused(block: dict[str, Any], named: str) -> None:
    """A model would answer about a picture that it has not seen, or without the citations that were asked for."""

    async def main(client: Client) -> None:
        turns = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, block]}]
        with pytest.raises(InvalidRequest, match=named):
            await answered(client, call("anthropic", {**MESSAGES, "messages": turns}, GEMINI))

    run(Server(chat({"content": "ham"})), main)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_routes_fallback_is_asked_when_the_model_declines(dialect: str) -> None:
    """A program would get a refusal, though its route names a model for that; or nothing, if that one declines too."""
    declines, agrees = chat({"content": "So"}, "content_filter"), message([{"type": "text", "text": "ham"}])
    route = {"careful": {"targets": [OPENAI], "fallback": {"refusal": ANTHROPIC}}}

    def text(*answers: Any) -> str:
        server, data = Server(*answers), CHAT if dialect == "openai" else MESSAGES
        got = run(server, lambda client: answered(client, call(dialect, data, "careful")), routes=route)
        assert len(server.requests) == 2
        told = json.loads(got.body)
        return str(told["choices"][0]["message"]["content"] if dialect == "openai" else told["content"][0]["text"])

    assert text(declines, agrees) == "ham"
    assert text(declines, message([{"type": "text", "text": "No"}], "refusal")) == "No"


ANTHROPIC_DECLINES: Any = [
    event({"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}),
    event({"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {"output_tokens": 3}}),
    event({"type": "message_stop"}),
]
SAYS_HAM: Any = [
    event({"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}),
    event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ham"}}),
    event({"type": "content_block_stop", "index": 0}),
    event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}),
    event({"type": "message_stop"}),
]


@pytest.mark.parametrize(("dialect", "data"), [("openai", CHAT), ("anthropic", MESSAGES)])
def test_a_routes_fallback_streams_if_the_model_declines_before_it_has_said_anything(
    dialect: str, data: dict[str, Any]
) -> None:
    """A program that streams would get a refusal, though its route names a model for that."""
    route = {"careful": {"targets": [OPENAI], "fallback": {"refusal": ANTHROPIC}}}

    def told(*answers: Any) -> tuple[int, bytes]:
        server = Server(*answers)
        asked = call(dialect, {**data, "stream": True}, "careful")
        return run(server, lambda client: answered(client, asked), routes=route), len(server.requests)

    for declines in (chunks({"role": "assistant"}, finish="content_filter"), chunks({"refusal": "No."})):
        got, requests = told(declines, SAYS_HAM)
        assert requests == 2
        assert b"ham" in got.body
        assert b"No." not in got.body
    got, requests = told(chunks({"role": "assistant"}, finish="content_filter"), ANTHROPIC_DECLINES)
    assert (got.status, requests) == (200, 2)
    last = events(got.body)[-1] if dialect == "openai" else events(got.body)[-2]["delta"]
    assert (last["choices"][0]["finish_reason"] if dialect == "openai" else last["stop_reason"]) in (
        "content_filter",
        "refusal",
    )
    got, requests = told(chunks({"content": "So"}, finish="content_filter"), SAYS_HAM)
    assert requests == 1
    assert b"So" in got.body


def test_a_stream_names_the_model_as_a_whole_answer_does() -> None:
    """A client would learn the address of a server of one's own, and know two names for one model."""
    streamed = got("anthropic", {**MESSAGES, "stream": True}, OPENAI, chunks({"content": "ham"}))
    assert events(streamed.body)[0]["message"]["model"] == OPENAI.partition("/")[2]


def test_ends_are_told_in_the_words_of_the_format() -> None:
    """A client would read a tool call as the end of the conversation, or a refusal as an answer."""
    asked = got("anthropic", MESSAGES, OPENAI, chat({"tool_calls": CALLS}))
    assert json.loads(asked.body)["stop_reason"] == "tool_use"
    declined = got("openai", CHAT, ANTHROPIC, message([{"type": "text", "text": "So"}], "refusal"))
    assert json.loads(declined.body)["choices"][0]["finish_reason"] == "content_filter"
    filtered = got("anthropic", MESSAGES, OPENAI, chat({"content": "So"}, "content_filter"))
    assert json.loads(filtered.body)["stop_reason"] == "refusal"
    assert filtered.headers["content-type"] == "application/json"
