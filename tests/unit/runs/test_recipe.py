from __future__ import annotations

import itertools
from typing import Any

import pydantic
import pytest

from flatout.errors import ConfigError
from flatout.runs.input.rows import InputSource, Row
from flatout.runs.prompts.recipe import Recipe, row_id
from flatout.values import Call

JSONL = InputSource("a.jsonl", "jsonl")
CSV = InputSource("a.csv", "csv")
MESSAGES = [{"role": "user", "content": "hi"}]


def row(columns: dict[str, Any], source: InputSource = JSONL) -> Row:
    return Row(0, 7, columns, source)


def call(columns: dict[str, Any], source: InputSource = JSONL, **recipe: Any) -> Call:
    return Recipe(**recipe).call(row(columns, source))


def batch_line(url: str | None = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    line = {"custom_id": "c1", "method": "POST", "body": {"messages": MESSAGES, **body}}
    return line if url is None else {**line, "url": url}


def test_a_row_asks_for_itself() -> None:
    """Inputs that hold whole prompts or conversations would need a template."""
    assert call({"prompt": "hi"}) == Call("hi")
    assert call({"prompt": "hi", "text": "mine"}, CSV) == Call("hi")
    assert call({"messages": MESSAGES}) == Call(messages=MESSAGES)
    assert call({"messages": MESSAGES, "prompt": None}) == Call(messages=MESSAGES)


def test_templates_make_prompts() -> None:
    """`--prompt` and `--system` would be ignored or mixed up."""
    made = call({"text": "x", "prompt": "unused"}, prompt="Spam? {{ text }}", system="You judge {{ text }}.")
    assert made == Call("Spam? x", system="You judge x.")
    assert call({"prompt": "hi"}, system="Be brief.") == Call("hi", system="Be brief.")


def test_the_users_own_columns_are_never_sent() -> None:
    """A customer's data that merely stands beside the prompt would go to the provider."""
    mine = {"customer": "Ann", "output": "expected", "metadata": {"a": 1}, "extra": {"b": 2}, "body": {"c": 3}}
    assert call({"prompt": "hi", **mine}) == Call("hi")
    assert call({"prompt": "hi", "temperature": "0.5", "model": "m", "system": "s"}, CSV) == Call("hi")
    assert call({"text": "x", "temperature": 0.5, "model": "m", "seed": "abc"}, prompt="{{ text }}") == Call("x")


def test_parameters_beside_a_jsonl_prompt_are_honoured() -> None:
    """Rows that each need another temperature or model could not be written."""
    made = call({"prompt": "hi", "temperature": 0, "model": "m", "max_tokens": 5, "stop": ["x"], "top_p": None, "x": 1})
    assert made == Call("hi", temperature=0, model="m", max_tokens=5, stop=["x"])
    assert call({"messages": MESSAGES, "system": "s", "timeout": 3.5}) == Call(
        messages=MESSAGES, system="s", timeout=3.5
    )


def test_the_recipe_wins_over_the_row() -> None:
    """An option on the command line would be overruled by what happens to be in the file."""
    given = {"prompt": "hi", "temperature": 1, "model": "theirs", "system": "theirs", "seed": 1}
    made = call(given, params={"temperature": 0, "seed": None}, model="mine", system="mine")
    assert made == Call("hi", temperature=0, model="mine", system="mine", seed=1)


def test_openai_batch_lines() -> None:
    """A file made for a batch endpoint would have to be rewritten."""
    line = batch_line(
        model="gpt-5-mini", max_completion_tokens=9, temperature=0.5, response_format={"type": "json_object"}
    )
    wanted = {"response_format": {"type": "json_object"}}
    made = call(line)
    assert made == Call(messages=MESSAGES, id="c1", model="gpt-5-mini", max_tokens=9, temperature=0.5, extra=wanted)
    assert call(line, model="local").model == "local"
    assert call(line, params={"extra": {"x": 1}}).extra == {**wanted, "x": 1}
    assert call(batch_line(None, stream=False, metadata={"a": "b"})).extra == {"metadata": {"a": "b"}}
    assert call(batch_line("https://host/v1/chat/completions/")).messages == MESSAGES


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text": "a", "label": "b"},
            "this row has no column prompt or messages; it has: text, label; say what to ask",
        ),
        ({}, "it has: none; say what to ask, such as --prompt 'Summarise: {{ text }}'"),
        ({"prompt": None}, "no column prompt"),
        ({"prompt": 5}, "a prompt is a string, not a number"),
        ({"prompt": {"a": 1}}, "a prompt is a string, not a JSON object"),
        ({"prompt": "a", "messages": MESSAGES}, "this one has both"),
        ({"messages": "hi"}, "messages is a list of objects with role and content, not 'hi'"),
        ({"messages": []}, "messages is a list of objects"),
        ({"messages": ["hi"]}, "a message is an object with role and content, not 'hi'"),
        ({"prompt": "a", "max_tokens": "5"}, "max_tokens: expected int, got str; beside a prompt this key is"),
        ({"prompt": "a", "timeout": -1}, "timeout is a number of seconds above 0"),
        ({"prompt": "a", "id": [1]}, "an id is a string or a number, not a list"),
        (
            batch_line("/v1/embeddings"),
            "a batch line for '/v1/embeddings'; flatout reads only those for /v1/chat/completions",
        ),
        (batch_line(stream=True), "cannot ask for a stream"),
        (batch_line(temperature="hot"), "the batch line's temperature: expected float, got str"),
        ({"body": {"input": "x"}, "custom_id": "a"}, "the batch line's body has no messages"),
    ],
)
def test_a_row_that_makes_no_call_is_named(columns: dict[str, Any], message: str) -> None:
    """A user would not learn which row is wrong, or what to do about it."""
    recipe = Recipe()
    for attempt in (recipe.call, recipe.check):
        with pytest.raises(ConfigError) as caught:
            attempt(row(columns))
        assert str(caught.value).startswith("a.jsonl, line 7: ")
        assert message in str(caught.value)


def test_columns_known_up_front_are_checked() -> None:
    """A misspelt column would be found only after the whole file was read."""
    with pytest.raises(
        ConfigError, match=r"^--prompt uses {{ txt }}, but the input has no column txt; it has: text, label$"
    ):
        Recipe(prompt="{{ txt }}").check_columns(("text", "label"))
    with pytest.raises(ConfigError, match=r"^--system uses {{ who }}, but the input has no column who"):
        Recipe(prompt="{{ text }}", system="{{ who }}").check_columns(("text",))
    with pytest.raises(ConfigError, match=r"^the input has no column prompt or messages; it has: text; .*{{ text }}"):
        Recipe().check_columns(("text",))
    Recipe(prompt="{{ text }}").check_columns(("text",))


def test_check_finds_what_call_would_find() -> None:
    """A row that a template fails on would be found only when its turn comes, after others were paid for."""
    texts = ("{{ a }}", "Say {{ a }}", "{{ a.b.c }}", "{{ a | upper }}{{ z | default('') }}")
    for prompt, system in itertools.product(texts, (*texts, None)):
        for columns in ({"a": "x"}, {"b": "x"}, {"a": {"b": 1}}, {"a": {"b": {"c": 1}}}, {"a": ""}, {"a": None}):
            recipe, given = Recipe(prompt=prompt, system=system), row(columns)
            try:
                recipe.call(given)
            except ConfigError as error:
                with pytest.raises(ConfigError) as caught:
                    recipe.check(given)
                assert str(caught.value) == str(error)  # noqa: PT017  # both errors are wanted
            else:
                recipe.check(given)


@pytest.mark.parametrize(
    ("columns", "recipe"),
    [
        ({"prompt": " "}, {}),
        ({"messages": [{"role": "system", "content": ""}, {"role": "user", "content": " "}]}, {}),
        ({"messages": [{"role": "user"}]}, {}),
        ({"a": ""}, {"prompt": "{{ a }}"}),
        ({"a": None}, {"prompt": "\n{{ a }}", "nulls": "empty"}),
    ],
)
def test_empty_prompts_are_refused(columns: dict[str, Any], recipe: dict[str, Any]) -> None:
    """Each would be sent, to be refused by the provider, or answered with anything."""
    with pytest.raises(ConfigError, match=r"a\.jsonl, line 7: the prompt is empty"):
        Recipe(**recipe).check(row(columns))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"prompt": "Spam?"}, "--prompt asks the same of every row"),
        ({"prompt": "Spam?", "system": "{{ a }}"}, None),
        ({"prompt": "What is this?", "images": ["{{ a }}"]}, None),
        ({"prompt": "{{ a }}", "system": "Be brief."}, None),
        ({}, None),
        ({"prompt": "{{ a }}", "system": __file__}, "is a file; for its text, write --system @"),
    ],
)
def test_rows_are_asked_different_things(recipe: dict[str, Any], message: str | None) -> None:
    """A template that means something else than it says would be paid for once a row."""
    if message is None:
        Recipe(**recipe).check_varies()
        return
    with pytest.raises(ConfigError, match=message):
        Recipe(**recipe).check_varies()


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"id": "a"}, "a"),
        ({"id": 7}, "7"),
        ({"custom_id": "c"}, "c"),
        ({"id": "a", "custom_id": "c"}, "a"),
        ({"id": None, "custom_id": "c"}, "c"),
        ({"id": ""}, None),
        ({"id": 0}, "0"),
        ({}, None),
    ],
)
def test_ids(columns: dict[str, Any], expected: str | None) -> None:
    """A user could not find their rows again in the results."""
    assert row_id(row(columns)) == expected
    assert call({"prompt": "x", **columns}, CSV).id == expected


def test_a_description_tells_recipes_apart() -> None:
    """Answers to another prompt would be taken for this run's when it is resumed."""

    class Label(pydantic.BaseModel):
        spam: bool

    recipe = Recipe(prompt="{{ a }}", params={"temperature": 0, "output": Label, "seed": None}, model="m")
    assert recipe.describe() == {
        "prompt": "{{ a }}",
        "system": None,
        "params": {"temperature": 0, "output": Label.model_json_schema()},
        "model": "m",
    }
    assert Recipe(prompt="{{ a }}").describe() != Recipe(prompt="{{ b }}").describe()
    assert Recipe(params={"seed": 1, "top_p": 1}).describe() == Recipe(params={"top_p": 1, "seed": 1}).describe()


@pytest.mark.parametrize("name", ["prompt", "model", "system", "id", "temprature"])
def test_unknown_parameters_are_refused(name: str) -> None:
    """A misspelt parameter would be dropped in silence."""
    with pytest.raises(ConfigError, match=f"'{name}' is not a parameter for every call"):
        Recipe(params={name: "x"})


def test_wrong_values_are_found_when_the_recipe_is_made() -> None:
    """A wrong option would be reported as a broken row, or not before the run has begun."""
    with pytest.raises(ConfigError, match=r"^timeout is a number of seconds above 0, not -1"):
        Recipe(prompt="{{ a }}", params={"timeout": -1})


def test_a_broken_template_is_found_when_the_recipe_is_made() -> None:
    """A mistake in --system would show only at the first call."""
    with pytest.raises(ConfigError, match=r"^--system, line 1: "):
        Recipe(system="{{ text")


@pytest.mark.parametrize(
    ("columns", "recipe"),
    [
        ({"prompt": "x"}, {"images": ["{{ photo }}"]}),
        ({"prompt": "x", "photo": "nowhere.png"}, {"images": ["{{ photo }}"]}),
        ({"text": "x"}, {"prompt": "{{ nope }}"}),
        ({"prompt": "x", "id": []}, {}),
    ],
)
def test_where_a_row_stands_is_said_once(columns: dict[str, Any], recipe: dict[str, Any]) -> None:
    """A message would begin with the same place twice."""
    with pytest.raises(ConfigError) as caught:
        call(columns, **recipe)
    assert str(caught.value).count("a.jsonl, line 7") == 1
