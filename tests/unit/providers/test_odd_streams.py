"""Streams as servers send them that are only like OpenAI's, Anthropic's or Google's: pieces that are odd, yet whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flatout import errors
from flatout.errors import CallError
from flatout.layer import Response
from flatout.providers import codec_for, registry
from flatout.values import Call, Reply, Target

MODELS = {
    "openai": "gpt-5-mini", "openai-responses": "gpt-5-mini", "anthropic": "claude-opus-5", "gemini": "gemini-3-pro",
}  # fmt: skip
CODECS = {name: codec_for(Target(registry.find(name), model)) for name, model in MODELS.items()}
DONE = b"data: [DONE]\n\n"
USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


def frames(*events: Any) -> bytes:
    return b"".join(e if isinstance(e, bytes) else b"data: " + json.dumps(e).encode() + b"\n\n" for e in events)


def decoded(*events: Any, name: str = "openai") -> Reply:
    decoder = CODECS[name].stream_decoder(Call("go"), {})
    decoder.feed(frames(*events))
    return decoder.reply()


def failed(*events: Any, name: str = "openai") -> CallError:
    with pytest.raises(CallError) as caught:
        decoded(*events, name=name)
    return caught.value


def piece(content: Any = None, reason: Any = None, index: Any = 0, **delta: Any) -> dict[str, Any]:
    said = {} if content is None else {"content": content}
    return {"choices": [{"index": index, "delta": {**said, **delta}, "finish_reason": reason}]}


def asked(**given: Any) -> dict[str, Any]:
    """A piece of a tool call: its ``index`` and ``id`` where they are given, its ``name`` and ``arguments``."""
    function = {name: given.pop(name) for name in ("name", "arguments") if name in given}
    return piece(tool_calls=[{**given, "function": function}])


def made(*pieces: dict[str, Any]) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in decoded(*pieces, piece(reason="tool_calls"), DONE).tool_calls]


TWICE = [("f", '{"a": 1}'), ("f", '{"a": 2}')]


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        pytest.param(
            [asked(index=0, id=f"c{a}", name="f", arguments=f'{{"a": {a}}}') for a in (1, 2)], TWICE, id="one index"
        ),
        pytest.param([asked(id=f"c{a}", name="f", arguments=f'{{"a": {a}}}') for a in (1, 2)], TWICE, id="no index"),
        pytest.param([asked(name="f", arguments=f'{{"a": {a}}}') for a in (1, 2)], TWICE, id="neither index nor id"),
        pytest.param(
            [
                asked(index=0, id="c1", name="f"), asked(index=0, arguments='{"a":'), asked(index=0, arguments=" 1}"),
                asked(index=0, id="c2", name="f"), asked(index=0, arguments='{"a":'), asked(index=0, arguments=" 2}"),
            ],
            TWICE, id="one index, in pieces",
        ),
        pytest.param(
            [piece(function_call=part) for part in ({"name": "f", "arguments": ""}, {"arguments": '{"a"'},
                                                    {"arguments": ": 1}"})],
            TWICE[:1], id="the only call, as it was written before there were several",
        ),
        pytest.param(
            [asked(name="f", arguments='{"a": 1}'), asked(name="g", arguments="{}")], [TWICE[0], ("g", "{}")],
            id="two tools without index or id",
        ),
        pytest.param(
            [
                asked(index=0, id="c1", name="f", arguments=""), asked(index=1, id="c2", name="f", arguments=""),
                asked(index=0, arguments='{"a": 1}'), asked(index=1, arguments='{"a": 2}'),
            ],
            TWICE, id="mixed, by index",
        ),
        pytest.param(
            [
                asked(index=0, id="c1", name="f", arguments=""), asked(index=0, name="f", arguments='{"a"'),
                asked(index=0, id="c1", name="f", arguments=": 1}"), asked(index=0, name="f", arguments=""),
            ],
            TWICE[:1], id="the name in each piece",
        ),
        pytest.param(
            [
                asked(index=0, id="x1", name="f", arguments=""), asked(index=0, id="x2", arguments='{"a"'),
                asked(index=0, id="x3", name=None, arguments=": 1}"),
            ],
            TWICE[:1], id="another id in each piece",
        ),
        pytest.param([asked(index=0, name="f", arguments={"a": 1})], [("f", '{"a":1}')], id="arguments as an object"),
    ],
)  # fmt: skip
def test_tool_calls_are_told_apart(pieces: list[dict[str, Any]], calls: list[tuple[str, str]]) -> None:
    """Two calls would become one whose arguments are no JSON, or a tool would be asked for whose name is doubled."""
    assert made(*pieces) == calls


@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("openai", [piece("Hi"), piece(reason="stop")]),
        ("openai", [piece("Hi"), piece(reason="stop"), USAGE]),
        (
            "anthropic",
            [
                {"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 1}}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            ],
        ),
    ],
)
def test_a_finished_answer_needs_no_last_frame(name: str, events: list[Any]) -> None:
    """Each answer of such a server would be thrown away, and paid for again until the attempts are used up."""
    assert decoded(*events, name=name).text == "Hi"
    assert isinstance(failed(*events[:-2], name=name), errors.ProtocolError)


def test_an_empty_reason_does_not_end_an_answer() -> None:
    """Half an answer would pass for a whole one where a server sends an empty reason with every piece."""
    assert isinstance(failed(piece("He", reason="")), errors.ProtocolError)


ERRORS = [
    {"object": "error", "message": "EngineDead", "code": 500},
    {"message": "EngineDead", "code": 500},
    {"detail": "EngineDead"},
    {"error": "EngineDead"},
    b'event: error\ndata: {"message": "EngineDead"}\n\n',
    b'event: error\ndata: {"msg": "x", "error": {"message": "EngineDead"}}\n\n',
    b"event: error\ndata: EngineDead\n\n",
]
BEGUN: dict[str, Any] = {
    "openai": piece("Hel"),
    "anthropic": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    "gemini": {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}]},
    "openai-responses": {"type": "response.output_text.delta", "delta": "Hel"},
}


@pytest.mark.parametrize("name", BEGUN)
@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_the_middle_is_an_error(name: str, error: Any) -> None:
    """Half an answer would be given out as a whole one, since a [DONE] follows all the same."""
    found = failed(BEGUN[name], error, DONE, name=name)
    assert isinstance(found, errors.ProviderError)
    assert "EngineDead" in str(found)
    assert found.reply is not None
    assert found.reply.text == "Hel"


def test_the_first_error_counts() -> None:
    """What follows of a broken stream would hide why it broke."""
    assert "first" in str(failed({"error": {"message": "first"}}, {"error": {"message": "then"}}))


@pytest.mark.parametrize("comment", [b"data: : keepalive\n\n", b"data::\n\n", b"data:\n\n", b": OPENROUTER\n\n"])
@pytest.mark.parametrize("name", BEGUN)
def test_signs_of_life_are_no_events(name: str, comment: bytes) -> None:
    """A server that says that it is alive would lose the answer by it."""
    end = {
        "openai": [piece(reason="stop")],
        "anthropic": [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}],
        "gemini": [{"candidates": [{"finishReason": "STOP"}]}],
        "openai-responses": [{"type": "response.completed", "response": {"status": "completed", "output": []}}],
    }
    assert decoded(comment, BEGUN[name], comment, *end[name], comment, name=name).text == "Hel"


def test_text_of_a_choice_without_a_number_counts() -> None:
    """The whole answer of a server that sends a null for the index would be empty."""
    assert decoded(piece("He", index=None), piece("llo", "stop", index=None), DONE).text == "Hello"
    assert decoded(piece("Hello", "stop"), piece("another", "stop", index=1), DONE).text == "Hello"


def test_what_stands_beside_the_text_is_kept() -> None:
    """Log probabilities, citations and reasoning would be lost only because the answer came in pieces."""

    def token(text: str, probability: float) -> dict[str, Any]:
        return {"token": text, "logprob": probability, "bytes": [1], "top_logprobs": []}

    def chunk(text: str, reason: str | None, *tokens: Any, **delta: Any) -> dict[str, Any]:
        made = piece(text, reason, **delta)
        beside = {"logprobs": {"content": list(tokens)}, "content_filter_results": {"hate": {"severity": "safe"}}}
        made["choices"][0].update(beside, stop_reason=None)
        return made

    citations = [{"type": "url_citation", "url_citation": {"url": f"https://a/{i}"}} for i in (1, 2)]
    reply = decoded(
        chunk("Hel", None, token("Hel", -0.1), reasoning_content="h", role="assistant"),
        chunk("lo", None, token("l", -0.2), token("o", -0.3), annotations=citations[:1], reasoning_content="m"),
        chunk("", "stop", annotations=citations[1:], role="assistant"),
        DONE,
    )
    choice = reply.raw["choices"][0]
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["Hel", "l", "o"]
    assert choice["content_filter_results"] == {"hate": {"severity": "safe"}}
    assert choice["message"] == {
        "role": "assistant", "content": "Hello", "reasoning_content": "hm", "annotations": citations,
    }  # fmt: skip
    assert reply.reasoning == "hm"


def test_content_in_parts_keeps_its_parts() -> None:
    """Mistral's thought would be lost on the way, and could not go back."""

    def thought(text: str) -> list[dict[str, Any]]:
        return [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]

    reply = decoded(piece(""), piece(thought("h")), piece(thought("m")), piece("Hel"), piece("lo", "stop"), DONE)
    assert (reply.text, reply.reasoning) == ("Hello", "hm")
    assert reply.message["native"]["turn"]["content"] == [*thought("hm"), {"type": "text", "text": "Hello"}]


def test_citations_of_anthropic_are_kept() -> None:
    """The sources of an answer would be lost, and a turn with searches could not go back."""
    citations = [{"type": "char_location", "cited_text": text} for text in ("a", "b")]
    reply = decoded(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "", "citations": []}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": citation}}
            for citation in citations
        ),
        {"type": "message_stop"},
        name="anthropic",
    )
    assert reply.raw["content"] == [{"type": "text", "text": "Hi", "citations": citations}]


def test_items_of_a_response_count_where_its_end_has_none() -> None:
    """A server whose last event comes without the output would seem to have said nothing."""
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    said = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
    reply = decoded(
        {"type": "response.output_item.done", "item": thought},
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": "response.output_item.done", "item": said},
        {"type": "response.completed", "response": {"status": "completed", "output": []}},
        name="openai-responses",
    )
    assert (reply.text, reply.reasoning) == ("Hi", "hm")


ANSWERS: dict[str, list[Any]] = {
    "openai": [piece("Hi"), piece(reason="stop"), USAGE, DONE],
    "anthropic": [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "message_stop"},
    ],
    "gemini": [{"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]}],
    "openai-responses": [
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": "response.completed", "response": {"status": "completed", "output": []}},
    ],
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("begin", [b"", b"\n", b": hello\n\n", b"event: message\n"])
def test_a_stream_that_was_not_asked_for_is_read(name: str, begin: bytes) -> None:
    """A server that always streams could not be used, though its answers are whole, and paid for."""
    body = begin + frames(*ANSWERS[name])
    assert CODECS[name].decode(Call("go"), Response(200, {}, body)).text == "Hi"
    with pytest.raises(errors.ProtocolError, match="before the end"):
        CODECS[name].decode(Call("go"), Response(200, {}, begin + frames(BEGUN[name])))


@pytest.mark.parametrize("around", [('{"a":', "}"), ("[", "]"), ('[{"a":', "}]"), ('{"a":[', "]}")])
def test_pieces_that_are_nested_without_end_are_taken(around: tuple[str, str]) -> None:
    """One field of a hostile server would end the run instead of the call."""
    deep = json.loads(around[0] * 300 + "1" + around[1] * 300)
    reply = decoded(piece("Hi", odd=deep), piece("!", "stop", odd=deep), DONE)
    assert reply.text == "Hi!"


def test_a_small_object_keeps_all_its_levels() -> None:
    """What stands deep in an answer would come out in pieces."""
    deep: Any = {"text": "x"}
    for _ in range(12):
        deep = {"a": [deep]}
    assert decoded(piece("Hi", "stop", odd=deep), DONE).raw["choices"][0]["message"]["odd"] == deep
