"""What is got out of answers that did not fit."""

from __future__ import annotations

import enum
import json
import time
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, field_validator

from flatout.providers.schemas.salvage import salvage
from flatout.text.jsonish import pieces
from flatout.values import Call, Reply, ToolCall


class City(BaseModel):
    name: str
    people: int | None = None
    twins: list[City] = []


class Label(enum.Enum):
    SPAM = "spam"
    HAM = "ham"


class Picky(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _explode(cls, value: int) -> int:
        raise KeyError(value)


OPEN = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def got(output: Any, text: str) -> Any:
    found = salvage(Call("x", output=output), Reply(text=text))
    if found is None:
        return "nothing"
    reply, _ = found
    assert reply.repaired
    return reply.output


BONN = City(name="Bonn")


@pytest.mark.parametrize(
    ("output", "text", "expected"),
    [
        (City, 'Sure! Here it is: {"name": "Bonn"} Anything else?', BONN),
        (City, 'Sure [1]:\n```json\n{"name": "Bonn"}\n```\nDone.', BONN),
        (City, 'In {braces} of prose: {"name": "Bonn"}', BONN),
        (City, '{"name": "Bonn"} and once more {"name": "Bonn"}', BONN),
        (City, '{"name": "Bonn", "peop', BONN),
        (
            City,
            '```json\n{"name": "Bonn", "twins": [{"name": "Oxford"}',
            City(name="Bonn", twins=[City(name="Oxford")]),
        ),
        (OPEN, 'n is {"n": 5}.', {"n": 5}),
        (list[int], "[1, 2]", [1, 2]),
        (list[int], "They are [1, 2].", [1, 2]),
        (list[str], '{"answer": ["a", "b', ["a"]),
        (list[City], '{"answer": [{"name": "Bonn"}, {"name": "Ox', "nothing"),
        (Label, "spam", Label.SPAM),
        (Label, ' "ham"\n', Label.HAM),
        (Label, "SPAM", Label.SPAM),
        (Label, "It is spam", Label.SPAM),
        (Literal["spam", "ham"], "Spam.", "spam"),
        (Literal["spam", "ham"], "**spam**", "spam"),
        (Literal["spam", "ham"], "The label is **Spam**.", "spam"),
        (Literal["spam", "ham"], '{"answer": "Spam"}', "spam"),
        (Literal["spam", "not spam"], "Label: not spam", "not spam"),
        (Literal[1, 2], "The rating is 2.", 2),
        ({"type": "string", "enum": ["spam", "ham"]}, "Ham.", "ham"),
        (Literal["spam", "ham"], "spam", "spam"),
        (Literal["spam", "ham"], '```\n"spam"\n```', "spam"),
        ({"enum": ["spam", "ham"]}, "ham", "ham"),
        ({"const": "ham"}, "ham", "ham"),
        (int, "5", 5),
        (City | None, "null", None),
        (City, "{name} " * 40 + '{"name": "Bonn"}', BONN),  # behind many braces of prose
        (City, '[see {"name": "Bonn"}]', BONN),
        (
            City,
            '{"name": "Bonn", "twins": [{"name": "Ox\nford",},],}',
            City(name="Bonn", twins=[City(name="Ox\nford")]),
        ),
        (City, '{"name": "Bonn" oops} I mean {"name": "Rome"}', City(name="Rome")),
        (City, '<think>{"name": "Rome"}?</think>{"name": "Bonn"}', BONN),
        (City, 'Well, {"name": "Rome"}? No.</think>{"name": "Bonn"}', BONN),
        (City, 'It is {"name": "</think>"}.', City(name="</think>")),
        (City, '{"name": "<think>Bonn</think>"} it is', City(name="<think>Bonn</think>")),
    ],
)
def test_what_is_there_is_got_out(output: Any, text: str, expected: Any) -> None:
    """An answer that is paid for and complete would be thrown away over the words around it."""
    assert got(output, text) == expected


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (City, '{"name": "Bo'),  # half a name is no name
        (OPEN, '{"n": 12'),  # it may have been 123
        (City, '{"name": "Bonn", "twins": [{"name": "Oxf'),  # a twin without a name
        (City, '{"name": 5, "twins": [{"name": "Oxford"}]}x'),  # a part is no answer
        (City, '{"people": 3, "twins": [{"name": "Oxford"}, '),
        (City, 'Either {"name": "Bonn"} or {"name": "Rome"}'),  # which?
        (City, '{"name": "Bonn" "twins": [{"name": "Oxford"}, "twin": {"name": "Oxford"}}'),  # a part of what is broken
        (City, '<think>Perhaps {"name": "Bonn"}? No.</think>'),
        (City, '<think>Perhaps {"name": "Bonn"}? N'),
        (City, '{"name": "Bonn",, "people": 3}'),
        (list[int], "Sorry ["),  # nothing was said
        (dict[str, int], "{"),
        (str, "hello"),
        (City, ""),
        (Label, "[" * 50_000 + "]" * 50_000),
        (Literal["spam", "ham"], "It is not spam"),
        (Literal["spam", "ham"], "Das ist kein Spam"),
        (Literal["spam", "ham"], "Is it spam?"),
        (Literal["spam", "ham"], "spam or ham"),
        (Literal["spam", "ham"], "spammer"),
        (Literal["spam", "ham"], "ham-fisted"),
        (Literal["spam", "ham"], "The label is spam, I think, but it may be something else."),
        (Literal["a", "A"], "the answer is a"),
        (Literal[1, 2], "2.5"),
        (Literal[1, 2], "1.2"),
        (None, '{"a": 1}'),
        (object(), '{"a": 1}'),
        (City, "[" * 50_000),
        (City, "\ud800{"),
        (City, '{"name": "' + "a" * 1_000_000),  # in no time
        (City, "```json\n" + "\n" * 1_000_000 + "x"),
    ],
)
def test_nothing_is_made_up(output: Any, text: str) -> None:
    """Half a value, a part of the answer or a guess would pass for what the model said."""
    assert got(output, text) == "nothing"


def test_a_validator_that_fails_is_heard_of() -> None:
    """A user's own bug would look like answers that do not fit, and be paid for again and again."""
    with pytest.raises(KeyError):
        got(Picky, 'x {"n": 1}')


UNITS = [
    "[",
    "{",
    '{"a":',
    '{"a":[',
    "[1",
    "[1x",
    '["',
    '["\\"',
    '\\"',
    "<think>",
    "</think>",
    "[THINK]",
    "[1] ",
    '{"n": 1} ',
    "{ ",
]


@pytest.mark.parametrize("unit", UNITS)
def test_time_grows_with_the_text_and_no_faster(unit: str) -> None:
    """One odd answer of megabytes would hold up every other call for minutes."""

    def took(count: int) -> float:
        times = []
        for _ in range(3):
            began = time.process_time()
            got(City, "It is: " + unit * count)
            times.append(time.process_time() - began)
        return min(times)

    small = took(1_000)
    assert took(16_000) < 50 * max(small, 1e-4)  # 16 in proportion, 256 for a square


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.data(),
)
def test_mended_json_is_json(value: Any, data: st.DataObject) -> None:
    """What is got out of an answer that was cut off anywhere would not be JSON, or say what the model did not."""
    text = json.dumps([value], ensure_ascii=False)
    (whole,) = pieces(text)
    assert whole.whole
    assert json.loads(whole.text) == [value]
    for piece in pieces(text[: data.draw(st.integers(1, len(text) - 1))]):
        assert not piece.whole
        json.loads(piece.text)


def test_tool_calls_are_no_answer() -> None:
    """A request for a tool would be taken for the answer, and the tool never be run."""
    asked = Reply(text='{"name": "Bonn"}', tool_calls=(ToolCall(id="1", name="f", arguments="{"),))
    assert salvage(Call("x", output=City), asked) is None


OUTPUTS: list[Any] = [City, list[City], Label, dict[str, int], int, OPEN, City | None]
PIECES = st.sampled_from(
    ['{"name": "Bonn"', "}", '"', "[", "]", "5", "spam", ", ", '"n": ', "\\", "```json\n", '"answer": ']
)


@settings(max_examples=200)
@given(st.sampled_from(OUTPUTS), st.text(max_size=30) | st.lists(PIECES, max_size=8).map("".join))
def test_what_is_salvaged_fits(output: Any, text: str) -> None:
    """The run would crash on an odd answer, or hand out an object that is not what was asked for."""
    found = salvage(Call("x", output=output), Reply(text=text))
    if found is None:
        return
    reply, _ = found
    if output is OPEN:
        assert isinstance(reply.output["n"], int)
    else:
        TypeAdapter(output).validate_python(reply.output, strict=True)


CITIES = st.recursive(
    st.builds(City, name=st.text(), people=st.none() | st.integers()),
    lambda inner: st.builds(City, name=st.text(), twins=st.lists(inner, max_size=2)),
    max_leaves=4,
)


@given(CITIES, st.text(alphabet=st.characters(exclude_characters="{}[]", exclude_categories=["Cs"]), max_size=20))
def test_any_object_is_found_in_prose(city: City, prose: str) -> None:
    """Answers with quotes, brackets or line breaks in their texts would be lost."""
    assert got(City, f"{prose}\n{city.model_dump_json(indent=1)}\n{prose}") == city


@given(st.data())
def test_what_is_cut_off_never_says_more(data: st.DataObject) -> None:
    """A cut-off answer would hold a number or a name that the model never wrote."""
    whole = {"name": "Bonn am Rhein", "people": 336465, "twins": [{"name": "Oxford", "people": 162100}]}
    text = json.dumps(whole)
    cut = got(City, text[: data.draw(st.integers(0, len(text) - 1))])
    if cut == "nothing":
        return
    assert cut.name == whole["name"]
    assert cut.people in (None, 336465)
    assert all(twin.name == "Oxford" and twin.people in (None, 162100) for twin in cut.twins)
