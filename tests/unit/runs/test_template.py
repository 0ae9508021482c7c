from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.errors import ConfigError
from flatout.runs.input.rows import InputSource, Row
from flatout.runs.prompts import sandbox
from flatout.runs.prompts.template import Template, check_is_no_file, check_varies, listed


def row(**columns: Any) -> Row:
    return Row(0, 7, columns, InputSource("mails.csv", "csv"))


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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "Spam? {{ Mail text }}",
            '{{ Mail text }} is no placeholder; a column with this name is written {{ row["Mail t',
        ),
        ("{{ a if b }}{{Größe cm}}", 'a column with this name is written {{ row["Größe cm"] }}'),
        ("{{ a b }} {{ c | nofilter }}", "{{ a b }} is no placeholder"),
        ("{{ a if b }} {{ c", "unexpected"),
    ],
)
def test_a_name_of_several_words_is_told_how_to_write_it(text: str, why: str) -> None:
    """A CSV with the header "Mail text" would meet "expected token 'end of print statement', got 'text'"."""
    with pytest.raises(ConfigError) as caught:
        Template(text)
    assert why in str(caught.value)


def test_a_name_with_a_dash_is_told_how_to_write_it() -> None:
    """Jinja subtracts, and so misses columns that nobody has named."""
    with pytest.raises(ConfigError, match=r'no column Mail; it has: Mail-text, id; write {{ row\["Mail-text"\] }} for'):
        Template("{{ Mail-text }}").render(row(**{"Mail-text": "x", "id": 1}))


def test_columns_that_are_no_identifiers() -> None:
    """A CSV with the header "Mail text" could not be used."""
    template = Template('{{ row["Mail text"] }}')
    assert template.render(Row(0, 1, {"Mail text": "hi"})) == "hi"
    assert render("{{ row }}", row="own column") == "own column"
    with pytest.raises(
        ConfigError, match=r'mails\.csv, line 7: --prompt uses \{\{ row\["Mail text"\] \}\}, but this row has no'
    ):
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


GROWING = "{% set n = namespace(x=START) %}{% for i in range(60) %}{% set n.x = GROWN %}{% endfor %}"


def growing(start: str, grown: str, end: str = "") -> str:
    """A template that makes a value of itself, sixty times."""
    return GROWING.replace("START", start).replace("GROWN", grown) + end


LAUGHS = growing("(1,)", "(n.x, n.x)")
"""A value that is small in memory and endless to look through."""

LONG = "('x' * 1000000)"


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}" + "{% endfor %}" * 3,
        "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ range(99999) | sum }}{% endfor %}",
        "{% for a in range(99999) %}{% if range(99999) | map('string') | list %}{% endif %}{% endfor %}",
        "{% set r = range(99999) | list %}{% for a in r %}{{ -1 in r }}{% endfor %}",
        "{% set r = range(99999) | list %}{% for a in r %}{% if r[1:] %}{% endif %}{% endfor %}",
        "{% set t = 'x' * 9999999 %}{% for a in range(99999) %}{% if t.upper() %}{% endif %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
        growing("'xx'", "n.x ~ n.x"),
        growing("'xx'", "n.x + n.x"),
        growing("[1]", "n.x + n.x"),
        growing("3", "n.x * n.x"),
        LAUGHS + "{{ n.x }}",
        LAUGHS + "{{ [n] }}{{ n.x | tojson }}",
        LAUGHS + "{{ {n.x: 1} }}",
        LAUGHS + "{{ {}.get(n.x) }}",
        LAUGHS + "{{ {}[n.x] }}",
        LAUGHS + "{{ [n.x] | unique | list | length }}",
        growing("[1]", "[n.x, n.x]", "{{ n.x == n.x + [1] }}"),
        growing("[1]", "[n.x, n.x]", "{{ [n.x] | select('eq', n.x) | list }}"),
        growing("'xx'", "[n.x, ('ab ' * 1000000).split()]"),
        "{{ 'x'.ljust(10000000000) }}",
        "{{ 'x' | center(10000000000) }}",
        r"{{ ('\t' * 100000).expandtabs(1000000) }}",
        r"{{ ('\n' * 1000000) | indent(1000000) }}",
        f"{{{{ {LONG}.replace('x', {LONG}) }}}}",
        f"{{{{ {LONG} | replace('', {LONG}) }}}}",
        f"{{{{ {LONG}.join({LONG}) }}}}",
        f"{{{{ range(99999) | join({LONG}) }}}}",
        f"{{{{ {LONG}.translate({{120: {LONG}}}) }}}}",
        f"{{{{ {LONG} | wordwrap(1, wrapstring={LONG}) }}}}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '%.1000000000f' | format(1.5) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000000000) }}",
        "{{ ('{0:9999}' * 100000).format(1) }}",
        "{{ [1] | slice(10000000000) | list }}",
        "{{ [1] | batch(10000000000, 'x') | list }}",
        "{{ 1.5 | round(1000000000, 'ceil') }}",
        "{{ [[1]] | sum(start=[]) }}",
        "{{ (1).to_bytes(10000000000) }}",
        "{{ ('é' * 200000).encode('punycode') }}",
        "{{ ('日' * 30000000) | sort | length }}",
        "{% macro m() %}{% endmacro %}{{ m(*('日' * 30000000)) }}",
        "{% set x %}" + "{{ 'x' * 9999 }}" * 9 + "{% endset %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    ],
)
def test_no_template_takes_time_or_memory_without_end(text: str) -> None:
    """A template from someone else would stop the program, or take the machine's memory."""
    with pytest.raises(ConfigError, match=r"mails\.csv, line 7: --prompt: \S") as caught:
        render(text)
    assert len(str(caught.value)) < 200


def test_what_people_write_stays_far_below_the_bounds() -> None:
    """A long document, or a long list in a row, would be refused."""
    document = "A sentence of a contract, with words in it. " * 20_000
    turns = [{"role": "user", "text": f"turn {n}", "tags": ["a", "b"]} for n in range(5_000)]
    text = """{{ text | trim | replace("\n", " ") }}{{ text[:500] }}{{ text.split(".") | length }}
        {% for turn in turns if turn.role == "user" %}{{ loop.index }}. {{ turn.role | upper }}: {{ turn.text }}
        {{ turn.tags | join(", ") }}{% if not loop.last %}; {% endif %}{% endfor %}{{ turns[:50] | tojson }}"""
    assert len(render(text, text=document, turns=turns)) > len(document)


@pytest.mark.parametrize(
    "text",
    [
        "{{ x }}",
        "Say {{ x }}",
        "{{ a.b }}",
        "{{ row['x'] }}",
        "{{ 'a' ~ x }}",
        "{{ x | upper }}",
        "{{ [x] | join }}",
        "{{ '%s' % x }}",
        "{{ '{}'.format(x) }}",
        "{{ nan }}",
        "{{ a.get('gone') }}",
    ],
)
def test_nulls_are_refused_unless_they_are_provided_for(text: str) -> None:
    """The model would be asked about the word None."""
    values = row(x=None, a={"b": None}, nan=float("nan"))
    with pytest.raises(ConfigError, match=r"mails\.csv, line 7: .* is null; --nulls empty puts nothing"):
        Template(text).render(values)
    assert Template(text, nulls="empty").render(values).lower() in ("", "say ", "a")
    assert "n" in Template(text, nulls="None").render(values).lower()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{% if x %}{{ x }}{% endif %}", ""),
        ("{{ x or '-' }}", "-"),
        ("{{ x | default('-') }}", "-"),
        ("{{ 'none' if x is none else x }}", "none"),
        ("{{ x | tojson }}", "null"),
        ("{{ x | int }}", "0"),
    ],
)
def test_a_template_may_ask_for_null(text: str, expected: str) -> None:
    """A column that is often null could not be used at all."""
    assert render(text, x=None) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Spam?", r"--prompt asks the same of every row, .* such as {{ text }}; if you mean that, add --same-prompt"),
        ("Spam? {text}", r"has no placeholder; {text} is written {{ text }};"),
        ("Spam? $text", r"\$text is written {{ text }};"),
        ("Spam? ${text}", r"\${text} is written {{ text }};"),
        ("Spam? %(text)s", r"%\(text\)s is written {{ text }};"),
        ("{% set x = 1 %}{{ x }}", r"asks the same of every row"),
    ],
)
def test_a_prompt_without_a_placeholder_is_told(text: str, message: str) -> None:
    """Ten thousand rows would be paid for, each of which was asked the same."""
    with pytest.raises(ConfigError, match=message):
        check_varies(Template(text))
    check_varies(Template("{{ text }} {other} $5"))
    check_varies(Template("Is {{ range }} a fair price?"))  # a column, though Jinja has a function of that name


def test_the_name_of_a_file_is_no_prompt(tmp_path: Path) -> None:
    """Every row would be asked about the file's name, for want of an @."""
    (tmp_path / "p.txt").write_text("Spam? {{ text }}")
    with pytest.raises(ConfigError, match=r"--system .*p\.txt: is a file; for its text, write --system @.*p\.txt"):
        check_is_no_file(Template(str(tmp_path / "p.txt"), "--system"))
    for text in (str(tmp_path / "q.txt"), "x" * 9_000, "a\0b", f"{tmp_path}/p.txt {{{{ text }}}}"):
        check_is_no_file(Template(text))


def test_output_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested loops in a template would fill the memory."""
    monkeypatch.setattr(sandbox, "LONGEST_PROMPT", 1_000)
    text = "{% for a in range(99999) %}{% for b in range(99999) %}{{ x }}{% endfor %}{% endfor %}"
    with pytest.raises(ConfigError, match="makes more than 1,000 characters"):
        render(text, x="y")
    assert len(render("{% for a in range(1000) %}{{ x }}{% endfor %}", x="y")) == 1_000


def test_plain_templates_are_told_from_those_that_compute() -> None:
    """A row that a template fails on would be found only after the rows before it were paid for."""
    assert Template("Spam? {{ text }} {{ n }}").plain
    assert not any(
        Template(text).plain for text in ("{{ a.b }}", "{{ a | trim }}", "{% if a %}{% endif %}", "{{ row.x }}")
    )


@pytest.mark.parametrize("text", ["{{ a }}", "x{{ a }}\n{{ b }} {{ a }}", "{{ range }}", "{{ a }}{# c #}"])
def test_plain_templates_make_what_jinja_makes(text: str) -> None:
    """The short way for most templates would ask something else than the long one."""
    values = row(a="<é>", b=[1, "x"], range="own")
    plain = Template(text)
    long = Template("{% if true %}" + text + "{% endif %}")
    assert (plain.render(values), long.plain) == (long.render(values), False)
    assert len(Template("{{ a }}" * 9).render(row(a="x" * 999_999))) == 9 * 999_999


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
