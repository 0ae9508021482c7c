from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import CallError
from flatout.layer import Response
from flatout.providers.formats.embeddings import Batch, embedding_codec
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedResponse, SimulatedTransport, run_virtual
from flatout.testing._vectors import vector_of
from flatout.values import Endpoint, Target

WALL = 1_767_225_600.0


def ask(model: ProviderModel, texts: Any, /, **fields: Any) -> SimulatedResponse:
    body = json.dumps({"model": "e", "input": texts, **fields}).encode()
    outcome = model.receive(0.0, WALL, body, embeddings=True)
    model.finish(0.0, outcome)
    return outcome


def vectors(outcome: SimulatedResponse) -> list[Any]:
    return [row["embedding"] for row in json.loads(outcome.body)["data"]]


def test_each_text_has_its_vector():
    """Nothing that embeds could be tested without a key."""
    answer = json.loads(ask(ProviderModel(), ["one", "two", "one"]).body)
    assert (answer["object"], answer["model"]) == ("list", "e")
    assert [row["index"] for row in answer["data"]] == [0, 1, 2]
    one, two, again = (row["embedding"] for row in answer["data"])
    assert one == again != two
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    assert vectors(ask(ProviderModel(seed=5), "one")) == [one]


@given(st.text(), st.integers(1, 300))
def test_vectors_have_length_one(text, dimensions):
    """Similarities would be nonsense."""
    vector = vector_of(text, dimensions)
    assert len(vector) == dimensions
    assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-5)


def test_the_length_of_vectors_is_what_was_asked_for():
    """Shortened vectors could not be tested."""
    assert len(vectors(ask(ProviderModel(), "one"))[0]) == 256
    assert len(vectors(ask(ProviderModel(ProviderSettings(embedding_dimensions=9)), "one"))[0]) == 9
    assert len(vectors(ask(ProviderModel(), "one", dimensions=3))[0]) == 3


@pytest.mark.parametrize("headers", ["", "openai"])
def test_both_encodings_are_what_the_library_reads(headers):
    """One of the two encodings would give other vectors for the same text."""
    endpoint = Endpoint(name="simulated", base_url="http://simulated/v1", limit_headers=headers)
    codec = embedding_codec(Target(endpoint, "e"), dimensions=8)
    batch = Batch((4, 7), ("one", "two"))

    async def main() -> Response:
        return await SimulatedTransport(ProviderModel()).send(codec.encode(batch))

    response = run_virtual(main())
    assert (b"[" in json.dumps(json.loads(response.body)["data"][0]["embedding"]).encode()) is (headers == "")
    embedded = codec.decode(batch, response)
    assert [(each.index, each.vector) for each in embedded.embeddings] == [
        (4, vector_of("one", 8)),
        (7, vector_of("two", 8)),
    ]
    assert embedded.usage.input_tokens == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"input": []},
        {"input": ["one", ""]},
        {"input": ""},
        {"input": ["one"] * 2049},
        {"input": 3},
        {"input": "one", "dimensions": 0},
        {"input": "one", "dimensions": 10**9},
        {"input": "one", "encoding_format": "odd"},
    ],
    ids=lambda fields: json.dumps(fields)[:40],
)
def test_a_bad_text_fails_the_whole_request(fields):
    """A client that packs a bad text with good ones would pass its tests."""
    body = json.dumps({"model": "e", **fields}).encode()
    assert ProviderModel().receive(0.0, WALL, body, embeddings=True).status == 400


def test_an_invalid_text_fails_whatever_it_is_packed_with():
    """A failure that belongs to one text would move to its neighbours."""
    model = ProviderModel(ProviderSettings(faults=Faults(invalid=0.2)))
    bad = [text for text in map(str, range(50)) if ask(model, text).status == 400]
    assert 2 < len(bad) < 25
    good = [text for text in map(str, range(50)) if text not in bad]
    assert ask(model, good).status == 200
    refused = ask(model, [*good, bad[0]])
    assert (refused.status, refused.kind) == (400, "invalid")


def test_limits_charge_a_request_and_its_tokens():
    """A client that floods with embeddings would pass its tests."""
    assert [ask(ProviderModel(ProviderSettings(context_tokens=3)), text).status for text in ("a", "a " * 9)] == [
        200,
        400,
    ]
    requests = ProviderModel(ProviderSettings(rpm=2, headers="openai"))
    outcomes = [ask(requests, ["a", "b", "c"]) for _ in range(3)]
    assert [each.status for each in outcomes] == [200, 200, 429]
    assert outcomes[0].headers["x-ratelimit-remaining-requests"] == "1"
    tokens = ProviderModel(ProviderSettings(tpm=100))
    assert [ask(tokens, "word " * 50).status for _ in range(2)] == [200, 429]
    keyed = ProviderModel(ProviderSettings(key="k", models=("e",)))
    assert ask(keyed, "a").status == 401
    assert ask(ProviderModel(ProviderSettings(models=("other",))), "a").status == 404


@pytest.mark.parametrize("fault", ["malformed", "empty", "late_error"])
def test_broken_answers_are_found_by_the_library(fault):
    """An answer without its vectors could not be played."""
    codec = embedding_codec(Target(Endpoint(name="simulated", base_url="http://simulated/v1"), "e"))
    batch = Batch((0,), ("one",))
    outcome = ask(ProviderModel(ProviderSettings(faults=Faults(**{fault: 1.0}))), ["one"])
    with pytest.raises(CallError):
        codec.decode(batch, Response(outcome.status, outcome.headers, outcome.body))


def test_stats_count_embeddings_as_answers():
    """A run that pays twice for its vectors would not be found out."""
    model = ProviderModel()
    for texts in (["a", "b"], ["a", "b"], ["b"]):
        ask(model, texts)
    stats = model.stats()
    assert (stats["answered"], stats["duplicates"], stats["output_tokens"]) == (3, 1, 0)
    assert stats["prompt_tokens"] > 0
