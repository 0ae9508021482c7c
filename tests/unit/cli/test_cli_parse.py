from __future__ import annotations

import json
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.cli.parse import command_line, headers, number, output_of, params, share, text_or_file
from flatout.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [("500", 500), ("10_000", 10_000), ("10,000", 10_000), ("10k", 10_000), ("2M", 2_000_000), (" 1.5K ", 1_500)],
)
def test_limits_are_taken_as_people_write_them(text: str, value: float) -> None:
    """`--rpm 10k` would be refused, or mean ten."""
    assert number("--rpm", text) == value


@pytest.mark.parametrize("text", ["", "k", "0", "-5", "ten", "1e999", "nan", "inf", "10kk", "5 000"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    """A typing error would run without a limit."""
    with pytest.raises(ConfigError, match="--rpm is a number above 0"):
        number("--rpm", text)


@pytest.mark.parametrize(("text", "value"), [("0.02", 0.02), ("2%", 0.02), ("0", 0), ("100%", 1)])
def test_shares_are_taken_as_numbers_or_percent(text: str, value: float) -> None:
    """`--error-500 2%` would mean 200 %."""
    assert share("--reset", text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["2", "-1%", "x", "101%", ""])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    """The simulator would run with a nonsensical fault."""
    with pytest.raises(ConfigError, match="share from 0 to 1"):
        share("--reset", text)


@given(st.text(max_size=12))
def test_numbers_and_shares_never_fail_otherwise(text: str) -> None:
    """Odd input would end in a traceback."""
    for parse in (number, share):
        try:
            value = parse("--rpm", text)
        except ConfigError:
            continue
        assert value is not None
        assert value >= 0


def test_parameters_go_where_the_call_knows_them() -> None:
    """A parameter would be sent under the wrong name, as text, or not at all."""
    assert params(
        ["temperature=0", "max_tokens=20", "stop=END", 'response_format={"type":"json_object"}', "effort=high", "x==1"]
    ) == {
        "temperature": 0.0,
        "max_tokens": 20,
        "stop": "END",
        "extra": {"response_format": {"type": "json_object"}, "effort": "high", "x": "=1"},
    }


def test_a_value_that_must_be_text_stays_text() -> None:
    """`--param stop=5` would be refused, though it can mean but one thing."""
    assert params(["stop=5", "reasoning_effort=high", "seed=5", "tool_choice=auto"]) == {
        "stop": "5",
        "reasoning_effort": "high",
        "seed": 5,
        "tool_choice": "auto",
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("temperature", "takes name=value"),
        ("=1", "takes name=value"),
        ("temperature=hot", "takes a number, not 'hot'"),
        ("max_tokens=1.5", "takes a whole number, not"),
        ("max_tokens=0", "takes a whole number above 0, not"),
        ("logprobs=maybe", "takes true or false or a whole number, not"),
        ("model=x", "use --model"),
        ("prompt=x", "use --prompt"),
        ("timeout=3", "use --timeout"),
    ],
)
def test_wrong_parameters_are_named(text: str, why: str) -> None:
    """A wrong parameter would be found out by a thousand failed calls."""
    with pytest.raises(ConfigError, match=why):
        params([text])


@given(st.text(max_size=20))
def test_any_parameter_is_taken_or_refused_in_a_sentence(text: str) -> None:
    """Odd input would end in a traceback."""
    assert params([f"x={text}"]).keys() == {"extra"}
    assert isinstance(params([f"reasoning_effort={text}"])["reasoning_effort"], str | None)
    with suppress(ConfigError):
        params([text])


def test_prompts_come_from_files(tmp_path: Path) -> None:
    """`--prompt @file` would send the file's name to the model."""
    (tmp_path / "p.txt").write_bytes("\ufeffSumme: {{ ä }}\n".encode())
    assert text_or_file("--prompt", f"@{tmp_path}/p.txt") == "Summe: {{ ä }}\n"
    assert text_or_file("--prompt", "plain") == "plain"
    assert text_or_file("--prompt", "@@you") == "@you"
    assert text_or_file("--prompt", None) is None


def test_prompt_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A missing prompt file would end in a traceback."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, why in (("missing", "No such file"), ("binary", "not UTF-8"), (".", "directory"), ("\0", "null byte")):
        with pytest.raises(ConfigError, match=why):
            text_or_file("--prompt", f"@{tmp_path}/{name}")


def test_headers_are_split_at_the_first_colon() -> None:
    """A header with a colon in its value would be cut off."""
    assert headers(["X-Trace: a:b ", "Y:1"]) == {"X-Trace": "a:b", "Y": "1"}


@pytest.mark.parametrize("text", ["Authorization Bearer sekret", ": sekret", "A B: sekret", "A: sekret\r\nB: 1"])
def test_wrong_headers_are_refused_without_their_value(text: str) -> None:
    """A key that was typed in the wrong form would be printed, or a header smuggled in."""
    with pytest.raises(ConfigError) as caught:
        headers([text])
    assert "sekret" not in str(caught.value)


def test_the_command_to_go_on_with_has_no_keys_and_starts_nothing_anew() -> None:
    """A key would be stored in the run file, or going on would throw the run away."""
    line = command_line(
        [
            "run",
            "a b.jsonl",
            "--header",
            "X-Key: sekret",
            "--header=Cookie: sekret",
            "--fresh",
            "-m",
            "x/y",
            "--param=key=sekret",
        ]
    )
    assert "sekret" not in line
    assert "--fresh" not in line
    assert line.startswith("flatout run 'a b.jsonl' --header 'X-Key: …'")


@given(st.lists(st.from_regex(r"[a-z{} '\"$@]{1,10}", fullmatch=True), max_size=4))
def test_the_command_to_go_on_with_can_be_typed_again(arguments: list[str]) -> None:
    """A prompt with quotes or dollars would break when the printed command is pasted."""
    assert shlex.split(command_line(["run", *arguments])) == ["flatout", "run", *arguments]


def test_choices_are_words_in_their_order() -> None:
    """Blanks after a comma would become part of a label, and an empty one be an answer."""
    assert output_of(None, "spam, ham,,spam") == {"output": Literal["spam", "ham"]}
    assert output_of(None, None) == {}


def test_a_schema_is_taken_as_it_is(tmp_path: Path) -> None:
    """A schema would be sent otherwise than it was written."""
    schema = {"title": "P", "type": "object", "properties": {"p": {"$ref": "#/$defs/p"}}, "$defs": {"p": {}}}
    (tmp_path / "p.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(schema).encode())
    assert output_of(str(tmp_path / "p.json"), None) == {"output": schema}


@pytest.mark.parametrize("choices", ["", ",", "one", "one,one", " , one"])
def test_one_choice_is_none(choices: str) -> None:
    """A typing error would make every answer the same, and cost a call each."""
    with pytest.raises(ConfigError, match="--choices takes the answers to choose from"):
        output_of(None, choices)
