"""Schemas on the way out, objects on the way back."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from flatout.errors import InvalidRequest, SchemaMismatch
from flatout.providers.structured import parse_output, response_format
from flatout.values import Call, Reply, ToolCall


class Address(BaseModel):
    city: str = Field(description="where", max_length=50)
    zip: str | None = None


class Person(BaseModel):
    name: str
    age: int = Field(3, ge=0)
    kind: Literal["a", "b"]
    homes: list[Address]


class Node(BaseModel):
    children: list[Node] = []


class Loose(BaseModel):
    scores: dict[str, int]


class Free(BaseModel):
    thing: Any


class Open(BaseModel, extra="allow"):
    a: int


class Picky(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _explode(cls, value: int) -> int:
        raise KeyError(value)


def parse(output: Any, text: str) -> Any:
    return parse_output(Call("x", output=output), Reply(text=text, finish_reason="stop"))


def test_a_model_is_asked_for_strictly() -> None:
    """OpenAI would answer 400 to the schema, or not guarantee it."""
    described = response_format(Person)["json_schema"]
    assert described["name"] == "Person"
    assert described["strict"] is True
    schema = described["schema"]
    assert schema["required"] == ["name", "age", "kind", "homes"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["age"] == {"title": "Age", "type": "integer"}
    assert schema["$defs"]["Address"]["required"] == ["city", "zip"]
    assert schema["$defs"]["Address"]["properties"]["city"]["description"] == "where"


def test_a_recursive_model_has_an_object_at_its_root() -> None:
    """Strict mode refuses a schema whose root is a reference."""
    schema = response_format(Node)["json_schema"]["schema"]
    assert schema["type"] == "object"
    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}


@pytest.mark.parametrize("model", [Loose, Free, Open])
def test_what_has_no_strict_form_is_sent_as_it_is(model: type[BaseModel]) -> None:
    """A model with a free part would be refused by the provider, or lose that part."""
    described = response_format(model)["json_schema"]
    assert "strict" not in described
    assert described["schema"] == model.model_json_schema()


def test_servers_of_ones_own_get_the_whole_schema() -> None:
    """vLLM and llama.cpp would lose the constraints that they can enforce."""
    described = response_format(Person, self_hosted=True)["json_schema"]
    assert described["schema"] == Person.model_json_schema()
    assert described["strict"] is True


def test_a_dict_schema_is_sent_as_it_is() -> None:
    """A user's own schema would be changed behind their back."""
    strict = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    loose = {"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}, "title": "my schema!"}
    assert response_format(strict)["json_schema"] == {"name": "answer", "schema": strict, "strict": True}
    assert response_format(loose)["json_schema"] == {"name": "my_schema_", "schema": loose}


@pytest.mark.parametrize(
    "junk", [{}, {"type": "object", "properties": 5}, {"$ref": "#/$defs/x"}, {"anyOf": 7, "type": "object"}]
)
def test_an_odd_schema_is_left_to_the_provider(junk: dict[str, Any]) -> None:
    """A schema that flatout does not understand would crash the run."""
    assert "strict" not in response_format(junk)["json_schema"]


@pytest.mark.parametrize("output", [int, "text", 5, [1]])
def test_other_outputs_are_refused(output: Any) -> None:
    """A type that makes no schema would fail somewhere inside, without a word about `output`."""
    with pytest.raises(InvalidRequest, match="output takes"):
        response_format(output)


def test_answers_become_objects() -> None:
    """Users would have to parse the text themselves."""
    assert parse(Address, '{"city": "Bonn"}') == Address(city="Bonn")
    assert parse({"type": "object"}, ' {"a": 1}') == {"a": 1}
    assert parse(Address, '```json\n{"city": "Bonn"}\n```') == Address(city="Bonn")
    assert parse(None, "text") is None
    asked = Reply(text="", tool_calls=(ToolCall(id="1", name="f", arguments=""),))
    assert parse_output(Call("x", output=Address), asked) is None


@pytest.mark.parametrize(
    ("output", "text"),
    [(Address, "sorry"), (Address, '{"city": 5}'), ({}, '{"a": '), ({}, ""), (Picky, '{"n": 1}'), (Address, "\ud800")],
)
def test_a_mismatch_keeps_the_paid_answer(output: Any, text: str) -> None:
    """A broken answer would be lost, or crash the run, although it was paid for."""
    with pytest.raises(SchemaMismatch) as caught:
        parse(output, text)
    assert caught.value.reply is not None
    assert caught.value.reply.text == text


def test_a_mismatch_says_where_but_not_what() -> None:
    """The message would hold a whole answer, or not tell which field is wrong."""
    with pytest.raises(SchemaMismatch, match="city: Input should be a valid string") as caught:
        parse(Address, '{"city": 123456789}')
    assert "123456789" not in str(caught.value)
