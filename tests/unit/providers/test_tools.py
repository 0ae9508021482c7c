"""Functions as tools."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from flatout.errors import ConfigError, InvalidRequest, SchemaMismatch
from flatout.providers.tools import (
    check_arguments,
    chosen_tool,
    function_of,
    tool_schema,
    tools_of,
    validate_arguments,
)
from flatout.values import Reply, ToolCall


class Place(BaseModel):
    city: str
    zip: str | None = None


def forecast(place: Place, days: int = 3, *, units: Literal["C", "F"] = "C", tags: list[str] = []) -> str:  # noqa: B006  # what users write
    """What the weather will be.

    Good for two weeks, roughly: no further.

    Args:
        place: where; a city
            zip: perhaps, both are texts.
        days (int): how far ahead.
        tags: x

    Returns:
        place: not this one.
    """
    return f"{place}{days}{units}{tags}"


class Station:
    __hash__ = None  # type: ignore[assignment]  # as of any class with an __eq__ of its own

    def __eq__(self, other: object) -> bool:
        return self is other

    async def read(self, gauge: Annotated[str, Field(description="which", max_length=5)], schema: int) -> str:
        return gauge * schema


def described(function: Callable[..., Any]) -> dict[str, Any]:
    made: dict[str, Any] = tool_schema(function)["function"]
    return made


def test_a_function_describes_itself() -> None:
    """Users would write each tool twice, once as a function and once as JSON."""
    made = described(forecast)
    assert tool_schema(forecast)["type"] == "function"
    assert made["name"] == "forecast"
    assert made["description"] == "What the weather will be.\n\nGood for two weeks, roughly: no further."
    parameters = made["parameters"]
    assert (parameters["type"], parameters["required"], parameters["additionalProperties"]) == (
        "object",
        ["place"],
        False,
    )
    assert list(parameters["properties"]) == ["place", "days", "units", "tags"]
    assert parameters["properties"]["place"]["description"] == ("where; a city zip: perhaps, both are texts.")
    assert parameters["properties"]["days"] == {
        "default": 3, "description": "how far ahead.", "title": "Days", "type": "integer",
    }  # fmt: skip
    assert parameters["properties"]["units"]["enum"] == ["C", "F"]
    assert parameters["$defs"]["Place"]["properties"]["city"]["type"] == "string"
    made["parameters"].clear()
    assert described(forecast)["parameters"]


def test_methods_and_functions_without_words() -> None:
    """A method could not be a tool; a parameter called ``schema`` would clash with pydantic."""
    made = described(Station().read)
    assert "description" not in made
    assert list(made["parameters"]["properties"]) == ["gauge", "schema"]
    assert made["parameters"]["properties"]["gauge"]["description"] == "which"

    def ping() -> None: ...

    assert described(ping)["parameters"]["properties"] == {}
    assert validate_arguments(ping, "") == {}

    @functools.wraps(forecast)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return forecast(*args, **kwargs)

    assert described(wrapped) == described(forecast)


def test_arguments_become_values() -> None:
    """A function would be called with dicts, missing defaults, or whatever the model made up."""
    made = validate_arguments(forecast, '{"place": {"city": "Bonn"}, "units": "F"}')
    assert made == {"place": Place(city="Bonn"), "days": 3, "units": "F", "tags": []}
    assert forecast(**made)
    made["tags"].append("x")
    assert validate_arguments(forecast, {"place": {"city": "Bonn"}})["tags"] == []
    assert validate_arguments(Station().read, {"gauge": "rain", "schema": 2}) == {"gauge": "rain", "schema": 2}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{}", "place: "),
        ('{"place": {"city": "Bonn"}, "days": "soon"}', "days: "),
        ('{"place": {"city": "Bonn"}, "units": "K"}', "units: "),
        ('{"place": {"city": "Bonn"}, "colour": "red"}', "colour: "),
        ('{"place": ', "JSON"),
        ("[]", "should be an object"),
        ({"place": {"city": 5}}, "place.city: "),
        ('{"place": {"city": "Bonn"}, "days": "3"}', "days: "),
        ({"place": {"city": "Bonn"}, "days": "3"}, "days: "),
    ],
)
def test_wrong_arguments_are_told_to_the_model(arguments: Any, said: str) -> None:
    """The model would not know what to mend."""
    with pytest.raises(SchemaMismatch, match=f"the arguments of forecast do not fit: .*{said}"):
        validate_arguments(forecast, arguments)


@dataclass
class Unnamed:
    def __call__(self, x: int) -> int:
        return x


def make(source: str) -> Any:
    space: dict[str, Any] = {}
    exec(source, space)  # functions that the linter would not let pass
    return space["f"]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (make("def f(a: int, b): ..."), "f: its parameter 'b' has no type hint"),
        (make("def f(*a: int): ..."), "'a' cannot be given by name"),
        (make("def f(**a: int): ..."), "'a' cannot be given by name"),
        (make("def f(a: int, /): ..."), "'a' cannot be given by name"),
        (make("def f(a: 'Nowhere'): ..."), "type hint that cannot be read"),
        (make("def f(a: object()): ..."), "f has a"),
        (make("import threading\ndef f(a: threading.Thread): ..."), "that JSON cannot describe"),
        (make("f = lambda x: x"), "needs a name"),
        (Unnamed(), "needs a name"),
        (Station.read, "'self' has no type hint"),
    ],
)
def test_what_makes_no_tool_says_why(function: Any, said: str) -> None:
    """A tool without hints would fail at the model's first call of it, or at the provider."""
    with pytest.raises(ConfigError, match=said):
        tool_schema(function)
    with pytest.raises(InvalidRequest, match=f"^tools: .*{said}"):
        tools_of([function])


def test_dicts_and_functions_side_by_side() -> None:
    """A tool of the provider's own could not stand beside a function."""
    own = {"type": "web_search"}
    assert tools_of((own, forecast)) == [own, tool_schema(forecast)]
    assert function_of(own) is None
    assert function_of(tools_of([forecast])[0]) == described(forecast)
    assert chosen_tool({"type": "function", "function": {"name": "f"}}) == "f"
    assert chosen_tool("auto") is chosen_tool({"function": 5}) is None
    for tools in ("abc", 5, [5], [None]):
        with pytest.raises(InvalidRequest, match=r"^tools takes"):
            tools_of(tools)
    for function in (5, {}, {"name": ""}):
        with pytest.raises(InvalidRequest, match=r"^tools: "):
            function_of({"type": "function", "function": function})


def test_null_stands_for_a_default_of_none() -> None:
    """A model that says plainly that it has no unit would be told that null is no text."""

    def weather(city: str, unit: str = None, days: int = 1) -> None:  # type: ignore[assignment]  # noqa: RUF013
        """Weather."""

    assert validate_arguments(weather, '{"city": "Bonn", "unit": null}') == {"city": "Bonn", "unit": None, "days": 1}
    assert {"type": "null"} in described(weather)["parameters"]["properties"]["unit"]["anyOf"]
    with pytest.raises(SchemaMismatch, match="days"):
        validate_arguments(weather, '{"city": "Bonn", "days": null}')


@pytest.mark.parametrize("name", ["parameters", "input_schema"])
def test_a_tool_whose_schema_makes_no_sense_is_refused(name: str) -> None:
    """Whatever arguments a model wrote would be handed on unseen."""
    inner = {"name": "f", name: {"properties": {"n": {"type": "interger"}}}}
    for tool in (inner, {"type": "function", "function": inner}):
        with pytest.raises(InvalidRequest, match=r'^tools: f: not a JSON schema: properties\.n\.type: "interger"'):
            tools_of([tool])


PARAMETERS = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
OFFERED: list[Any] = [
    forecast,
    {"type": "function", "function": {"name": "count", "parameters": PARAMETERS}},
    {"name": "own", "input_schema": PARAMETERS},
    {"type": "function", "function": {"name": "free"}},
    {"type": "custom", "custom": {"name": "text"}},
    {"type": "web_search"},
]


def asked_for(*calls: tuple[str, str]) -> Reply:
    return Reply(text="", tool_calls=tuple(ToolCall(id=f"c{i}", name=n, arguments=a) for i, (n, a) in enumerate(calls)))


def test_arguments_that_fit_pass() -> None:
    """A good answer would be refused, or one that only the caller can judge."""
    check_arguments(OFFERED, asked_for(("forecast", '{"place": {"city": "Bonn"}}'), ("count", '{"n": 1}')))
    check_arguments(OFFERED, asked_for(("own", '{"n": 1}'), ("free", ""), ("text", "free text"), ("unknown", "{")))


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("forecast", "{}", "place: "),
        ("forecast", '{"place": {"city": "secret', "Invalid JSON"),
        ("count", '{"n": "secret"}', "n: "),
        ("count", "{}", "required"),
        ("count", "[1]", "not a JSON object, but a list"),
        ("own", '{"n": "x"}', "n: "),
        ("free", "secret", "."),
    ],
)
def test_arguments_that_do_not_fit_are_named(name: str, arguments: str, said: str) -> None:
    """A function would be called with what it cannot take, or the model not be told what to mend."""
    reply = asked_for(("count", '{"n": 1}'), (name, arguments))
    with pytest.raises(SchemaMismatch, match=f"the arguments of {name} do not fit: .*{said}") as caught:
        check_arguments(OFFERED, reply)
    assert caught.value.reply is reply
    assert list(caught.value.complaints) == ["c1"]
    assert "secret" not in str(caught.value)
