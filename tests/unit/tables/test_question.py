"""What is asked of each row, and what is refused before anything is asked."""

from __future__ import annotations

import pytest

from flatout import Call, ConfigError
from flatout.tables._question import Question

COLUMNS = ["text", "Mail text", "n"]


def test_a_missing_column_is_named_with_the_nearest():
    """The user would have to find the slip himself, or pay for a thousand errors."""
    with pytest.raises(ConfigError, match=r"prompt uses {{ txt }}, but the table has no column txt; .* mean text\?$"):
        Question("{{ txt }}").check(COLUMNS)
    Question("{{ text }} {{ note | default('-') }}").check(COLUMNS)
    Question(lambda row: row["anything"]).check(COLUMNS)


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [
        ("Spam or ham?", "prompt asks the same of every row.*give a function of a row$"),
        ("Spam or ham? {text}", "{text} is written {{ text }}"),
        ("{{ text", "prompt, line 1"),
        (5, "prompt is a template or a function of a row, not a int"),
    ],
)
def test_a_prompt_that_cannot_be_meant_is_refused(prompt, complaint):
    """Every row would be asked the same, and paid for."""
    with pytest.raises(ConfigError, match=complaint):
        Question(prompt)


def test_only_the_columns_that_are_named_are_read():
    """A column that Arrow cannot hold would spoil a question that has nothing to do with it."""
    assert Question("{{ text }} {{ n | default(1) }}").reads(COLUMNS) == ["text", "n"]
    assert Question("{{ row['Mail text'] }}").reads(COLUMNS) == COLUMNS
    assert Question(lambda row: "x").reads(COLUMNS) == COLUMNS
    of_jinja = [*COLUMNS, "range", "dict"]
    assert Question("{{ text }} {{ range }}").reads(of_jinja) == ["text", "range"]


def test_a_system_prompt_may_name_columns_too():
    """Its braces would be sent as they are."""
    asked = Question("{{ text }}", "Answer in {{ n }}.")
    assert asked.call(0, {"text": "a", "n": "Czech"}) == {"prompt": "a", "system": "Answer in Czech."}
    assert Question("{{ text }}", "Be short.").common == {"system": "Be short."}


def test_a_function_makes_the_call_of_a_row():
    """Pictures, models and parameters that differ by row could not be asked for."""
    made = Question(lambda row: Call(row["text"], temperature=row["n"])).call(0, {"text": "a", "n": 1})
    assert made == Call("a", temperature=1)


def test_nulls_are_refused_or_inserted_as_told():
    """A null would be asked about as if it were a word."""
    with pytest.raises(ConfigError, match=r"^the column text is null; nulls='empty' puts nothing in its place"):
        Question("About {{ text }}").call(6, {"text": None})
    assert Question("About {{ text }}", nulls="None").call(6, {"text": None}) == "About None"
    with pytest.raises(ConfigError, match=r"^the prompt is empty$"):
        Question("{{ text }}", nulls="empty").call(6, {"text": None})


def test_the_columns_of_a_wide_table_are_compared_once_each():
    """A table of ten thousand columns, and a function as its prompt, would take seconds before the first row."""

    class Name(str):
        compared = 0

        def __eq__(self, other):
            Name.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [Name(f"column {number}") for number in range(500)]
    Question(str).check(names)
    assert Name.compared < 5_000
