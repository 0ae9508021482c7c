from __future__ import annotations

import json
from enum import Enum
from random import Random
from typing import Any, Literal

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from flatout.errors import SchemaMismatch
from flatout.providers import codec_for
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedResponse, digest_of
from flatout.testing._schemas import BadSchema, fitting, misfitting
from flatout.values import Call, Endpoint, Reply, Target

WALL = 1_767_225_600.0
CODEC = codec_for(Target(Endpoint(name="simulated", base_url="http://simulated/v1"), "m"))


class Kind(Enum):
    HAM = "ham"
    SPAM = "spam"


class Node(BaseModel):
    name: str = Field(min_length=3, max_length=4)
    parent: Node | None = None
    children: list[Node] = []


class Verdict(BaseModel):
    kind: Kind
    sure: float = Field(gt=0, lt=1)
    stars: int = Field(ge=1, le=5)
    reasons: list[str] = Field(min_length=2)
    language: Literal["en", "cs"] | None
    tree: Node
    pair: tuple[int, str]
    tags: set[Literal["a", "b", "c"]]
    counts: dict[str, int]


def ask(model: ProviderModel, prompt: str = "hello", /, **fields: Any) -> SimulatedResponse:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **fields}
    outcome = model.receive(0.0, WALL, json.dumps(body).encode())
    model.finish(0.0, outcome)
    return outcome


def call(model: ProviderModel, asked: Call) -> Reply:
    """The whole way of the library's own call, without a wire."""
    outcome = model.receive(0.0, WALL, CODEC.encode(asked, stream=True).body)
    model.finish(0.0, outcome)
    assert outcome.pieces is not None, outcome.body
    decoder = CODEC.stream_decoder(asked, outcome.headers)
    for _, data in outcome.pieces:
        decoder.feed(data)
    return decoder.reply()


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def message_of(outcome: SimulatedResponse) -> dict[str, Any]:
    return json.loads(outcome.body)["choices"][0]["message"]


SCALARS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "minLength": 20, "maxLength": 21},
    {"type": "string", "maxLength": 0},
    {"type": "integer"},
    {"type": "integer", "minimum": 7, "exclusiveMaximum": 9},
    {"type": "integer", "exclusiveMinimum": -3, "maximum": -2},
    {"type": "integer", "minimum": 2**60 + 1, "maximum": 2**60 + 1},
    {"type": "integer", "minimum": 10, "maximum": 20, "multipleOf": 7},
    {"type": "integer", "maximum": -5},
    {"type": "number"},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    {"type": "number", "minimum": 0.1, "maximum": 2, "multipleOf": 0.5},
    {"type": "number", "minimum": 5, "maximum": 5},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["null", "integer"]},
    {"enum": ["a", 1, None]},
    {"const": {"x": [1]}},
    {"minimum": 1000},
    True,  # type: ignore[list-item] # a schema too
]
SCHEMAS = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: st.one_of(
        st.builds(lambda part: {"type": "array", "items": part}, inner),
        st.builds(
            lambda part, least: {"type": "array", "items": part, "minItems": least, "maxItems": 5},
            inner,
            st.integers(0, 5),
        ),
        st.builds(
            lambda parts: {"type": "array", "prefixItems": parts, "items": False},
            st.lists(inner, min_size=1, max_size=3),
        ),
        st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"allOf": [part]}, inner),
        st.builds(lambda part: {"type": "object", "additionalProperties": part, "minProperties": 2}, inner),
        st.builds(
            lambda parts: {
                "type": "object",
                "properties": parts,
                "required": sorted(parts)[::2],
                "additionalProperties": False,
            },
            st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
        ),
    ),
    max_leaves=8,
)


@given(SCHEMAS, st.integers(0, 1000))
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_made_up_fits_its_schema(schema, seed):
    """A sound client would fail its tests for answers that no provider gives."""
    try:
        value = fitting(schema, Random(seed))
    except BadSchema:
        return  # too large
    jsonschema_rs.validator_for(schema).validate(json.loads(json.dumps(value)))


REFERRING: list[dict[str, Any]] = [
    {"$defs": {"a/b": {"type": "integer"}}, "$ref": "#/$defs/a~1b", "minimum": 500},
    {
        "$defs": {"one": {"anyOf": [{"const": 1}]}},
        "properties": {"x": {"$ref": "#/$defs/one/anyOf/0"}},
        "required": ["x"],
    },
    {"properties": {"more": {"$ref": "#"}}, "additionalProperties": False, "type": "object"},
    {"type": "array", "items": {"$ref": "#"}},
    {"properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]},
    {"properties": {"next": {"$ref": "#"}}, "required": ["next"], "type": ["object", "null"]},
]


@pytest.mark.parametrize("schema", [*SCALARS, *REFERRING], ids=json.dumps)
def test_every_kind_of_value_can_be_made_up(schema):
    """A schema would be refused that a provider takes."""
    jsonschema_rs.validator_for(schema).validate(fitting(schema, Random(0)))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "odd"},
        {"enum": []},
        {"$ref": "#/$defs/none"},
        {"$ref": "http://elsewhere/schema"},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"anyOf": []},
        {"type": "object", "properties": 3},
        {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]},
        {"type": "object", "properties": {"x": False}, "required": ["x"]},
        {"type": "array", "items": {"type": "array", "minItems": 5000}, "minItems": 5000},
        {"type": "array", "items": {"const": 1}, "minItems": 2, "uniqueItems": True},
        {"type": "string", "minLength": 10**9},
        {"type": "string", "minLength": "3"},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "number", "minimum": 3, "maximum": 2},
    ],
    ids=json.dumps,
)
def test_a_schema_that_cannot_be_followed_is_a_bad_request(schema):
    """The simulator would end in a traceback, or never."""
    outcome = ask(ProviderModel(), response_format=form(schema))
    assert (outcome.status, outcome.kind) == (400, "bad_request")


def answer_as(kind: Any, model: ProviderModel, *turns: dict[str, str]) -> str:
    """The answer to a conversation that asks for a Python type; "" when it is not of the type."""
    adapter = TypeAdapter(kind)
    outcome = ask(model, messages=list(turns), response_format=form(adapter.json_schema()))
    try:
        adapter.validate_json(message_of(outcome)["content"])
    except ValidationError:
        return ""
    return str(message_of(outcome)["content"])


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize("kind", [Verdict, Node, Kind, list[int], Literal["ham", "spam"], dict[str, Node], int])
def test_a_python_type_can_be_asked_for(kind):
    """Structured answers could not be tested against the provider."""
    assert all(answer_as(kind, ProviderModel(), user(f"mail {number}")) for number in range(20))


def test_an_answer_to_a_schema_follows_from_its_prompt():
    """A resumed run would differ from one that was never interrupted."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 10**6}}}
    answers = [ask(ProviderModel(), prompt, response_format=form(schema)).body for prompt in ("a", "a", "b")]
    texts = [json.loads(answer)["choices"][0]["message"]["content"] for answer in answers]
    assert texts[0] == texts[1] != texts[2]
    assert json.loads(texts[0])["n"] > 0


def test_json_of_any_kind_and_plain_text():
    """JSON mode could not be tested, or would turn text into JSON."""
    free = message_of(ask(ProviderModel(), response_format={"type": "json_object"}))
    assert digest_of("hello") in json.loads(free["content"])["answer"]
    assert message_of(ask(ProviderModel(), response_format={"type": "text"}))["content"].startswith("digest:")
    assert ask(ProviderModel(), response_format={"type": "json_schema"}).status == 400


def test_max_tokens_cuts_json_in_the_middle():
    """Answers that end inside their JSON could not be played."""
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 50}
    answer = json.loads(ask(ProviderModel(), response_format=form(schema), max_tokens=9).body)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 9
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer["choices"][0]["message"]["content"])


def test_an_answer_that_does_not_fit_and_the_next_one():
    """Asking again after a wrong answer could not be tested."""
    model = ProviderModel(ProviderSettings(faults=Faults(schema=0.3)))
    asked = [user(f"mail {number}") for number in range(300)]
    wrong = [turn for turn in asked if not answer_as(Verdict, model, turn)]
    assert 60 < len(wrong) < 120
    assert not any(answer_as(Verdict, model, turn) for turn in wrong)
    reasked = [(turn, {"role": "assistant", "content": "{}"}, user("that does not fit")) for turn in wrong]
    still = [turns for turns in reasked if not answer_as(Verdict, model, *turns)]
    assert 0 < len(still) < len(wrong) / 2
    assert model.stats()["faults"]["schema"] == 2 * len(wrong) + len(still)


@pytest.mark.parametrize("kind", [Verdict, list[int], Kind, Literal["a"], dict[str, int], int])
def test_the_schema_fault_never_fits(kind):
    """A fault would be drawn and do nothing."""
    model = ProviderModel(ProviderSettings(faults=Faults(schema=1.0)))
    assert not answer_as(kind, model, user("mail"))
    assert model.stats()["answered"] == 0
    assert message_of(ask(model))["content"].startswith("digest:")


def test_a_misfit_is_still_json_of_the_same_shape():
    """The fault would show as broken JSON, which is another one."""
    value = fitting({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "array"}}}, Random(0))
    assert misfitting(value).keys() == value.keys()
    assert isinstance(misfitting({}), str)
    with pytest.raises(ValidationError):
        Node.model_validate(misfitting({"name": "abc", "parent": None}))


def tool(name: str, parameters: dict[str, Any] | None) -> dict[str, Any]:
    function = {"name": name} | ({"parameters": parameters} if parameters else {})
    return {"type": "function", "function": function}


WEATHER = tool("weather", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
NOW = tool("now", None)


def test_a_tool_is_called_when_the_request_insists():
    """Agents could not be tested against the provider without a script."""
    named = {"type": "function", "function": {"name": "weather"}}
    message = message_of(ask(ProviderModel(), tools=[NOW, WEATHER], tool_choice=named))
    assert message["content"] is None
    (made,) = message["tool_calls"]
    assert made["function"]["name"] == "weather"
    assert isinstance(json.loads(made["function"]["arguments"])["city"], str)
    outcomes = [ask(ProviderModel(), f"p{n}", tools=[NOW, WEATHER], tool_choice="required") for n in range(20)]
    assert {message_of(each)["tool_calls"][0]["function"]["name"] for each in outcomes} == {"now", "weather"}
    assert len({message_of(each)["tool_calls"][0]["id"] for each in outcomes}) == 20
    assert json.loads(outcomes[0].body)["choices"][0]["finish_reason"] == "tool_calls"


def test_without_insisting_the_answer_is_text():
    """Every request with tools would go round in circles."""
    for choice in ({}, {"tool_choice": "auto"}, {"tool_choice": "none"}, {"tool_choice": None}):
        assert message_of(ask(ProviderModel(), tools=[WEATHER], **choice))["content"].startswith("digest:")


def test_a_tool_that_is_not_offered_is_a_bad_request():
    """A client that forgets its tools would pass its tests."""
    assert ask(ProviderModel(), tool_choice="required").status == 400
    assert ask(ProviderModel(), tools=[NOW], tool_choice={"function": {"name": "weather"}}).status == 400


def test_arguments_can_miss_their_schema_and_stream():
    """The check of a model's arguments could not be tested."""
    asked = Call("hello", tools=[WEATHER], tool_choice="required")
    good = call(ProviderModel(), asked).tool_calls[0]
    assert isinstance(good.parsed()["city"], str)
    with pytest.raises(SchemaMismatch, match="city"):
        call(ProviderModel(ProviderSettings(faults=Faults(schema=1.0))), asked)


def test_a_script_wins_over_schemas_and_tools():
    """A test could not say what the model answers."""
    model = ProviderModel(script=lambda _request: "as told")
    outcome = ask(model, tools=[WEATHER], tool_choice="required", response_format=form({"type": "integer"}))
    assert message_of(outcome)["content"] == "as told"


def test_a_refused_schema_charges_nothing():
    """A bad request would use up the limit, although nothing was served."""
    model = ProviderModel(ProviderSettings(rpm=1))
    assert ask(model, response_format=form({"type": "odd"})).status == 400
    assert ask(model).status == 200
    assert model.stats()["serving"] == model.stats()["in_flight"] == 0
