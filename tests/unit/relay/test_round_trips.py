"""What is written in a format reads as the same again, whatever it is."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.layer import Response
from flatout.providers import codec_for
from flatout.providers.relay import Origin, inbound_for
from flatout.values import Call, Endpoint, Reply, Target, ToolCall, Usage

DIALECTS = ("openai", "openai-responses", "anthropic")
each_dialect = pytest.mark.parametrize("dialect", DIALECTS)

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
words = texts.filter(str.strip)
names = st.from_regex(r"[a-z][a-z0-9_]{0,15}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(names, values, max_size=3)
tool_calls = st.lists(
    st.builds(lambda name, given: ToolCall(id="", name=name, arguments=json.dumps(given)), names, arguments),
    max_size=3,
).map(
    lambda calls: tuple(
        ToolCall(id=f"call_{n}", name=each.name, arguments=each.arguments) for n, each in enumerate(calls)
    )
)
replies = st.builds(
    lambda text, calls, tokens, cut: Reply(
        text=text if text.strip() or calls else "ham",
        tool_calls=calls,
        finish_reason="length" if cut and not calls else "tool_calls" if calls else "stop",
        usage=Usage(input_tokens=tokens[0], output_tokens=tokens[1]),
    ),
    words | st.just(""),
    tool_calls,
    st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
    st.booleans(),
)


def target(dialect: str) -> Target:
    return Target(Endpoint(name="x", base_url="https://example.com/v1", dialect=dialect), "m")  # type: ignore[arg-type]


def meaning(reply: Reply[Any]) -> Any:
    """What an answer says."""
    asked = [(each.id, each.name, json.loads(each.arguments or "{}")) for each in reply.tool_calls]
    return reply.text, asked, reply.finish_reason, reply.usage.input_tokens, reply.usage.output_tokens


@each_dialect
@given(reply=replies)
def test_an_answer_reads_as_it_was_written(dialect: str, reply: Reply[Any]):
    """A client would get another answer than the model gave, in the format that it asked in."""
    body = inbound_for(dialect).write(reply, Origin("m", 1, "i"))
    assert meaning(codec_for(target(dialect)).decode(Call(""), Response(200, {}, body))) == meaning(reply)


@each_dialect
@given(reply=replies, cuts=st.lists(st.integers(0, 30), max_size=4), size=st.integers(1, 200))
def test_a_streamed_answer_reads_as_it_was_written(dialect: str, reply: Reply[Any], cuts: list[int], size: int):
    """The same, for a client that streams, wherever the text and the bytes are cut."""
    writer = inbound_for(dialect).writer(Origin("m", 1, "i", tells_usage=True))
    places = [0, *sorted(min(cut, len(reply.text)) for cut in cuts), len(reply.text)]
    pieces = [reply.text[begin:end] for begin, end in pairwise(places)]
    body = b"".join([*(writer.text(piece) for piece in pieces if piece), writer.end(reply)])
    decoder = codec_for(target(dialect)).stream_decoder(Call(""), {"content-type": "text/event-stream"})
    said = "".join(text for at in range(0, len(body), size) for text in decoder.feed(body[at : at + size]))
    assert decoder.complete
    assert said == reply.text
    assert meaning(decoder.reply()) == meaning(reply)


IMAGE = "data:image/png;base64,iVBORw0KGgo="
user_parts = st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, words)
    | st.just({"type": "image_url", "image_url": {"url": IMAGE}})
    | st.just({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
    min_size=1,
    max_size=3,
)
asking = st.builds(lambda content: {"role": "user", "content": content}, words | user_parts)


def turn_of(text: str, calls: tuple[ToolCall, ...], results: list[str]) -> list[dict[str, Any]]:
    """A turn of the model, and the results of its tool calls."""
    if not calls:
        return [{"role": "assistant", "content": text}]
    made = [{"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in calls]
    told = [{"role": "tool", "tool_call_id": c.id, "content": results[n % len(results)]} for n, c in enumerate(calls)]
    return [{"role": "assistant", "content": text, "tool_calls": made}, *told]


turns = st.builds(turn_of, words, tool_calls, st.lists(words, min_size=1, max_size=3))
conversations = st.builds(
    lambda first, rest: [first, *(message for turn, question in rest for message in (*turn, question))],
    asking,
    st.lists(st.tuples(turns, asking), max_size=2),
)
TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}
calls = st.builds(
    lambda messages, system, most, warmth, tools, stop: Call(
        messages=messages,
        **{} if system is None else {"system": system},
        max_tokens=most,
        temperature=warmth,
        tools=[TOOL] if tools else None,
        tool_choice=tools or None,
        stop=stop,
    ),
    conversations,
    st.none() | words,
    st.integers(1, 10**5),
    st.none() | st.sampled_from([0, 0.5, 1]),
    st.sampled_from(["", "auto", "required", "none"]),
    st.none() | st.just(["END"]),
)


@each_dialect
@given(call=calls)
@settings(max_examples=60)
def test_a_request_reads_as_it_was_written(dialect: str, call: Call[Any]):
    """A model would be asked something else than the client has asked in its format: without a picture, or a tool."""
    if dialect == "openai-responses":
        call = Call(**{name: getattr(call, name) for name in call.__struct_fields__ if name != "stop"})
    codec = codec_for(target(dialect))
    body = json.loads(codec.encode(call).body)
    read = inbound_for(dialect).read(json.loads(json.dumps(body)))
    extra = read.call.pop("extra")
    again = json.loads(codec.encode(Call(**read.call, model="x/m")).body)
    assert again == {name: value for name, value in body.items() if name not in extra}
    assert set(extra) <= {"store"}


@pytest.mark.parametrize("kind", [[], {}, 1, None])
@pytest.mark.parametrize(
    ("dialect", "turns"), [("anthropic", "messages"), ("openai-responses", "input"), ("openai", "messages")]
)
def test_a_part_of_a_kind_that_is_no_word_is_passed_on(dialect: str, turns: str, kind: Any):
    """A caller's mistake would be answered as an error of the gateway's own, and not in the provider's words."""
    parts = [{"type": kind}, {"type": "image", "source": {"type": kind}}]
    assert inbound_for(dialect).read({turns: [{"role": "user", "content": parts}]}).call["messages"]
