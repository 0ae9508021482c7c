"""Fifty Python signatures as tools: the providers' own descriptions accept them, and arguments reach the functions.

Each has arguments as a model writes them, and some that a model writes when it is wrong.
"""

from __future__ import annotations

import datetime as dt
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, Union
from uuid import UUID

import pytest
from annotated_types import MultipleOf
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from flatout import SchemaMismatch
from flatout.agents import Tool, tool
from flatout.providers import codec_for, registry
from flatout.values import Call, Target
from tests.integration.test_vendor_specs import MODELS, validator

jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="the package jsonschema-rs is not installed")

CASES: list[tuple[Callable[..., Any], dict[str, Any], dict[str, Any] | None]] = []


def case(good: dict[str, Any], bad: dict[str, Any] | None = None) -> Callable[..., Any]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        CASES.append((function, good, bad))
        return function

    return add


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Point(BaseModel):
    x: float
    y: float = 0.0


class Tree(BaseModel):
    """A node."""

    name: str
    children: list[Tree] = []


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    code: str = Field(pattern=r"^[A-Z]{3}$", description="three letters")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Address(TypedDict):
    street: str
    town: str


class Partial(TypedDict, total=False):
    title: str
    pages: int


class Span(NamedTuple):
    start: int
    end: int


@dataclass
class Money:
    amount: Decimal
    currency: str = "EUR"


UserId = NewType("UserId", int)
Percent = Annotated[float, Field(ge=0, le=100)]


@case({})
def nothing() -> str:
    """Takes nothing."""
    return ""


@case({"text": 'ä\u2028"\\'}, {"text": 1})
def one_text(text: str) -> str:
    """Takes a text."""
    return text


@case({"count": 3}, {"count": "many"})
def one_int(count: int) -> None: ...


@case({"share": 0.5}, {"share": "half"})
def one_float(share: float) -> None: ...


@case({"on": True}, {"on": "perhaps"})
def one_bool(on: bool) -> None: ...


@case({}, {"city": None})
def a_default(city: str = "Bonn", days: int = 3) -> None: ...


@case({"a": None}, {"a": []})
def an_optional(a: str | None) -> None: ...


@case({}, {"a": 1.5})
def optional_with_default(a: Optional[int] = None) -> None: ...  # noqa: UP045  # the old way to write it is wanted


@case({"value": 1}, {"value": {}})
def a_union(value: int | str) -> None: ...


@case({"value": [1, 2]}, {"value": {"a": 1}})
def an_old_union(value: Union[list[int], str]) -> None: ...  # noqa: UP007  # the old way to write it is wanted


@case({"unit": "c"}, {"unit": "k"})
def a_choice(unit: Literal["c", "f"]) -> None: ...


@case({"n": 2}, {"n": 3})
def a_choice_of_numbers(n: Literal[1, 2]) -> None: ...


@case({"mode": None}, {"mode": "c"})
def a_mixed_choice(mode: Literal["a", "b"] | None) -> None: ...


@case({"colour": "red"}, {"colour": "green"})
def an_enum(colour: Colour) -> None: ...


@case({"level": 2}, {"level": 9})
def an_int_enum(level: Level = Level.LOW) -> None: ...


@case({"words": ["a", "b"]}, {"words": "a"})
def a_list(words: list[str]) -> None: ...


@case({"rows": [[1, 2], []]}, {"rows": [["a"]]})
def a_nested_list(rows: list[list[int]]) -> None: ...


@case({"names": ["a"]}, {"names": 3})
def a_sequence(names: Sequence[str] = ("x",)) -> None: ...


@case({"tags": ["a", "b"]}, {"tags": [{}]})
def a_set(tags: set[str]) -> None: ...


@case({"pair": [1, "a"]}, {"pair": [1]})
def a_tuple(pair: tuple[int, str]) -> None: ...


@case({"many": [1, 2, 3]}, {"many": ["x"]})
def an_open_tuple(many: tuple[int, ...]) -> None: ...


@case({"scores": {"ann": 1}}, {"scores": {"ann": "x"}})
def a_dict(scores: dict[str, int]) -> None: ...


@case({"tables": {"a": {"b": [1]}}}, {"tables": []})
def a_deep_dict(tables: Mapping[str, dict[str, list[int]]]) -> None: ...


@case({"blob": {"any": ["thing", 1]}}, {"blob": 1})
def a_bare_dict(blob: dict) -> None: ...  # type: ignore[type-arg]  # as users write it


@case({"items": [1, "a", None]}, {"items": 1})
def a_bare_list(items: list) -> None: ...  # type: ignore[type-arg]  # the same


@case({"value": {"x": 1}})
def anything(value: Any) -> None: ...


@case({"where": {"x": 1}}, {"where": {"y": 1}})
def a_model(where: Point) -> None: ...


@case({"corners": [{"x": 1}, {"x": 2, "y": 3}]}, {"corners": [1]})
def a_list_of_models(corners: list[Point]) -> None: ...


@case({"tree": {"name": "a", "children": [{"name": "b"}]}}, {"tree": {"children": []}})
def a_recursive_model(tree: Tree) -> None: ...


@case({"code": {"code": "ABC"}}, {"code": {"code": "ABC", "more": 1}})
def a_strict_model(code: Strict) -> None: ...


@case({"pet": {"kind": "dog", "tricks": []}}, {"pet": {"kind": "cat", "tricks": []}})
def one_of_two_models(pet: Cat | Dog) -> None: ...


@case({"pet": {"kind": "cat", "lives": 9}}, {"pet": {"kind": "cow"}})
def a_discriminated_union(pet: Annotated[Cat | Dog, Field(discriminator="kind")]) -> None: ...


@case({"home": {"street": "Elm Street 7", "town": "Ulm"}}, {"home": {"street": "Elm Street 7"}})
def a_typed_dict(home: Address) -> None: ...


@case({"book": {"pages": 3}}, {"book": {"pages": "many"}})
def a_partial_typed_dict(book: Partial) -> None: ...


@case({"span": [1, 2]}, {"span": [1]})
def a_named_tuple(span: Span) -> None: ...


@case({"price": {"amount": "1.50"}}, {"price": {"amount": "a lot"}})
def a_dataclass(price: Money) -> None: ...


@case({"share": 12.5}, {"share": 101})
def bounds(share: Percent) -> None: ...


@case({"code": "AB1"}, {"code": "ab1"})
def a_pattern(code: Annotated[str, Field(pattern="^[A-Z0-9]+$", min_length=2, max_length=10)]) -> None: ...


@case({"n": 10}, {"n": 7})
def multiples(n: Annotated[int, MultipleOf(5)]) -> None: ...


@case({"ids": [1]}, {"ids": []})
def a_bounded_list(ids: Annotated[list[int], Field(min_length=1, max_length=3)]) -> None: ...


@case({"on": "2026-02-28"}, {"on": "2026-02-30"})
def a_date(on: dt.date) -> None: ...


@case({"at": "2026-02-28T10:00:00Z", "lasts": "PT1H"}, {"at": "noon", "lasts": "PT1H"})
def a_moment(at: dt.datetime, lasts: dt.timedelta) -> None: ...


@case({"key": "12345678-1234-5678-1234-567812345678"}, {"key": "1234"})
def an_uuid(key: UUID) -> None: ...


@case({"page": "https://example.org/a"}, {"page": "example"})
def a_link(page: AnyHttpUrl) -> None: ...


@case({"path": "a/b.txt"}, {"path": 3})
def a_path(path: PurePosixPath) -> None: ...


@case({"user": 7}, {"user": "seven"})
def a_new_type(user: UserId) -> None: ...


@case({"b": 1, "a": 2}, {"a": 2})
def keyword_only(a: int, *, b: int) -> None: ...


@case({"query": "x"}, {"query": "x", "limit": 0})
def documented(query: str, limit: Annotated[int, Field(gt=0)] = 10, deep: bool = False) -> None:
    """Finds documents.

    More of it in a second paragraph: "quoted", with ünicode and {braces}.

    Args:
        query: the words,
            over two lines.
        limit: at most so many.
        deep: look into attachments (slow).
    """


@case({"class_name": "x", "from_": "a"}, {"class_name": "x", "from": "a"})
def reserved_words(class_name: str, from_: str) -> None: ...


@case({"a": 1, "b": "x", "c": [True], "d": {"k": 0.5}, "e": "blue", "f": {"x": 1}, "g": None}, {"a": 1})
def many(
    a: int, b: str, c: list[bool], d: dict[str, float], e: Colour, f: Point, g: Point | None, h: Literal[1] = 1
) -> None: ...


NAMES = [function.__name__ for function, _, _ in CASES]


def test_there_are_fifty():
    """A signature would have been lost on the way."""
    assert len(set(NAMES)) == len(CASES) == 50


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("function", [function for function, _, _ in CASES], ids=NAMES)
def test_the_provider_takes_it(function: Callable[..., Any], name: str) -> None:
    """Every call of an agent with such a tool would be a 400."""
    codec = codec_for(Target(registry.find(name), MODELS[name]))
    schema = Tool.of(function).schema
    for tools in ([function], [schema]):  # as it is given to a call, and as an agent offers it
        validator(name)(json.loads(codec.encode(Call("x", tools=tools)).body))


@pytest.mark.parametrize("name", MODELS)
def test_the_provider_takes_all_at_once(name: str) -> None:
    """An agent with many tools would get a 400."""
    codec = codec_for(Target(registry.find(name), MODELS[name]))
    tools = [Tool.of(function).schema for function, _, _ in CASES]
    body = json.loads(codec.encode(Call("x", tools=tools, tool_choice="required")).body)
    validator(name)(body)
    text = json.dumps(body)
    assert all(f'"{one}"' in text for one in NAMES)


@pytest.mark.parametrize(("function", "good", "bad"), CASES, ids=NAMES)
def test_arguments_reach_the_function(
    function: Callable[..., Any], good: dict[str, Any], bad: dict[str, Any] | None
) -> None:
    """A right call would be refused, or a wrong one reach the function."""
    made = tool(function)
    function(**made.arguments(json.dumps(good)))
    for wrong in ([bad] if bad is not None else []) + [{**good, "unheard_of": 1}]:
        with pytest.raises(SchemaMismatch):
            made.arguments(json.dumps(wrong))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("function", "good", "bad"), CASES, ids=NAMES)
def test_what_is_sent_says_the_same(
    function: Callable[..., Any], good: dict[str, Any], bad: dict[str, Any] | None, name: str
) -> None:
    """The model would be told of arguments that are then refused."""
    codec = codec_for(Target(registry.find(name), MODELS[name]))
    (sent,) = json.loads(codec.encode(Call("x", tools=[function])).body)["tools"]
    sent = sent.get("function") or sent.get("functionDeclarations", [sent])[0]
    parameters = next(sent[word] for word in ("parameters", "input_schema", "parametersJsonSchema") if word in sent)
    jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **parameters})
    assert jsonschema_rs.is_valid(parameters, good)
    assert not jsonschema_rs.is_valid(parameters, {**good, "unheard_of": 1})
    assert sent.get("description") == ((inspect.getdoc(function) or "").partition("\n\nArgs:")[0] or None)
