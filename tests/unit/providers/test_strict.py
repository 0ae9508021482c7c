"""What strict modes can express, and what is said of the rest."""

from __future__ import annotations

import uuid
from types import GenericAlias
from typing import Annotated, Any, Literal, NotRequired, Union

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from flatout.providers.schemas.strict import ANTHROPIC, OPENAI, strict_form, why_loose


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    name: Annotated[str, Field(pattern="^[A-Z]")]


class Home(BaseModel):
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = Field(min_length=2, max_length=5)
    first: Cat = Field(description="the first one")
    key: uuid.UUID
    share: float = Field(gt=0, lt=1, multiple_of=0.1)


class Lax(TypedDict):
    a: int
    b: NotRequired[int]


class Empty(BaseModel):
    pass


def schema(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


def test_what_openai_understands_is_kept() -> None:
    """A bound would be dropped that the provider could have kept to, and answers refused for it here."""
    form = strict_form(schema(Home), OPENAI)
    assert (form.loose, form.tightened) == ((), ())
    assert form.schema is not None
    properties, definitions = form.schema["properties"], form.schema["$defs"]
    assert (properties["pets"]["minItems"], properties["pets"]["maxItems"]) == (2, 5)
    assert properties["pets"]["items"] == {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}
    assert properties["key"]["format"] == "uuid"
    assert (properties["share"]["exclusiveMinimum"], properties["share"]["multipleOf"]) == (0, 0.1)
    assert (definitions["Cat"]["properties"]["lives"]["maximum"]) == 9
    assert definitions["Dog"]["properties"]["name"]["pattern"] == "^[A-Z]"
    assert definitions["Dog"]["additionalProperties"] is False


def test_words_beside_a_reference_are_kept() -> None:
    """The model would not see what a field of a user's own type is for."""
    form = strict_form(schema(Home), OPENAI)
    assert form.schema is not None
    assert form.schema["properties"]["first"] == {
        "anyOf": [{"$ref": "#/$defs/Cat"}], "description": "the first one"
    }  # fmt: skip


def test_anthropic_understands_less() -> None:
    """Anthropic would answer 400 to bounds, which its strict mode does not take."""
    assert set(strict_form(schema(Home), ANTHROPIC).loose) == {
        "$defs.Cat.lives: minimum", "$defs.Cat.lives: maximum", "$defs.Dog.name: pattern", "$.pets: maxItems",
        "$.pets: minItems above 1", "$.share: exclusiveMinimum", "$.share: exclusiveMaximum", "$.share: multipleOf",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (Annotated[str, Field(max_length=5)], "$.x: maxLength"),
        (dict[str, int], "$.x: additionalProperties (not false)"),
        (Any, "$.x: anything goes there"),
        (list[Any], "$.x[*]: anything goes there"),
        (tuple[int, str], "$.x: prefixItems"),
        (Annotated[str, Field(json_schema_extra={"format": "uri"})], "$.x: format uri"),
        (Annotated[str, Field(json_schema_extra={"pattern": "^(?!a)"})], "$.x: pattern (it looks around)"),
        (list[Annotated[str, Field(min_length=1)]], "$.x[*]: minLength"),
        (set[int], "$.x: uniqueItems"),
        (Annotated[int, Field(examples=[1])], "$.x: examples"),
    ],
)
def test_what_is_in_the_way_is_named(field: Any, said: str) -> None:
    """The schema would be changed without a word, or the user not know which field costs the guarantee."""
    made = type("Made", (BaseModel,), {"__annotations__": {"x": field}})
    form = strict_form(schema(made), OPENAI)
    assert form.schema is None
    assert said in form.loose


def test_fields_that_may_be_left_out_are_told() -> None:
    """Fields would become required without a word, or the model have to invent what the user lets it leave out."""

    class Person(BaseModel):
        name: str
        age: int = 3
        zip: str | None = None
        tags: list[str] = Field(default_factory=list)

    form = strict_form(schema(Person), OPENAI)
    assert form.schema is not None
    assert form.schema["required"] == ["name", "age", "zip", "tags"]
    assert form.tightened == ("$.age: required here", "$.zip: required here", "$.tags: required here")
    assert strict_form(schema(Lax), OPENAI).loose == ("$.b: not required",)
    assert strict_form(schema(Empty), OPENAI).schema == {
        "title": "Empty", "type": "object", "properties": {}, "required": [], "additionalProperties": False
    }  # fmt: skip


def test_a_schema_of_the_users_own_is_strict_only_as_it_stands() -> None:
    """It would be sent as strict and be refused, or be changed behind the user's back."""
    closed: dict[str, Any] = {
        "type": "object", "properties": {"a": {"type": "integer", "minimum": 1}},
        "required": ["a"], "additionalProperties": False,
    }  # fmt: skip
    assert why_loose(closed, OPENAI) == ()
    assert why_loose(closed, ANTHROPIC) == ("$.a: minimum",)
    assert why_loose({**closed, "required": []}, OPENAI) == ("$.a: not required",)
    assert why_loose({**closed, "additionalProperties": True}, OPENAI) == ("$: additionalProperties (not false)",)
    defaulted = {**closed, "properties": {"a": {"type": "integer", "default": 1}}}
    assert why_loose(defaulted, OPENAI) == ("$.a: default",)
    assert why_loose({"enum": ["a"]}, OPENAI) == ("$: its root is not an object",)


_LEAVES: list[Any] = [int, str, bool, None, Literal["a", "b"], Cat, Annotated[int, Field(ge=0)]]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.recursive(
            st.sampled_from(_LEAVES),
            lambda inner: inner.map(lambda kind: GenericAlias(list, kind)) | inner.map(lambda kind: Union[kind, None]),  # noqa: UP007  # None | None is none
            max_leaves=3,
        ),
        min_size=1,
    ),
    st.data(),
)
def test_what_fits_the_strict_form_fits_the_schema(fields: dict[str, Any], data: st.DataObject) -> None:
    """The provider would guarantee something else than what was asked for."""
    made = type("Made", (BaseModel,), {"__annotations__": fields})
    whole = schema(made)
    form = strict_form(whole, OPENAI)
    assert form.schema is not None
    assert form.loose == ()
    value = {name: data.draw(st.sampled_from([0, "a", None, True, [], [1], ["b"], [[None]]])) for name in fields}
    if jsonschema_rs.validator_for(form.schema).is_valid(value):
        assert jsonschema_rs.validator_for(whole).is_valid(value)
    elif jsonschema_rs.validator_for(whole).is_valid(value):
        pytest.fail("all fields are there, and yet only the strict form refuses them")
