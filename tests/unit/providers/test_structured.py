"""Schemas on the way out, objects on the way back."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, RootModel, field_validator
from typing_extensions import TypedDict

from flatout.errors import InvalidRequest, SchemaMismatch
from flatout.providers.schemas.fitting import fitted
from flatout.providers.schemas.strict import OPENAI, Mode
from flatout.providers.schemas.structured import is_recursive, response_format, schema_of
from flatout.values import Call, Reply, ToolCall


class Address(BaseModel):
    city: str = Field(description="where")
    zip: str | None = None


class Person(BaseModel):
    name: str
    age: int = Field(3, ge=0)
    kind: Literal["a", "b"]
    homes: list[Address]


class Node(BaseModel):
    children: list[Node] = []


class Twice(BaseModel):
    home: Address
    work: Address


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


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


class Row(TypedDict):
    when: datetime.date
    colour: Colour


class Many(RootModel[list[int]]):
    pass


def parse(output: Any, text: str) -> Any:
    return fitted(Call("x", output=output), Reply(text=text, finish_reason="stop")).output


def test_a_model_is_asked_for_strictly() -> None:
    """OpenAI would answer 400 to the schema, or not guarantee it."""
    described = response_format(Person)["json_schema"]
    assert described["name"] == "Person"
    assert described["strict"] is True
    schema = described["schema"]
    assert schema["required"] == ["name", "age", "kind", "homes"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["age"] == {"title": "Age", "type": "integer", "minimum": 0}
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
    loose: dict[str, Any] = {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 2}},
        "title": "my schema!",
    }
    assert response_format(strict)["json_schema"] == {"name": "answer", "schema": strict, "strict": True}
    assert response_format(loose)["json_schema"] == {"name": "my_schema_", "schema": loose}


@pytest.mark.parametrize("output", ["text", 5, [1], b"x", len, object()])
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
    assert fitted(Call("x", output=Address), asked) is asked


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


@pytest.mark.parametrize(
    ("output", "text", "expected"),
    [
        (Point, '{"x": 1}', Point(1)),
        (Row, '{"when": "2026-11-01", "colour": "red"}', {"when": datetime.date(2026, 11, 1), "colour": Colour.RED}),
        (Literal["spam", "ham"], '{"answer": "ham"}', "ham"),
        (Colour, '{"answer": "blue"}', Colour.BLUE),
        (list[Point], '{"answer": [{"x": 1}, {"x": 2}]}', [Point(1), Point(2)]),
        (Address | Point, '{"answer": {"city": "Bonn"}}', Address(city="Bonn")),
        (int | None, '{"answer": null}', None),
        (bool, '{"answer": true}', True),
        (Many, '{"answer": [1]}', Many([1])),
        (Annotated[int, Field(ge=3)], '{"answer": 3}', 3),
        (Annotated[int, ["unhashable"]], '{"answer": 3}', 3),
        (dict[str, int], '{"a": 1}', {"a": 1}),
    ],
)
def test_any_type_is_a_schema(output: Any, text: str, expected: Any) -> None:
    """Users would have to write a model for a list, or for one of two words; providers take objects alone."""
    assert response_format(output)["json_schema"]["schema"]["type"] == "object"
    assert parse(output, text) == expected
    with pytest.raises(SchemaMismatch):
        parse(output, "[]")
    with pytest.raises(SchemaMismatch):
        parse(output, '{"answer": "[odd]"}')


def test_a_wrapped_type_is_asked_for_strictly() -> None:
    """A label could be any word, although the provider could have kept to the two."""
    schema = schema_of(list[Address])
    assert schema.strict
    assert schema.schema["properties"]["answer"] == {"type": "array", "items": {"$ref": "#/$defs/Address"}}
    assert schema.schema["$defs"]["Address"]["required"] == ["city", "zip"]
    assert schema_of(Literal["a", "b"]).schema["properties"]["answer"]["enum"] == ["a", "b"]
    whole = schema_of(Address, None)
    assert (whole.schema, whole.strict) == (Address.model_json_schema(), False)


@pytest.mark.parametrize("output", [type("Odd", (), {}), list[type("Odd", (), {})], Literal[object]])  # type: ignore[misc,valid-type]  # made on purpose
def test_a_type_without_a_schema_is_named(output: Any) -> None:
    """A type that JSON cannot describe would fail somewhere inside pydantic."""
    with pytest.raises(InvalidRequest, match=r"^output: .* has no JSON schema"):
        response_format(output)


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0}, "of": {"$ref": "#/$defs/word"}},
    "required": ["n"],
    "$defs": {"word": {"enum": ["a", "b"]}},
}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"n": -15}', "n: .*minimum"),
        ('{"n": 1, "of": "secret"}', "of: "),
        ("{}", "required"),
        ("[]", "type"),
        ("x", "JSON"),
    ],
)
def test_a_dict_schema_is_validated(text: str, said: str) -> None:
    """An answer that does not fit would pass for one that does, and its text stand in the message."""
    assert parse(SCHEMA, '{"n": 1, "of": "a"}') == {"n": 1, "of": "a"}
    with pytest.raises(SchemaMismatch, match=said) as caught:
        parse(SCHEMA, text)
    assert "secret" not in str(caught.value)
    assert "-15" not in str(caught.value)


def test_a_schema_that_holds_itself_is_told() -> None:
    """A provider that takes none would refuse the call; one that holds the same part twice would be taken for one."""
    assert is_recursive(schema_of(Node).schema)
    assert is_recursive(schema_of(list[Node]).schema)
    assert not is_recursive(schema_of(Twice).schema)
    assert not is_recursive({"$defs": {"a": {"$ref": "#/$defs/a"}}})
    assert not is_recursive({"$ref": "#/$defs/missing", "$defs": {"a": 5}})


def test_a_schema_reads_no_files(tmp_path: Path) -> None:
    """A schema from elsewhere would have this machine's files read, or other servers asked."""
    (tmp_path / "part.json").write_text('{"type": "string"}')
    with pytest.raises(InvalidRequest, match=r"part\.json"):
        schema_of({"$ref": (tmp_path / "part.json").as_uri()})


@pytest.mark.parametrize("mode", [None, OPENAI])
@pytest.mark.parametrize(
    ("junk", "said"),
    [
        ({"type": "object", "properties": {"n": {"type": "interger"}}}, 'properties.n.type: "interger" is not valid'),
        ({"type": "object", "properties": 5}, "properties: 5 is not of type"),
        ({"$ref": "#/$defs/x"}, "/\\$defs/x"),
        ({"pattern": "("}, "pattern: "),
        ({"$ref": "https://192.0.2.1/schema.json"}, "192.0.2.1"),
        ({"$schema": "https://192.0.2.1/mine"}, "Unknown meta-schema"),
        ({"minimum": float("nan")}, "minimum: "),
        ({"x": object()}, "cannot be sent as JSON"),
    ],
)
def test_a_schema_that_makes_no_sense_is_refused(junk: dict[str, Any], said: str, mode: Mode | None) -> None:
    """Every answer would pass for one that fits, and nobody be told."""
    with pytest.raises(InvalidRequest, match=f"^output: .*{said}"):
        schema_of(junk, mode)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"properties": {"x": {"items": [{"type": "string"}, {"type": "integer"}]}}}, '{"x": ["a", 1]}', '{"x": [1]}'),
        ({"properties": {"x": {"minimum": 0, "exclusiveMinimum": True}}}, '{"x": 1}', '{"x": 0}'),
    ],
)
def test_a_schema_of_an_older_dialect_need_not_say_so(schema: dict[str, Any], good: str, bad: str) -> None:
    """A tool of an MCP server, or a schema that another library has made, would be refused as none."""
    assert "x" in parse(schema, good)
    with pytest.raises(SchemaMismatch, match="x"):
        parse(schema, bad)


DATED = {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}}
DIALECTS = {
    None: False,
    "http://json-schema.org/draft-07/schema#": False,
    "https://json-schema.org/draft/2020-12/schema": True,
}


@pytest.mark.parametrize(("dialect", "passes"), DIALECTS.items())
def test_formats_are_checked_where_json_schema_says_so(dialect: str | None, passes: bool) -> None:
    """A day in words would pass for a date, or a schema's own dialect be overruled."""
    schema = DATED if dialect is None else {"$schema": dialect, **DATED}
    assert parse(schema, '{"day": "2026-11-28"}') == {"day": "2026-11-28"}
    if passes:
        assert parse(schema, '{"day": "today"}') == {"day": "today"}
    else:
        with pytest.raises(SchemaMismatch, match="day: "):
            parse(schema, '{"day": "today"}')


def test_a_fenced_answer_is_marked() -> None:
    """Nobody could tell which answers were not quite what was asked for."""
    fenced = fitted(Call("x", output=Address), Reply(text='```json\n{"city": "Bonn"}\n```'))
    assert (fenced.output, fenced.repaired) == (Address(city="Bonn"), True)
    assert not fitted(Call("x", output=Address), Reply(text='{"city": "Bonn"}')).repaired


def test_a_schema_that_is_not_strict_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A user would not know why the provider does not guarantee the schema, or read it a million times."""

    class Tight(BaseModel):
        """The answer."""

        word: str = Field(max_length=7)

    class Roomy(BaseModel):
        word: str | None = None

    with caplog.at_level("INFO", logger="flatout"):
        for _ in range(3):
            assert not response_format(Tight)["json_schema"].get("strict")
            assert response_format(Roomy)["json_schema"]["strict"]
            response_format({"type": "object", "properties": {}, "title": "mine"})
            schema_of(Tight, None)
    assert [record.getMessage() for record in caplog.records] == [
        "the schema Tight is not strict, so no provider guarantees it: $.word: maxLength",
        "the strict form of the schema Roomy asks for every field: $.word: required here",
        "the schema mine is not strict, so no provider guarantees it: $: additionalProperties (not false)",
    ]
