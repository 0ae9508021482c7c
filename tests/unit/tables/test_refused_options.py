"""What a question to a table does not take: it is told before a row is paid for."""

from __future__ import annotations

import pytest

from flatout import Budget, ConfigError
from flatout.tables import Answers, answer, embed
from tests.support.answered_tables import Lines, options

pa = pytest.importorskip("pyarrow")

TABLE = pa.table({"text": ["one", None, "two"], "Mail text": ["a", "b", "c"]})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"nulls": "foo"}, "nulls is 'error' or 'empty' or 'None', not 'foo'"),
        ({"nulls": None}, "nulls is 'error' or 'empty' or 'None', not None"),
        ({"nulls": ["error"]}, "nulls is .*, not \\['error'\\]"),
        ({"models": ["a", "b"]}, "models is no option here: a table has one answer a row: ask once for each model"),
        ({"samples": 3}, "samples is no option here: a table has one answer a row"),
        ({"workers": 2}, "workers is no option here: a table is answered by one process"),
        ({"strict": True}, "strict is no option here: a row that fails has its error in a column"),
        ({"into": ""}, "into is the name of a column, not ''"),
        ({"into": 1}, "into is the name of a column, not 1"),
        ({"into": "error"}, "into and error would both add a column error; choose another name for one"),
        ({"into": "input_tokens", "tokens": True}, "into and tokens would both add a column input_tokens"),
        ({"error": "why", "cost": "why"}, "error and cost would both add a column why"),
        ({"error": ""}, "error is True, False or the name of a column, not ''"),
        ({"tokens": "used"}, "tokens is True or False, not 'used'"),
        ({"retry_failed": True}, "retry_failed asks the failed calls of a run file again: give its name, store="),
        ({"cache_max_age": "7d"}, "cache_max_age is for a cache, and there is none: add cache=True"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(wrong, told):
    """Every row would be paid for, and its answer be lost, doubled or in a column of another name."""
    wire = Lines()
    with pytest.raises(ConfigError, match=told):
        answer(TABLE, "Say {{ text }}", **options(wire, **wrong))
    with pytest.raises(ConfigError, match=told):
        answer(TABLE, lambda row: f"Say {row['text']}", **options(wire, **wrong))
    assert wire.prompts == []


def test_options_that_would_do_nothing_are_refused():
    """A user would believe that failed rows were asked again, or nulls be left out."""
    wire = Lines()
    with pytest.raises(ConfigError, match="nulls is for templates: a function receives None"):
        answer(TABLE, lambda row: f"Say {row['text']}", nulls="empty", **options(wire))
    with pytest.raises(ConfigError, match="retry_failed asks the failed calls of a run file again"):
        answer(iter(TABLE.to_batches()), "Say {{ text }}", retry_failed=True, **options(wire))
    with pytest.raises(ConfigError, match="retry_failed asks the failed calls of a run file again"):
        Answers("Say {{ text }}", **options(wire))(TABLE, retry_failed=True)
    with pytest.raises(ConfigError, match="retry_failed asks the failed calls of a run file again"):
        embed(TABLE, "text", model="m", retry_failed=True, config={})
    assert wire.prompts == []


def test_names_that_nobody_else_has_may_be_used():
    """A table without a column for errors could not have an answer of that name."""
    made = answer(TABLE, "Say {{ text }}", into="error", error=False, **options(Lines()))
    assert made.column("error").to_pylist() == ["about one", None, "about two"]
    made = answer(TABLE, "Say {{ text }}", into="error", error="why", **options(Lines()))
    assert made.schema.names[-2:] == ["error", "why"]


@pytest.mark.parametrize("name", ["store", "retry_failed", "lane", "within", "progress", "ahead"])
def test_what_belongs_to_one_table_is_refused_for_many(name):
    """The second table would be refused as another job's, or the file be locked by the first one."""
    with pytest.raises(ConfigError, match=rf"{name} belongs to one table: flatout\.tables\.answer takes it"):
        Answers("{{ text }}", **options(Lines(), **{name: True}))
    with pytest.raises(ConfigError, match="cache= keeps the answers to many tables"):
        Answers("{{ text }}", **options(Lines(), store="run.flatout"))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"model": None}, "no model: name one"),
        ({"budget": 1.0}, "the price of .* is not known, so a budget cannot be kept"),
        ({"budget": Budget(usd=1.0)}, "the price of .* is not known"),
    ],
)
def test_what_would_fail_every_row_is_refused_before_the_first(wrong, told):
    """A user would have a table of equal errors, and look for a fault in the rows."""
    wire = Lines()
    for ask in (
        lambda: answer(TABLE, "Say {{ text }}", **options(wire, **wrong)),
        lambda: list(answer(iter(TABLE.to_batches()), "Say {{ text }}", **options(wire, **wrong))),
        lambda: embed(TABLE, "text", **options(wire, **wrong)),
    ):
        with pytest.raises(ConfigError, match=told):
            ask()
    assert wire.prompts == []


def test_a_provider_without_embeddings_is_refused_before_the_first_text():
    """Every row of the column would have the same error."""
    with pytest.raises(ConfigError, match="anthropic has no embeddings"):
        embed(TABLE, "text", model="anthropic/claude-sonnet-4-5", api_key="k", config={}, transport=Lines())


@pytest.mark.parametrize(
    "prompt",
    ["{{ row['Mial text'] }}", '{% if row["Mial text"] %}yes{% endif %}{{ text }}', "{{ row['Mial text'] | upper }}"],
)
def test_a_column_that_is_taken_from_the_row_is_known_in_advance(prompt):
    """A misspelt name in ``row[…]`` would fail row after row, after the whole table was read."""
    with pytest.raises(ConfigError, match=r'row\["Mial text"\].*no column Mial text; .*did you mean Mail text\?'):
        answer(TABLE, prompt, **options(Lines()))


@pytest.mark.parametrize(
    ("prompt", "written"), [('{{ row["Mial"] }}', r'\{\{ row\["Mial"\] \}\}'), ("{{ row[7] }}", r"\{\{ row\[7\] \}\}")]
)
def test_a_message_shows_a_placeholder_as_it_was_written(prompt, written):
    """A user would look for a placeholder that is nowhere in the prompt."""
    with pytest.raises(ConfigError, match=f"prompt uses {written}, but the table has no column"):
        answer(TABLE, prompt, **options(Lines()))


@pytest.mark.parametrize("prompt", ["Say {{ row[1] }}", "Say {{ row['1'] }}"])
def test_a_column_whose_name_is_a_number_may_be_written_as_one(prompt):
    """Columns that pandas has numbered would be found in advance, and then fail row after row."""
    table = pa.table({"0": ["a"], "1": ["one"]})
    assert answer(table, prompt, **options(Lines())).column("answer").to_pylist() == ["about one"]


@pytest.mark.parametrize(
    "prompt",
    [
        "{{ row['Mail text'] }}",
        "{{ row['none'] | default('-') }} {{ text }}",
        "{% if row['none'] is defined %}{{ row['none'] }}{% endif %}Say {{ text }}",
        "{% if 'none' in row %}{{ row['none'] }}{% endif %}Say {{ text }}",
        "{% for row in [{'none': 1}] %}{{ row['none'] }}{% endfor %} {{ text }}",
    ],
)
def test_a_template_may_provide_for_a_column_that_is_missing(prompt):
    """A template that works would be refused."""
    assert answer(TABLE, prompt, nulls="empty", **options(Lines())).column("error").null_count == 3


def test_a_column_named_row_is_that_column():
    """A template over a column of structs would be refused, though it works."""
    table = pa.table({"row": [{"x": "one"}]})
    assert answer(table, "Say {{ row['x'] }}", **options(Lines())).column("answer").to_pylist() == ["about one"]


def test_a_list_of_rows_is_told_how_to_become_a_table():
    """A user would read that a record batch of Arrow is needed, and not know one."""
    with pytest.raises(ConfigError, match=r"not a dict; pyarrow\.Table\.from_pylist\(rows\) makes a table of rows"):
        answer([{"text": "a"}], "{{ text }}", **options(Lines()))


@pytest.mark.parametrize("ahead", [0, -1, float("nan"), "2000"])
def test_a_window_without_rows_is_refused(ahead):
    """The stream would wait for ever: no batch may be read, not even the first."""
    with Answers("Say {{ text }}", **options(Lines())) as answers:
        stream = answers.stream(TABLE.to_batches(), ahead)
        with pytest.raises(ConfigError, match="ahead is a number of rows above 0, not "):
            next(stream)
