"""A model's turn goes back as it was made, in all four wire formats, and to another provider as what that one takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flatout import errors
from flatout.layer import Response
from flatout.providers import codec_for, registry
from flatout.providers.formats.anthropic_turns import ANSWER_TOOL
from flatout.values import Call, Endpoint, Reply, Target

MODELS = {
    "deepseek": "deepseek-chat", "openai": "gpt-5-mini", "openai-responses": "gpt-5-mini",
    "anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-pro",
}  # fmt: skip
PLAIN = Call("go")
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALLED = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}


def codec(name: str) -> Any:
    return codec_for(Target(registry.find(name), MODELS[name]))


def decoded(name: str, body: dict[str, Any], call: Call = PLAIN) -> Reply:
    return codec(name).decode(call, Response(200, {}, json.dumps(body).encode()))


def streamed(name: str, *events: dict[str, Any], call: Call = PLAIN) -> Reply:
    decoder = codec(name).stream_decoder(call, {})
    for event in events:
        decoder.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    return decoder.reply()


def sent(name: str, *messages: Any, **more: Any) -> Any:
    """The conversation as a provider gets it."""
    call = Call(messages=[{"role": "user", "content": "go"}, *messages], **more)
    payload = json.loads(codec(name).encode(call).body)
    return next(payload[key] for key in ("messages", "input", "contents") if key in payload)


def chat(**message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": "stop"}], "usage": {}}


def deltas(*pieces: dict[str, Any]) -> list[dict[str, Any]]:
    made = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in pieces]
    return [*made, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]


def claude(*blocks: dict[str, Any], reason: str = "tool_use") -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    return {"type": "message", "content": list(blocks), "stop_reason": reason, "usage": usage}


def google(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP"}]}


def response(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"status": "completed", "output": list(items), **more}


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
USED = {"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}}
REDACTED = {"type": "redacted_thinking", "data": "x"}
SIGNED = {"functionCall": {"id": "c1", "name": "f", "args": {"x": 1}}, "thoughtSignature": "c2ln"}
HIDDEN = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
ITEM = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"x":1}'}

MADE: list[tuple[str, dict[str, Any], Any]] = [
    ("deepseek", chat(content="", reasoning_content="hm", tool_calls=[CALLED]),
     {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALLED]}),
    ("openai", chat(content=None, annotations=[], refusal=None,
                    tool_calls=[{**CALLED, "extra_content": {"google": {"thought_signature": "c2ln"}}}]),
     {"role": "assistant", "content": None,
      "tool_calls": [{**CALLED, "extra_content": {"google": {"thought_signature": "c2ln"}}}]}),
    ("openai", chat(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text",
                    "text": "Hi"}]),
     {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                                       {"type": "text", "text": "Hi"}]}),
    ("anthropic", claude(THOUGHT, REDACTED, {"type": "text", "text": ""}, USED), [THOUGHT, REDACTED, USED]),
    ("gemini", google({"text": "hm", "thought": True}, SIGNED), [{"text": "hm", "thought": True}, SIGNED]),
    ("openai-responses", response(HIDDEN, ITEM), [HIDDEN, ITEM]),
]  # fmt: skip


def turn_in(name: str, conversation: Any) -> Any:
    """The model's turn in a conversation that was sent."""
    if name == "openai-responses":
        return conversation[1:]
    return conversation[1].get("parts") if name == "gemini" else conversation[1].get("content") if name == "anthropic" \
        else conversation[1]  # fmt: skip


@pytest.mark.parametrize(("name", "body", "turn"), MADE)
def test_a_turn_goes_back_as_it_was_made(name: str, body: dict[str, Any], turn: Any) -> None:
    """The second turn of a model that reasons with tools would be refused, or it would have forgotten its thought."""
    reply = decoded(name, body)
    message = json.loads(json.dumps(reply.message))  # as a run file keeps it
    assert turn_in(name, sent(name, message)) == turn
    assert name == "openai" or reply.reasoning == "hm"


@pytest.mark.parametrize(("name", "body", "turn"), MADE)
@pytest.mark.parametrize("change", [{"content": "[a name]"}, {"tool_calls": [{**CALLED, "id": "c2"}]}])
def test_a_turn_that_was_changed_goes_back_as_it_was_changed(
    name: str, body: dict[str, Any], turn: Any, change: dict[str, Any]
) -> None:
    """What somebody took out of a conversation, a name or a call without result, would be sent all the same."""
    message = {**decoded(name, body).message, **change}
    written = {key: value for key, value in message.items() if key != "native"}
    assert sent(name, message) == sent(name, written) != sent(name, decoded(name, body).message)


@pytest.mark.parametrize(("name", "body", "turn"), MADE)
@pytest.mark.parametrize("other", MODELS)
def test_another_provider_gets_text_and_tool_calls(name: str, body: dict[str, Any], turn: Any, other: str) -> None:
    """A conversation that goes on elsewhere would be refused for a field or a signature that is unknown there."""
    if other == name:
        return
    reply = decoded(name, body)
    written = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        written = {"role": "assistant", "content": None, "tool_calls": [CALLED]}
    foreign = json.dumps(sent(other, {k: v for k, v in reply.message.items() if k != "tool_calls"}))
    assert not any(word in foreign for word in ("hm", "native", "c2ln", "rs_1"))
    if other != "gemini":  # which takes the signature of a single tool call, if there is one
        assert sent(other, reply.message) == sent(other, written)


def test_the_same_format_of_another_server_is_another_provider() -> None:
    """One server's name for the thought would be an unknown field to the next, and a request refused."""
    reply = decoded("deepseek", MADE[0][1])
    assert sent("openai", reply.message)[1] == {"role": "assistant", "content": None, "tool_calls": [CALLED]}
    moved = codec_for(Target(Endpoint(name="p", base_url="https://api.deepseek.com/beta"), "m"))
    again = json.loads(moved.encode(Call(messages=[{"role": "user", "content": "go"}, reply.message])).body)
    assert again["messages"][1]["reasoning_content"] == "hm"


STREAMED: dict[str, tuple[list[dict[str, Any]], Any]] = {
    "deepseek": (
        deltas(
            {"role": "assistant", "content": None, "reasoning_content": ""}, {"reasoning_content": "h"},
            {"reasoning_content": "m"},
            {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":1}'}}]},
        ),
        MADE[0][2],
    ),
    "openai": (
        deltas(
            {"content": "", "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "h"}]},
            {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "m"}]},
            {"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": "c2ln"}]},
            {"tool_calls": [{"index": 0, "extra_content": {"google": {"thought_signature": "c2ln"}}, **CALLED}]},
        ),
        {
            "role": "assistant", "content": None,
            "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "hm", "signature": "c2ln"}],
            "tool_calls": [{**CALLED, "extra_content": {"google": {"thought_signature": "c2ln"}}}],
        },
    ),
    "anthropic": (
        [
            {"type": "message_start", "message": claude(reason="")},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "h"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "m"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
            {"type": "content_block_start", "index": 1, "content_block": REDACTED},
            {"type": "content_block_start", "index": 2, "content_block": {**USED, "input": {}}},
            {"type": "content_block_delta", "index": 2, "delta": {"partial_json": '{"x":1}'}},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
            {"type": "message_stop"},
        ],
        [THOUGHT, REDACTED, USED],
    ),
    "gemini": (
        [
            google({"text": "h", "thought": True}), google({"text": "m", "thought": True}), google(SIGNED),
            google({"text": "", "thoughtSignature": "ZW5k"}),
        ],
        [{"text": "hm", "thought": True}, SIGNED, {"text": "", "thoughtSignature": "ZW5k"}],
    ),
    "openai-responses": (
        [{"type": "response.completed", "response": response(HIDDEN, ITEM)}],
        [HIDDEN, ITEM],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMED)
def test_a_turn_that_came_in_pieces_goes_back_as_it_was_made(name: str) -> None:
    """Only whole answers could be gone on with."""
    events, turn = STREAMED[name]
    reply = streamed(name, *events)
    assert reply.reasoning == "hm"
    assert turn_in(name, sent(name, reply.message)) == turn


def test_a_turn_of_text_and_tool_calls_alone_holds_nothing_else() -> None:
    """Every answer of a large run would be kept twice."""
    plain = [
        decoded("openai", chat(content="Hi", annotations=[], refusal=None, tool_calls=[])),
        decoded("openai", chat(content=None, tool_calls=[{**CALLED, "index": 0}])),
        decoded("anthropic", claude({"type": "text", "text": "Hi"}, USED)),
        decoded("gemini", google({"text": "Hi"})),
        decoded("openai-responses", response({"type": "message", "content": [{"type": "output_text", "text": "Hi"}]})),
    ]
    assert not any(reply.native for reply in plain)


MALFORMED: dict[str, Callable[[str], dict[str, Any]]] = {
    "deepseek": lambda text: chat(
        reasoning_content="hm", tool_calls=[{"id": "c1", "function": {"name": "f", "arguments": text}}]
    ),
    "anthropic": lambda text: claude(THOUGHT, {**USED, "input": text}),
    "openai-responses": lambda text: response(HIDDEN, {**ITEM, "arguments": text}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_arguments_of_no_use_are_left_out(name: str) -> None:
    """The re-ask after arguments that are no JSON would itself be refused."""
    reply = decoded(name, MALFORMED[name]('{"x": '))
    turn = json.dumps(turn_in(name, sent(name, reply.message)))
    assert '{\\"x' not in turn
    assert "hm" in turn


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("deepseek", chat(reasoning_content="hm", tool_calls=[{"function": {"name": "f", "arguments": "{}"}}])),
        ("gemini", google({"functionCall": {"name": "f"}, "thoughtSignature": "s"})),
        ("anthropic", claude(THOUGHT, {"type": "tool_use", "id": "not.an id", "name": "f", "input": {}})),
        ("openai-responses", response(HIDDEN, {**ITEM, "call_id": "not.an id"})),
    ],
)
def test_a_result_finds_its_tool_call(name: str, body: dict[str, Any]) -> None:
    """A tool's result would answer a call that the turn does not have."""
    reply = decoded(name, body)
    identity = reply.tool_calls[0].id
    made = sent(name, reply.message, {"role": "tool", "tool_call_id": identity, "content": "1"})
    text = json.dumps(made)
    named = {
        "deepseek": lambda: (made[1]["tool_calls"][0]["id"], made[2]["tool_call_id"]),
        "gemini": lambda: (made[1]["parts"][0]["functionCall"]["id"], made[2]["parts"][0]["functionResponse"]["id"]),
        "anthropic": lambda: (made[1]["content"][1]["id"], made[2]["content"][0]["tool_use_id"]),
        "openai-responses": lambda: (made[2]["call_id"], made[3]["call_id"]),
    }[name]()
    assert named[0] == named[1], text


def test_an_answer_by_a_tool_of_flatouts_own_goes_back_as_text() -> None:
    """The follow-up to an answer that does not fit would name a tool call that nobody answered."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "patternProperties": {"x": {}}}
    given = {"type": "tool_use", "id": "t", "name": ANSWER_TOOL, "input": {"a": 1}}
    reply = decoded("anthropic", claude(THOUGHT, given), Call("x", output=schema))
    assert reply.text == '{"a":1}'
    assert reply.finish_reason == "stop"
    assert sent("anthropic", reply.message)[1]["content"] == [THOUGHT, {"type": "text", "text": '{"a":1}'}]


def test_items_that_the_provider_did_not_keep_are_not_sent_by_their_ids() -> None:
    """With ``store: false`` every second turn would fail, because the items of the first are unknown."""
    lost = decoded("openai-responses", response(HIDDEN, ITEM, store=False))
    assert [item["type"] for item in turn_in("openai-responses", sent("openai-responses", lost.message))] == [
        "function_call"
    ]
    kept = {**HIDDEN, "encrypted_content": "gAAA"}
    held = decoded("openai-responses", response(kept, ITEM, store=False))
    assert sent("openai-responses", held.message)[1:] == [kept, ITEM]


def test_a_custom_tools_result_is_an_item_of_its_own_type() -> None:
    """The Responses API would not find the call that a free-text tool's result answers."""
    asked = {"type": "custom_tool_call", "id": "ct_1", "call_id": "c1", "name": "f", "input": "SELECT 1"}
    reply = decoded("openai-responses", response(HIDDEN, asked))
    made = sent("openai-responses", reply.message, {"role": "tool", "tool_call_id": "c1", "content": "1"})
    assert made[2:] == [asked, {"type": "custom_tool_call_output", "call_id": "c1", "output": "1"}]
    custom = {"id": "c1", "type": "custom", "custom": {"name": "f", "input": "SELECT 1"}}
    chatted = decoded("openai", chat(content=None, tool_calls=[custom]))
    assert sent("openai", chatted.message)[1]["tool_calls"] == [custom]


def test_a_thought_that_nothing_follows_does_not_go_back() -> None:
    """An answer that was cut off while thinking could not be gone on from: Anthropic and OpenAI refuse such a turn."""
    with pytest.raises(errors.Truncated) as cut:
        decoded("anthropic", claude(THOUGHT, reason="max_tokens"))
    assert "still reasoning" in str(cut.value)
    assert cut.value.reply is not None
    user = {"role": "user", "content": "on"}
    assert [turn["role"] for turn in sent("anthropic", cut.value.reply.message, user)] == ["user", "user"]
    part = {**response(HIDDEN), "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    with pytest.raises(errors.Truncated) as stopped:
        decoded("openai-responses", part)
    assert stopped.value.reply is not None
    assert len(sent("openai-responses", stopped.value.reply.message, user)) == 2


def test_results_for_a_turn_without_a_thought_are_not_thought_about() -> None:
    """A tool loop that began elsewhere, or without thinking, would be refused once thinking is asked for."""
    asked = {"role": "assistant", "content": None, "tool_calls": [CALLED]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "1"}
    user = {"role": "user", "content": "go"}

    def thinking(*messages: Any) -> Any:
        call = Call(messages=[user, *messages], tools=[TOOL], reasoning_effort="low")
        return json.loads(codec("anthropic").encode(call).body).get("thinking")

    assert thinking(asked, result) is None
    assert thinking(decoded("anthropic", claude(THOUGHT, USED)).message, result) is not None
    assert thinking() is not None


RESULTS: dict[str, list[Any]] = {
    "openai": [{"role": "tool", "tool_call_id": "c1", "content": "1"}],
    "anthropic": [{"role": "tool", "tool_call_id": "c1", "content": "1"}],
    "gemini": [{"role": "tool", "tool_call_id": "c1", "name": "f", "content": "1"}],
    "openai-responses": [{"type": "function_call_output", "call_id": "c1", "output": "1"}],
}
SILENT = {
    "openai": chat(content=""), "anthropic": claude(reason="end_turn"), "gemini": google(),
    "openai-responses": response(),
}  # fmt: skip


def test_claude_may_say_nothing_after_a_tools_result() -> None:
    """A finished run would be tried again, paid again, and failed: Anthropic documents such an end as normal."""
    after = Call(messages=[{"role": "user", "content": "go"}, *RESULTS["anthropic"]])
    assert decoded("anthropic", SILENT["anthropic"], after).text == ""
    with pytest.raises(errors.EmptyAnswer):
        decoded("anthropic", SILENT["anthropic"], PLAIN)
    with pytest.raises(errors.EmptyAnswer):
        decoded("anthropic", SILENT["anthropic"], Call(messages=after.messages, output={"type": "object"}))


@pytest.mark.parametrize("name", [name for name in SILENT if name != "anthropic"])
def test_nothing_after_a_tools_result_is_tried_again_elsewhere(name: str) -> None:
    """A glitch of the server would end an agent's run with an empty answer."""
    with pytest.raises(errors.EmptyAnswer):
        decoded(name, SILENT[name], Call(messages=[{"role": "user", "content": "go"}, *RESULTS[name]]))


def test_anthropics_own_form_of_a_result_counts_as_one() -> None:
    """Whoever writes messages as Anthropic does would get the error all the same."""
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "1"}]}
    assert decoded("anthropic", SILENT["anthropic"], Call(messages=[result])).text == ""


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("openai", chat(content=None, reasoning_content="hm")),
        ("openai", chat(content="", reasoning="hm")),
        ("anthropic", claude(THOUGHT, reason="end_turn")),
        ("gemini", google({"text": "hm", "thought": True})),
        ("openai-responses", response(HIDDEN)),
    ],
)
def test_reasoning_without_an_answer_is_named_as_such(name: str, body: dict[str, Any]) -> None:
    """A server whose reasoning parser swallows answers would look like a model that says nothing."""
    with pytest.raises(errors.EmptyAnswer, match="reasoning and no answer") as caught:
        decoded(name, body)
    assert caught.value.reply is not None
    assert caught.value.reply.reasoning == "hm"
