from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.errors import ConfigError
from flatout.runs import template as templates
from flatout.runs.rows import Row, Source
from flatout.runs.template import Template, listed, template_text


def row(**columns: Any) -> Row:
    return Row(0, 7, columns, Source("mails.csv", "csv"))


def render(text: str, /, **columns: Any) -> str:
    return Template(text).render(row(**columns))


def test_columns_are_put_in_as_they_are() -> None:
    """A prompt would reach the model with HTML escapes, a lost line end, or values in Python's quotes."""
    assert render("Spam? {{ text }}\n", text="<b> & 'you'\n") == "Spam? <b> & 'you'\n\n"
    assert render("{{ n }} {{ f }} {{ yes }}", n=3, f=0.5, yes=True) == "3 0.5 True"
    assert render("{{ x | tojson }}", x={"a": "<é>"}) == '{"a":"<é>"}'
    assert render("{% for t in tags %}[{{ t }}]{% endfor %}", tags=["a", "b"]) == "[a][b]"


def test_values_are_never_templates() -> None:
    """A mail that contains {{ … }} could run code in the user's process."""
    assert render("{{ text }}", text="{{ 7 * 7 }} {% raw %}") == "{{ 7 * 7 }} {% raw %}"


def test_columns_that_are_no_identifiers() -> None:
    """A CSV with the header "Mail text" could not be used."""
    template = Template('{{ row["Mail text"] }}')
    assert template.render(Row(0, 1, {"Mail text": "hi"})) == "hi"
    assert render("{{ row }}", row="own column") == "own column"
    with pytest.raises(ConfigError, match=r"mails\.csv, line 7: --prompt: .*Mail text"):
        template.render(row(text="x"))


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("{{ a }} {{ b.c }} {% if d %}{% endif %}", {"a", "b", "d"}),
        ("{% for x in xs %}{{ x }}{{ loop.index }}{% endfor %}", {"xs"}),
        ("{% set x = 1 %}{{ x }}{{ range(3) }}", set()),
        ("{{ a | default('') }}{% if b is defined %}{{ b }}{% endif %}{{ c }}", {"c"}),
        ("{{ row['x'] }}", set()),
        ("no columns", set()),
    ],
)
def test_the_columns_a_template_needs(text: str, needed: set[str]) -> None:
    """A misspelt column would be found only when its call is made; an optional one would be demanded."""
    assert Template(text).columns() == needed


def test_optional_columns_may_be_absent() -> None:
    """Rows that do not all have the same keys could not be handled by a template."""
    assert render("{{ a | default('none') }}{% if b is defined %}{{ b }}{% endif %}", c=1) == "none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one\n{{ text", r"^--prompt, line 2: "),
        ("{% if %}", r"^--prompt, line 1: "),
        ("{{ x | nofilter }}", r"^--prompt, line 1: No filter named 'nofilter'"),
        ("{% include 'secret.txt' %}", r"^--prompt: a template cannot include or import another one"),
        ("{% extends 'x' %}", r"cannot include or import"),
        ("{{ " + "(" * 5_000, r"^--prompt"),
    ],
)
def test_a_template_that_does_not_compile(text: str, message: str) -> None:
    """A mistake in a template would end in a traceback, or show only at the first row."""
    with pytest.raises(ConfigError, match=message):
        Template(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ txt }}", r"mails\.csv, line 7: --prompt uses {{ txt }}, but this row has no column txt; it has: text, n$"),
        ("{{ n.missing }}", r"mails\.csv, line 7: --prompt: .*no attribute 'missing'"),
        ("{{ text + n }}", r"mails\.csv, line 7: --prompt: can only concatenate"),
        ("{{ 1 / 0 }}", r"mails\.csv, line 7: --prompt: division by zero"),
    ],
)
def test_a_row_that_does_not_fit_is_named(text: str, message: str) -> None:
    """A user would not know which of a million rows a template fails on."""
    with pytest.raises(ConfigError, match=message):
        render(text, text="x", n=5)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ text.__class__.__base__.__subclasses__() }}",
        "{{ row.__init__.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ tags.append(1) }}",
        "{{ '{0.__class__}'.format(text) }}",
        "{{ range(1000000) | length }}",
        "{{ text * 100000000 }}",
        "{{ 100000000 * text }}",
        "{{ [1] * 100000000 }}",
        "{{ 9 ** 99999999 }}",
        "{{ lipsum() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_the_sandbox_holds(text: str) -> None:
    """A template from someone else could read the keys in the process, or fill its memory."""
    with pytest.raises(ConfigError, match=r"mails\.csv, line 7: --prompt"):
        render(text, text="x", tags=["a"])


def test_output_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested loops in a template would fill the memory."""
    monkeypatch.setattr(templates, "LONGEST_PROMPT", 1_000)
    text = "{% for a in range(99999) %}{% for b in range(99999) %}{{ x }}{% endfor %}{% endfor %}"
    with pytest.raises(ConfigError, match="makes more than 1,000 characters"):
        render(text, x="y")
    assert len(render("{% for a in range(1000) %}{{ x }}{% endfor %}", x="y")) == 1_000


def test_templates_from_files(tmp_path: Path) -> None:
    """A long prompt would have to be quoted for the shell."""
    (tmp_path / "p.txt").write_text("Spam? {{ text }}\nAnswer:\n", encoding="utf-8-sig")
    assert template_text(f"@{tmp_path}/p.txt") == "Spam? {{ text }}\nAnswer:"
    assert template_text("{{ a }}") == "{{ a }}"
    assert template_text("@@user {{ a }}") == "@user {{ a }}"
    with pytest.raises(ConfigError, match=r"--system: .*gone.txt cannot be read: No such file"):
        template_text(f"@{tmp_path}/gone.txt", "--system")
    (tmp_path / "b.txt").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        template_text(f"@{tmp_path}/b.txt")


def test_plain_templates_are_told_from_those_that_compute() -> None:
    """A row that a template fails on would be found only after the rows before it were paid for."""
    assert Template("Spam? {{ text }} {{ n }}").plain
    assert not any(
        Template(text).plain for text in ("{{ a.b }}", "{{ a | trim }}", "{% if a %}{% endif %}", "{{ row.x }}")
    )


def test_lists_of_columns_stay_short() -> None:
    """A message about a wide table would fill the screen."""
    assert listed(f"c{n}" for n in range(25)).endswith("c19 and 5 more")
    assert listed([]) == "none"
    assert len(listed(["x" * 500])) == 60


@settings(deadline=None)
@given(text=st.text(max_size=30), value=st.text(max_size=30) | st.none() | st.integers() | st.lists(st.text()))
def test_any_template_and_value_give_text_or_a_plain_error(text: str, value: Any) -> None:
    """Some template or value would end in a traceback."""
    with contextlib.suppress(ConfigError):
        assert isinstance(render(f"{text}{{{{ x }}}}", x=value), str)
