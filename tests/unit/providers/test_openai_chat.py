"""Chat completions: what goes out, and what every kind of answer becomes."""

from __future__ import annotations

import json
import math
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from flatout import errors
from flatout.errors import CallError, ConfigError, InvalidRequest
from flatout.layer import Request, Response
from flatout.providers import codec_for, registry
from flatout.values import Call, Endpoint, Reply, Target, Usage
from flatout.values.secret import Secret

KEY = "sk-test-0123456789abcdef"
OPENAI = msgspec.structs.replace(registry.find("openai"), api_key=Secret(KEY))
CODEC = codec_for(Target(OPENAI, "gpt-5-mini"))
PLAIN = Call("hello")


class City(BaseModel):
    name: str


def sent(call: Call, endpoint: Endpoint = OPENAI) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(codec_for(Target(endpoint, "gpt-5-mini")).encode(call).body)
    return body


def request(**changes: Any) -> Request:
    return codec_for(Target(msgspec.structs.replace(OPENAI, **changes), "gpt-5-mini")).encode(PLAIN)


def answer(message: Any = None, finish_reason: Any = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **(message or {})}, "finish_reason": finish_reason}
    return {
        "model": "gpt-5-mini-2025",
        "choices": [choice],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3},
        **more,
    }


def decoded(body: Any, call: Call = PLAIN, status: int = 200) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return CODEC.decode(call, Response(status, {"x-request-id": "req_1"}, raw))


def failed(body: Any, call: Call = PLAIN) -> CallError:
    with pytest.raises(CallError) as caught:
        decoded(body, call)
    return caught.value


# -- requests


def test_a_whole_call() -> None:
    """A parameter would be dropped, or sent under a name that the provider does not know."""
    tool = {"type": "function", "function": {"name": "f"}}
    call = Call(
        "hi", system="be kind", max_tokens=50, temperature=0.5, top_p=0.9, stop=["a"], seed=0, logprobs=3,
        reasoning_effort="low", service_tier="flex", output=City, tools=[tool], tool_choice="auto",
        extra={"user": "u", "temperature": 0.7}, id="mine", metadata={"a": 1}, timeout=3, model="openai/gpt-5-mini",
    )  # fmt: skip
    body = sent(call)
    assert body.pop("response_format")["json_schema"]["name"] == "City"
    assert body == {
        "model": "gpt-5-mini",
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
        "max_completion_tokens": 50, "temperature": 0.7, "top_p": 0.9, "stop": ["a"], "seed": 0, "logprobs": True,
        "top_logprobs": 3, "reasoning_effort": "low", "service_tier": "flex", "tools": [tool], "tool_choice": "auto",
        "user": "u",
    }  # fmt: skip
    assert sent(PLAIN) == {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello"}]}
    assert sent(Call("x", logprobs=True))["logprobs"] is True
    assert "logprobs" not in sent(Call("x", logprobs=False))
    assert sent(Call("x", max_tokens=5), registry.find("vllm"))["max_tokens"] == 5


def test_headers_and_address() -> None:
    """The provider would not know who is calling, or be called at a wrong address."""
    plain = request()
    assert (plain.method, plain.url) == ("POST", "https://api.openai.com/v1/chat/completions")
    assert plain.headers["authorization"] == f"Bearer {KEY}"
    assert plain.headers["content-type"] == "application/json"
    assert plain.headers["user-agent"].startswith("flatout")
    other = request(
        key_header="api-key",
        headers={"X-Title": "mine"},
        query={"api-version": "2024 10"},
        base_url="https://a/v1/?b=1",
    )
    assert other.url == "https://a/v1/chat/completions?b=1&api-version=2024+10"
    assert (other.headers["api-key"], other.headers["x-title"]) == (KEY, "mine")
    assert "authorization" not in other.headers
    assert "authorization" not in request(api_key=None).headers
    assert CODEC.encode(PLAIN).headers is CODEC.encode(PLAIN).headers
    assert KEY not in repr(plain)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://r.openai.azure.com/", "https://r.openai.azure.com/openai/v1/chat/completions"),
        ("https://r.openai.azure.com/openai/v1/", "https://r.openai.azure.com/openai/v1/chat/completions"),
        (
            "https://r.openai.azure.com/openai/deployments/{model}?api-version=2024-10-21",
            "https://r.openai.azure.com/openai/deployments/gpt-5-mini/chat/completions?api-version=2024-10-21",
        ),
        ("https://x/v1/chat/completions", "https://x/v1/chat/completions"),
    ],
)
def test_both_styles_of_azure_are_reached(base_url: str, url: str) -> None:
    """Users of one of Azure's two kinds of address would get a 404."""
    assert request(base_url=base_url).url == url


@pytest.mark.parametrize("key", [KEY + "\n", "schlüssel-123456", "sk-a\r\nx-evil: 1"])
def test_a_key_that_no_header_can_carry_is_refused_untold(key: str) -> None:
    """A pasted line break would fail each call in the HTTP client, with the key in the message, or smuggle a header."""
    with pytest.raises(ConfigError) as caught:
        request(api_key=Secret(key))
    assert key.strip() not in str(caught.value)


def test_the_endpoints_system_prompt_is_only_a_default() -> None:
    """The embedded model answers gibberish without one; a user's own must win."""
    endpoint = msgspec.structs.replace(OPENAI, system="default")
    assert sent(PLAIN, endpoint)["messages"][0] == {"role": "system", "content": "default"}
    assert sent(Call("x", system="own"), endpoint)["messages"][0]["content"] == "own"
    for role in ("system", "developer"):
        messages = [{"role": role, "content": "own"}, {"role": "user", "content": "x"}]
        assert sent(Call(messages=messages), endpoint)["messages"] == messages


def test_a_split_character_is_joined() -> None:
    """An emoji that some decoder left in two halves would be lost."""
    body = sent(Call("a \ud83d\ude00", extra={"us\ud83d\ude00er": ("\ud83d\ude00",)}))
    assert body["messages"][0]["content"] == "a 😀"
    assert body["us😀er"] == ["😀"]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (Call("x", temperature=math.nan), "temperature"),
        (Call("x", top_p=math.inf), "top_p"),
        (Call("x", extra={"penalty": {"a": [None, -math.inf]}}), "penalty"),
        (Call(messages=[{"role": "user", "content": math.nan}]), "messages"),
        (Call("x\ud83d\ude00", temperature=math.nan), "temperature"),
        (Call("x\ud800"), "messages holds half of a surrogate pair"),
        (Call("x", extra={"user": ["\udc00"]}), "user holds half"),
        (Call("x", extra={"what": object()}), "what"),
        (Call("x", seed=10**5000), "seed"),
        (Call("x", tool_choice={(1, 2): 3}), "tool_choice"),
        (Call("x", extra={"stream": True}), "extra.stream"),
        (Call("x", tools=[print]), "tools"),
        (Call("x", tools="abc"), "tools"),
        (Call("x", extra={1: 2}), "extra"),  # type: ignore[dict-item]  # likewise
        (Call("x", output=7), "output"),
    ],
)
def test_what_cannot_be_sent_is_named(call: Call, named: str) -> None:
    """NaN would be sent as null without a word, and a wrong parameter would have to be guessed."""
    with pytest.raises(InvalidRequest, match=rf"^{named}\b"):
        CODEC.encode(call)


def test_nesting_without_end_is_named() -> None:
    """A structure that holds itself would crash the run."""
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = None
    for _ in range(600):  # msgspec still takes it
        deep = [deep]
    deeper = deep
    for _ in range(3_000):
        deeper = [deeper]
    for value in (loop, deep, deeper):
        with pytest.raises(InvalidRequest, match=r"^odd is nested"):
            CODEC.encode(Call("x", extra={"odd": value}))


def test_mappings_and_subclasses_are_sent() -> None:
    """Numbers of numpy and read-only mappings would be refused."""

    class Text(str):
        __slots__ = ()

    class Number(float):
        __slots__ = ()

    call = Call(Text("hi"), temperature=Number(0.5), extra={"a": MappingProxyType({"b": (1, 2)}), "n": None})
    body = sent(call)
    assert (body["messages"][0]["content"], body["temperature"], body["a"], body["n"]) == (
        "hi",
        0.5,
        {"b": [1, 2]},
        None,
    )
    with pytest.raises(InvalidRequest, match="temperature"):
        CODEC.encode(Call("x", temperature=Number("nan")))


# -- answers


def test_a_plain_answer() -> None:
    """The answer, its tokens or its model would be wrong."""
    body = answer({"content": "Hi!", "refusal": None}, error=None)
    body["usage"] |= {
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    reply = decoded(b"\n\n \n" + json.dumps(body).encode())
    assert (reply.text, reply.finish_reason, reply.model, reply.request_id) == (
        "Hi!",
        "stop",
        "gpt-5-mini-2025",
        "req_1",
    )
    assert reply.usage == Usage(input_tokens=9, output_tokens=3, cached_tokens=4, reasoning_tokens=2)
    assert reply.raw == body


def test_parts_are_joined() -> None:
    """Answers of models that reason in the open would be empty."""
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}, "b", 5]
    assert decoded(answer({"content": parts})).text == "ab"


def test_tool_calls() -> None:
    """An agent would not see what the model asks for."""
    asked = [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"function": {"name": "g", "arguments": {"b": 2}}},
        {"id": "c3", "type": "custom", "custom": {"name": "h", "input": "text"}},
        {"function": {"arguments": "{}"}},
        7,
    ]
    calls = decoded(answer({"content": None, "tool_calls": asked}, "tool_calls")).tool_calls
    assert [(c.id, c.name, c.arguments) for c in calls] == [
        ("c1", "f", '{"a": 1}'),
        ("call_1", "g", '{"b":2}'),
        ("c3", "h", "text"),
    ]
    legacy = decoded(answer({"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call"))
    assert legacy.tool_calls[0].name == "f"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ([], Usage()),
        ({"prompt_tokens": -1, "completion_tokens": "7"}, Usage()),
        ({"prompt_tokens": True, "completion_tokens": 1e300}, Usage()),
        ({"prompt_tokens": 3.0, "completion_tokens": 2.5}, Usage(input_tokens=3)),
        ({"prompt_tokens": 3, "prompt_tokens_details": 5}, Usage(input_tokens=3)),
        ({"prompt_tokens": 3, "prompt_cache_hit_tokens": 2}, Usage(input_tokens=3, cached_tokens=2)),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3}},
            Usage(input_tokens=9, cached_tokens=4, cache_write_tokens=3),
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "total_tokens": 17,
                "completion_tokens_details": {"reasoning_tokens": 10},
            },
            Usage(input_tokens=5, output_tokens=12, reasoning_tokens=10),
        ),
    ],
)
def test_usage_is_known_or_unknown_never_wrong(usage: Any, expected: Usage) -> None:
    """A garbled count would become a wrong bill."""
    assert decoded(answer({"content": "x"}, usage=usage)).usage == expected


SCHEMA = Call("x", output={"type": "object"})


@pytest.mark.parametrize(
    ("body", "call", "kind"),
    [
        (answer({"content": None}), PLAIN, errors.EmptyAnswer),
        (answer({"content": " \n\t"}), PLAIN, errors.EmptyAnswer),
        (answer({"content": ""}, None), PLAIN, errors.EmptyAnswer),
        (answer({"content": None, "reasoning_content": "hm"}), PLAIN, errors.EmptyAnswer),
        (answer({"content": None, "reasoning_content": "hm"}, "length"), PLAIN, errors.Truncated),
        (answer({"content": ""}, "length"), PLAIN, errors.Truncated),
        (answer({"content": '{"a'}, "length"), SCHEMA, errors.Truncated),
        (
            answer({"content": "ok", "tool_calls": [{"function": {"name": "f", "arguments": '{"a'}}]}, "length"),
            PLAIN,
            errors.Truncated,
        ),
        (answer({"content": None, "refusal": "I cannot"}), PLAIN, errors.Refused),
        (answer({"content": [{"type": "refusal", "refusal": "I cannot"}]}), PLAIN, errors.Refused),
        (answer({"content": "half"}, "content_filter"), PLAIN, errors.ContentFiltered),
        (answer({"content": None}, "content_filter"), PLAIN, errors.ContentFiltered),
        (answer({"content": "half"}, "insufficient_system_resource"), PLAIN, errors.Overloaded),
        (answer({"content": "half"}, "error"), PLAIN, errors.ServerError),
    ],
)
def test_an_unusable_answer_keeps_its_bill(body: Any, call: Call, kind: type[CallError]) -> None:
    """An empty, cut or refused answer would pass for a good one, or its cost be forgotten."""
    error = failed(body, call)
    assert type(error) is kind
    assert error.reply is not None
    assert error.reply.usage == Usage(input_tokens=9, output_tokens=3)
    assert (error.status, error.request_id) == (200, "req_1")


def test_a_long_answer_is_kept_where_half_is_of_use() -> None:
    """Text cut at max_tokens would be thrown away although the user asked for no more."""
    reply = decoded(answer({"content": "once upon"}, "length"))
    assert (reply.text, reply.finish_reason) == ("once upon", "length")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"code": 429, "message": "slow"}}, errors.RateLimited),
        ({"error": {"code": 402, "message": "Insufficient credits"}}, errors.QuotaExhausted),
        ({"error": {"code": 502, "message": "upstream"}}, errors.ServerError),
        ({"error": {"type": "invalid_request_error", "message": "no"}}, errors.InvalidRequest),
        ({"error": {"code": "insufficient_quota"}}, errors.QuotaExhausted),
        ({"error": "boom"}, errors.ServerError),
        ({"object": "error", "message": "no", "code": 400}, errors.InvalidRequest),
        ({"type": "error", "error": {"type": "overloaded_error"}}, errors.Overloaded),
        (answer({"content": "half"}, error={"code": 503, "message": "gone"}), errors.Overloaded),
        ({"choices": [{"error": {"code": 503, "message": "gone"}, "message": {"content": "ha"}}]}, errors.Overloaded),
        ({"choices": []}, errors.EmptyAnswer),
        ({"choices": None}, errors.EmptyAnswer),
        ({"choices": [5]}, errors.EmptyAnswer),
        ({"id": "x"}, errors.ProtocolError),
        ([1], errors.ProtocolError),
        (b"", errors.ProtocolError),
        (b'{"choices": [{"message": {"content": "ha', errors.ProtocolError),
        (b"<html>login</html>", errors.ProtocolError),
        (b"[" * 100_000, errors.ProtocolError),
    ],
)
def test_a_200_is_not_yet_an_answer(body: Any, kind: type[CallError]) -> None:
    """An error under a 200 would pass for an empty answer."""
    assert type(failed(body)) is kind


def test_an_unpaid_error_has_no_reply() -> None:
    """A throttle under a 200 would be booked as a call of unknown cost."""
    assert failed({"error": {"code": 429, "message": "slow"}}).reply is None


def test_a_slightly_wrong_json_is_still_an_answer() -> None:
    """A whole answer, paid for, would be lost over a lone surrogate, a byte order mark or vLLM's NaN."""
    body = json.dumps(answer({"content": "XX"})).encode()
    assert decoded(body.replace(b"XX", b"a\\ud800b")).text == "a\ufffdb"
    assert decoded(b"\xef\xbb\xbf" + body).text == "XX"
    odd = decoded(body.replace(b'"index": 0', b'"logprobs": [NaN, -Infinity, 1e999]'))
    assert (odd.text, odd.raw["choices"][0]["logprobs"]) == ("XX", [None, None, None])
    msgspec.json.encode(decoded(body.replace(b"XX", b"\\ud800x")).raw)


# -- what must always hold

texts = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates too
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=5) | st.just(object()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(texts | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)
OPTIONS = (
    "system max_tokens temperature top_p stop seed logprobs reasoning_effort service_tier output tools tool_choice"
)


@settings(max_examples=200)
@given(
    prompt=texts,
    fields=st.dictionaries(st.sampled_from([*OPTIONS.split(), "extra"]), anything, max_size=4),
    messages=st.none() | anything.filter(lambda value: value is not None),
)
def test_any_call_is_encoded_or_refused(prompt: str, fields: dict[str, Any], messages: Any) -> None:
    """One odd row would crash a run of millions."""
    try:
        call = Call(prompt, **fields) if messages is None else Call(messages=messages, **fields)
        request = CODEC.encode(call)
    except (ConfigError, InvalidRequest):
        return
    assert isinstance(json.loads(request.body), dict)


NAMES = (
    "choices message content text refusal finish_reason tool_calls function function_call name arguments"
    " error code type object usage prompt_tokens"
)
scalars = st.none() | st.booleans() | st.integers(-5, 600) | st.floats(allow_nan=False)
wire = st.recursive(
    scalars | st.sampled_from(["", " ", "text", "stop", "error"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=5),
    max_leaves=15,
)
shaped = st.builds(
    lambda message, reason, error, usage: {
        "choices": [{"message": message, "finish_reason": reason}], "error": error, "usage": usage
    },
    st.fixed_dictionaries({"content": wire}, optional={"tool_calls": wire, "refusal": wire, "function_call": wire}),
    st.sampled_from(["stop", "length", "content_filter", "tool_calls", None, 5]),
    st.none() | wire,
    wire,
)  # fmt: skip


@settings(max_examples=300)
@given(
    body=st.binary(max_size=40) | wire.map(msgspec.json.encode) | shaped.map(msgspec.json.encode),
    status=st.sampled_from([200, 200, 200, 201, 302, 400, 404, 429, 500, 999]),
    call=st.sampled_from([PLAIN, SCHEMA]),
)
def test_any_answer_is_a_reply_or_an_error(body: bytes, status: int, call: Call) -> None:
    """A silent empty answer would be taken for the model's, and a surprise would crash the run."""
    try:
        reply = CODEC.decode(call, Response(status, {}, body))
    except (errors.ProviderError, errors.OutputError, errors.ProtocolError):
        return
    assert 200 <= status < 300
    assert reply.text.strip() or reply.tool_calls
    assert isinstance(reply.text, str)
    msgspec.json.encode(reply)
