"""The Arrow types of answers, before there is an answer."""

from __future__ import annotations

import enum
from datetime import date, datetime
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from flatout import ConfigError, Result
from flatout.tables._columns import Cell, Columns
from flatout.tables._types import kind_of

pa = pytest.importorskip("pyarrow")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    city: str
    at: tuple[float, float] | None = None


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Mail(BaseModel):
    label: Literal["spam", "ham"]
    colour: Colour = Colour.RED
    score: float | None
    sent: date
    seen: datetime
    place: Place
    words: list[str]
    counts: dict[str, int] = {}
    number: int | str = 1


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (None, pa.string()),
        (str, pa.string()),
        (int, pa.int64()),
        (float, pa.float64()),
        (bool, pa.bool_()),
        (date, pa.date32()),
        (datetime, pa.timestamp("us", "UTC")),
        (Colour, pa.string()),
        (Literal["a", "b"], pa.string()),
        (Literal[1, 2], pa.int64()),
        (Literal[1, "a"], pa.string()),
        (int | None, pa.int64()),
        (int | float, pa.float64()),
        (int | str, pa.string()),
        (list[int], pa.list_(pa.int64())),
        (list[list[str]], pa.list_(pa.list_(pa.string()))),
        (dict[str, int], pa.string()),
        (Any, pa.string()),
        ({"type": ["integer", "null"]}, pa.int64()),
        ({"enum": [True, False]}, pa.bool_()),
        ({"type": "array"}, pa.string()),
        ({"type": "object", "properties": {"a": {"type": "boolean"}}}, pa.struct([("a", pa.bool_())])),
        ({"type": "object", "properties": {}}, pa.string()),
    ],
)
def test_a_type_is_known_before_its_first_answer(output, kind):
    """An engine that fixes its columns first would have none, or a later answer would not fit."""
    assert kind_of(output).type == kind


def test_an_objects_fields_become_columns_of_their_types():
    """Users would have to take the answers apart themselves."""
    columns = Columns.of(Mail, None)
    assert {field.name: str(field.type) for field in columns.added(["text"])} == {
        "label": "string",
        "colour": "string",
        "score": "double",
        "sent": "date32[day]",
        "seen": "timestamp[us, tz=UTC]",
        "place": "struct<city: string, at: string>",
        "words": "list<item: string>",
        "counts": "string",
        "number": "string",
        "error": "string",
    }


def test_a_type_that_contains_itself_becomes_text():
    """A schema without an end would never be read to its end."""
    assert kind_of(Tree).type == pa.struct([("name", pa.string()), ("children", pa.list_(pa.string()))])


def test_every_value_fits_its_column():
    """An answer that was paid for would be lost on its way into the table."""
    mail = Mail.model_validate(
        {
            "label": "ham",
            "colour": "blue",
            "score": None,
            "sent": "2026-01-02",
            "seen": "2026-01-02T03:04:05",
            "place": {"city": "Brno", "at": [1, 2]},
            "words": ["a"],
            "counts": {"x": 1},
            "number": "seven",
        }
    )
    columns = Columns.of(Mail, None)
    batch = columns.batch([Cell(value=mail), Cell(error="RateLimited: no")], columns.added([]))
    [row, none] = batch.to_pylist()
    assert row["place"] == {"city": "Brno", "at": "[1.0,2.0]"}
    assert (row["colour"], row["words"], row["counts"], row["number"]) == ("blue", ["a"], '{"x":1}', "seven")
    assert (row["sent"], row["seen"].isoformat()) == (date(2026, 1, 2), "2026-01-02T03:04:05+00:00")
    assert none == {**dict.fromkeys(row), "error": "RateLimited: no"}


def test_an_answer_that_does_not_fit_costs_no_other():
    """One number beyond 64 bits would lose the answers of a thousand rows."""
    columns = Columns.of(int, "n")
    batch = columns.batch([Cell(value=1), Cell(value=2**70), Cell(value=3)], columns.added([]))
    assert batch.column("n").to_pylist() == [1, None, 3]
    [none, told, _] = batch.column("error").to_pylist()
    assert none is None
    assert told.startswith("SchemaMismatch: the answer does not fit a column of int64")


def test_a_struct_holds_a_whole_object_where_a_name_is_given():
    """A user who names the column would get others."""
    columns = Columns.of(Place, "place", tokens=True, cost="dollars")
    assert columns.added(["x"]).names == ["place", "error", "input_tokens", "output_tokens", "dollars"]


def test_a_second_question_to_a_table_has_an_error_column_of_its_own():
    """The second question's errors would replace the first one's, or the table be refused."""
    assert Columns.of(None, "topic").added(["text", "label", "error"]).names == ["topic", "topic_error"]
    assert Columns.of(None, "topic", error="why").added(["error"]).names == ["topic", "why"]
    assert Columns.of(None, "topic", error=False).added([]).names == ["topic"]


@pytest.mark.parametrize(
    ("into", "more", "named"), [("text", {}, "text"), (None, {"error": "text"}, "text"), ("a", {"cost": "a"}, "a")]
)
def test_a_column_is_not_replaced_unless_that_is_said(into, more, named):
    """A user's own column would be gone."""
    columns = Columns.of(None, into, **more)
    with pytest.raises(ConfigError, match=f"the table has a column {named} already"):
        columns.added(["text"])


def test_a_replaced_column_stays_in_its_place():
    """A column would wander to the end of the table each time it is asked again."""
    given = pa.schema([("label", pa.int8()), ("text", pa.string())], metadata={"a": "b"})
    made = Columns.of(None, "label", replace=True).schema(given)
    assert made.names == ["label", "text", "error"]
    assert made.field("label").type == pa.string()
    assert made.metadata == given.metadata


def test_what_is_no_type_is_refused_before_anything_is_sent():
    """A slip would cost a call for every row."""
    with pytest.raises(ConfigError, match="output takes a type"):
        Columns.of("label", None)


def test_an_output_of_a_functions_own_call_is_text():
    """A function that asks for objects would leave an empty column."""
    columns = Columns.of(None, None)
    result = Result(index=0, output=Place(city="Brno"))
    batch = columns.batch([Cell(value=result.output)], columns.added([]))
    assert batch.column("answer").to_pylist() == ['{"city":"Brno","at":null}']
