"""Half of a surrogate pair, and things that are said once."""

from __future__ import annotations

import json

import pytest

from flatout.durable.as_json import as_json, plain
from flatout.errors import ConfigError
from flatout.runs.story.node import as_text
from flatout.text.halves import JsonWriter, readable, to_json, utf8
from flatout.text.once import MOST, Once

HALF = "Zoë \ud83d"


@pytest.mark.parametrize("write", [to_json, plain, lambda value: as_json(value, "x"), JsonWriter(str)])
def test_half_of_a_pair_is_kept_in_json(write):
    """An answer that was paid for could not be written down, for one character."""
    assert json.loads(write({"a": [HALF]})) == {"a": [HALF]}
    assert write({"a": ["Zoë"]}) == '{"a":["Zoë"]}'.encode()


def test_half_of_a_pair_is_shown_as_a_question_mark():
    """A terminal, a file or the database would refuse the whole text."""
    assert readable(HALF) == "Zoë ?"
    assert utf8(HALF) == "Zoë ?".encode()
    assert readable("Zoë") == "Zoë"
    assert as_text([HALF]) == json.dumps([HALF])


@pytest.mark.parametrize("write", [plain, lambda value: as_json(value, "x")])
def test_equal_values_are_written_alike(write):
    """A step or a call would not be found again, and be paid for twice."""
    assert write({"b": 1, "a": HALF}) == write({"a": HALF, "b": 1})
    assert write({"b": 1, "a": 2}) == write({"a": 2, "b": 1}) == b'{"a":2,"b":1}'
    assert write({2: 1, 1: 2}) == write({1: 2, 2: 1})


def test_what_has_no_form_in_json_is_refused_in_the_callers_words():
    """A user would read of an encoder instead of the function that returned it."""
    with pytest.raises(ConfigError, match="the function returned a class"):
        as_json(object, "the function returned a class")


def test_a_thing_is_said_once():
    """A log would be full of the same sentence; or memory of what was said."""
    first_time = Once()
    assert [first_time("a"), first_time("a"), first_time("a", "b"), first_time("b")] == [True, False, True, True]
    assert sum(first_time(number) for number in range(2 * MOST)) == 2 * MOST
    assert first_time("a")
    first_time.forget()
    assert first_time("a")
