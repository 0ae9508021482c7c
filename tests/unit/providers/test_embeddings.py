"""Embeddings: packing, and vectors back in order."""

from __future__ import annotations

import base64
import itertools
import json
from array import array
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout import errors
from flatout.errors import CallError, ConfigError, InvalidRequest
from flatout.layer import Response
from flatout.providers import registry
from flatout.providers.formats.embeddings import CAPS, Batch, Caps, Embedded, embedding_codec, pack, tokens_at_most
from flatout.values import Target, Usage
from flatout.values.secret import Secret

OPENAI = embedding_codec(Target(registry.find("openai"), "text-embedding-3-small"))
GEMINI = embedding_codec(Target(registry.find("gemini"), "gemini-embedding-001"), dimensions=2)
TWO = Batch((4, 7), ("a", "b"))


def decoded(codec: Any, body: Any, status: int = 200, batch: Batch = TWO) -> Embedded:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer: Embedded = codec.decode(batch, Response(status, {"x-request-id": "req_1"}, raw))
    return answer


def vectors(answer: Embedded) -> list[tuple[int, list[float]]]:
    return [(embedding.index, embedding.vector.tolist()) for embedding in answer.embeddings]


def entry(index: int, vector: Any) -> dict[str, Any]:
    return {"object": "embedding", "index": index, "embedding": vector}


@given(
    sizes=st.lists(st.integers(0, 12), max_size=40),
    caps=st.builds(Caps, st.integers(1, 5), st.none() | st.integers(1, 20), st.none() | st.integers(1, 10)),
)
def test_batches_keep_within_the_caps(sizes: list[int], caps: Caps) -> None:
    """A request would be refused whole, or a text be lost or sent twice."""
    texts = ["x" * size for size in sizes]
    batches = list(pack(texts, caps, tokens=len))
    assert sorted(i for batch in batches for i in batch.indexes) == list(range(len(texts)))
    for batch in batches:
        assert [texts[index] for index in batch.indexes] == list(batch.texts)
        assert list(batch.indexes) == sorted(batch.indexes)
        assert 1 <= len(batch.texts) <= caps.texts
        if len(batch.texts) > 1:
            assert all(batch.texts)
            assert caps.tokens is None or sum(map(len, batch.texts)) <= caps.tokens
            assert caps.tokens_of_text is None or max(map(len, batch.texts)) <= caps.tokens_of_text


def test_few_requests_for_many_texts() -> None:
    """Ten thousand texts would take ten thousand requests."""
    assert [len(batch.texts) for batch in pack(["short text"] * 5_000, CAPS["openai"])] == [2048, 2048, 904]
    assert [len(batch.texts) for batch in pack(["short text"] * 250, CAPS["gemini"])] == [100, 100, 50]
    assert len(list(pack(["word " * 1_000] * 300, CAPS["openai"]))) == 3


def test_texts_are_read_as_they_are_needed() -> None:
    """A million texts would be held in memory at once."""
    endless = (f"text {i}" for i in itertools.count())
    assert next(pack(endless, CAPS["gemini"])).indexes == tuple(range(100))


def test_what_may_be_refused_goes_alone() -> None:
    """One text that is empty or too long would take two thousand others down with it."""
    batches = list(pack(["a", "", "x" * 40_000, "b"], CAPS["openai"]))
    assert [batch.indexes for batch in batches] == [(1,), (2,), (0, 3)]
    with pytest.raises(InvalidRequest, match="empty text"):
        OPENAI.encode(batches[0])
    mixed = pack(["a", 5, "b"], CAPS["openai"])  # type: ignore[list-item]  # rows of JSON are not typed
    assert [batch.indexes for batch in mixed] == [(1,), (0, 2)]


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_any_text_has_a_size(text: str) -> None:
    """A lone surrogate would end the run."""
    assert len(text) / 2 < tokens_at_most(text) <= 2 * len(text) + 1


def test_requests() -> None:
    """The provider would not understand the request, or be asked for slow and large text instead of numbers."""
    request = OPENAI.encode(TWO)
    assert request.url == "https://api.openai.com/v1/embeddings"
    assert json.loads(request.body) == {
        "model": "text-embedding-3-small", "input": ["a", "b"], "encoding_format": "base64",
    }  # fmt: skip
    own = embedding_codec(Target(registry.find("vllm"), "bge"), dimensions=64)
    assert json.loads(own.encode(TWO).body) == {"model": "bge", "input": ["a", "b"], "dimensions": 64}
    google = GEMINI.encode(TWO)
    base = "https://generativelanguage.googleapis.com/v1beta"
    assert google.url == f"{base}/models/gemini-embedding-001:batchEmbedContents"
    assert json.loads(google.body)["requests"][1] == {
        "model": "models/gemini-embedding-001", "content": {"parts": [{"text": "b"}]}, "outputDimensionality": 2,
    }  # fmt: skip
    keyed = msgspec.structs.replace(registry.find("gemini"), api_key=Secret("AIza0123456789"))
    assert embedding_codec(Target(keyed, "m")).encode(TWO).headers["x-goog-api-key"] == "AIza0123456789"
    with pytest.raises(ConfigError, match="anthropic has no embeddings"):
        embedding_codec(Target(registry.find("anthropic"), "claude"))


def test_vectors_come_back_in_order() -> None:
    """A text would be given another one's vector."""
    packed = base64.b64encode(array("f", [0.5, -2.0]).tobytes()).decode()
    body = {"data": [entry(1, [1.0, 2.0]), entry(0, packed)], "model": "m", "usage": {"prompt_tokens": 5}}
    answer = decoded(OPENAI, body)
    assert vectors(answer) == [(4, [0.5, -2.0]), (7, [1.0, 2.0])]
    assert (answer.model, answer.request_id) == ("m", "req_1")
    assert answer.usage == Usage(input_tokens=5, output_tokens=0)
    google = {"embeddings": [{"values": [1, 2]}, {"values": [3, 4]}], "usageMetadata": {"promptTokenCount": 6}}
    answer = decoded(GEMINI, google)
    assert vectors(answer) == [(4, [1.0, 2.0]), (7, [3.0, 4.0])]
    assert answer.usage == Usage(input_tokens=6, output_tokens=0)


@pytest.mark.parametrize(
    "entries",
    [
        [], [entry(0, [1.0])], [entry(0, [1.0]), entry(0, [1.0])], [entry(0, [1.0]), entry(2, [1.0])],
        [entry(0, [1.0]), entry(1, [1.0, 2.0])], [entry(0, [1.0]), entry(1, "!!")], [entry(0, [1.0]), entry(1, None)],
        [entry(0, [1.0]), entry(1, ["x"])], [entry(0, []), entry(1, [])], [entry(0, [1.0]), entry(1, "AAA=")], [5, 6],
    ],
)  # fmt: skip
def test_a_vector_too_few_is_an_error(entries: list[Any]) -> None:
    """A missing vector would shift all that follow, or be filled with nothing."""
    with pytest.raises(errors.ProtocolError, match="did not send a complete vector for each of 2 texts"):
        decoded(OPENAI, {"data": entries})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"error": {"message": "slow", "code": "rate_limit_exceeded"}}, errors.RateLimited),
        (200, b"<html>", errors.ProtocolError),
        (200, [1], errors.ProtocolError),
        (400, {"error": {"message": "This model's maximum context length is 8192 tokens"}}, errors.ContextTooLong),
        (429, {"error": {"message": "slow", "code": "rate_limit_exceeded"}}, errors.RateLimited),
        (401, {"error": {"message": "bad key"}}, errors.AuthenticationError),
    ],
)
def test_failures_have_names(status: int, body: Any, kind: type[CallError]) -> None:
    """A failure would be taken for vectors, or not be tried again."""
    for codec in (OPENAI, GEMINI):
        with pytest.raises(CallError) as caught:
            decoded(codec, body, status)
        assert type(caught.value) is kind


wire = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["", "AAAA", "AAAAAA=="]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "index", "embedding", "embeddings", "values", "usage"]), inner)
    ),
    max_leaves=12,
)


@given(body=wire.map(msgspec.json.encode) | st.binary(max_size=20))
def test_any_answer_is_vectors_or_an_error(body: bytes) -> None:
    """A surprise would crash the run."""
    for codec in (OPENAI, GEMINI):
        try:
            answer = decoded(codec, body)
        except CallError:
            continue
        assert len(answer.embeddings) == 2
