"""Tables as they come: odd types, odd names, odd batches. Each is answered, or refused in a sentence."""

from __future__ import annotations

from decimal import Decimal

import pytest

from flatout import ConfigError
from flatout.tables import answer, embed
from flatout.tables._arrow import one_batch
from tests.support.answered_tables import Lines, options

pa = pytest.importorskip("pyarrow")

PROMPT = "Say {{ text }}"


def said(table, prompt=PROMPT):
    return answer(table, prompt, **options(Lines())).column("answer").to_pylist()


def text_of(values, kind):
    return pa.table({"text": pa.array(values).cast(kind)})


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.uint32(), pa.string_view()),  # what a Categorical and an Enum of Polars' are
    ],
)
def test_a_text_is_a_text_in_each_form_of_arrow(kind):
    """Every row of a column of categories would fail, though it holds texts."""
    assert said(text_of(["one", None, "two"], kind)) == ["about one", None, "about two"]


def test_categories_within_lists_and_beside_times_are_read():
    """A column of tags would fail as a whole."""
    tags = pa.array(["a", "b"]).cast(pa.dictionary(pa.uint32(), pa.string_view()))
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), tags)
    times = pa.array([0, 1_000], pa.timestamp("ns"))
    table = pa.table({"tags": lists, "both": pa.StructArray.from_arrays([tags, times], ["tag", "at"])})
    assert said(table, "{{ tags[0] }}") == ["about a", "about b"]
    assert said(table, "{{ both.at.year }} {{ both.tag }}") == ["about a", "about b"]


def test_numbers_unions_and_runs_are_read():
    """A column of a rarer type would end the run with an error of Arrow's insides."""
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array(["a", "b"]), pa.array([1, 2])])
    runs = pa.RunEndEncodedArray.from_arrays([1, 2], ["a", "b"])
    money = pa.array([Decimal("1.20"), Decimal(2)], pa.decimal256(60, 2))
    assert said(pa.table({"text": union})) == ["about a", "about 2"]
    assert said(pa.table({"text": runs})) == ["about a", "about b"]
    assert said(pa.table({"text": money})) == ["about 1.20", "about 2.00"]


def test_chunks_and_batches_without_rows():
    """An empty partition would end the run, or move the answers behind it."""
    chunks = pa.chunked_array([[], ["a"], [], ["b", "c"], []], pa.string())
    assert said(pa.table({"text": chunks})) == ["about a", "about b", "about c"]
    assert said(pa.table({"text": pa.chunked_array([], pa.string())})) == []
    batches = [pa.record_batch({"text": pa.array(each, pa.string())}) for each in ([], ["a"], [])]
    assert [batch.num_rows for batch in answer(batches, PROMPT, **options(Lines()))] == [0, 1, 0]


def test_a_reader_without_batches_has_the_added_columns():
    """An engine that merges parts would fail on the empty one: its schema would be another."""
    schema = pa.schema([("text", pa.string()), ("error", pa.int8())])
    reader = answer(pa.RecordBatchReader.from_batches(schema, []), PROMPT, **options(Lines()))
    assert reader.schema.names == ["text", "error", "answer", "answer_error"]
    assert reader.read_all().num_rows == 0


def test_two_columns_of_one_name_are_refused_where_the_name_is_used():
    """A user would read ``KeyError``, or not know which of the two was asked about."""
    given = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["x", "x", "text"])
    assert said(given) == ["about c"]
    for prompt, replace, named in (("{{ x }}", False, "x"), (str, False, "x"), ("{{ text }}", True, "answer")):
        table = given.rename_columns(["answer", "answer", "text"]) if replace else given
        with pytest.raises(ConfigError, match=f"the table has 2 columns {named}; rename all but one"):
            answer(table, prompt, replace=replace, **options(Lines()))
    with pytest.raises(ConfigError, match="the table has 2 columns x"):
        embed(given, "x", **options(Lines()))


def test_a_batch_that_lacks_the_column_is_refused_after_the_answers_before_it():
    """Half a stream would be rows with an error each, and nobody would notice that its columns changed."""
    given = (pa.record_batch({name: ["a"]}) for name in ("text", "txt"))
    made = answer(given, PROMPT, **options(Lines()))
    assert next(made).column("answer").to_pylist() == ["about a"]
    with pytest.raises(ConfigError, match=r"no column text; it has: txt; did you mean txt\?"):
        next(made)


def test_a_huge_cell():
    """A document of ten megabytes would be cut, or hold everything up."""
    huge = "x" * 10_000_000
    assert said(pa.table({"text": [huge, "b"]})) == [f"about {huge}", "about b"]


def test_a_function_that_fails_on_one_row_fails_that_row():
    """One odd row would end a table of thousands."""

    def prompt(row):
        return {"a": "Say a", "b": None}[row["text"]]

    made = answer(pa.table({"text": ["a", "b", "c"]}), prompt, **options(Lines()))
    assert made.column("answer").to_pylist() == ["about a", None, None]
    assert made.column("error").to_pylist()[1:] == [
        "ConfigError: a call is a string, a dict or a Call, not NoneType",
        "KeyError: 'c'",
    ]


def test_an_async_function_is_refused_as_a_prompt():
    """Every row would have an error about coroutines."""

    async def prompt(row):
        return row["text"]

    with pytest.raises(ConfigError, match="prompt is an async function"):
        answer(pa.table({"text": ["a"]}), prompt, **options(Lines()))


def test_what_pandas_has_and_arrow_lacks_is_text_in_prompts():
    """A column of mixed objects would end the run in its middle, with paid answers lost; a month would be 600."""
    pd = pytest.importorskip("pandas")
    columns = {
        "mixed": ["a", 1, 2.5, None],
        "month": pd.period_range("2026-01", periods=4, freq="M"),
        "sparse": pd.arrays.SparseArray([1, 0, 0, 2]),
        "complex": [1j, 2j, 3j, 4j],
    }
    wanted = {
        "mixed": ["about a", "about 1", "about 2.5", None],
        "month": [f"about 2026-0{month}" for month in (1, 2, 3, 4)],
        "sparse": ["about 1", "about 0", "about 0", "about 2"],
        "complex": ["about 1j", "about 2j", "about 3j", "about 4j"],
    }
    frame = pd.DataFrame(columns)
    for name, answers in wanted.items():
        made = answer(frame, f"Say {{{{ {name} }}}}", **options(Lines()))
        assert [None if pd.isna(each) else each for each in made["answer"]] == answers
        pd.testing.assert_series_equal(made[name], frame[name])


def test_what_polars_has_and_arrow_lacks_is_text_in_prompts():
    """An id of 128 bits would end the run, and an object be asked about as its address in memory."""
    pl = pytest.importorskip("polars")
    columns = {
        "big": pl.Series([2**100, None], dtype=pl.Int128),
        "thing": pl.Series([range(3), None], dtype=pl.Object),
        "kind": pl.Series(["a", None], dtype=pl.Enum(["a", "b"])),
        "tags": pl.Series([["a"], None], dtype=pl.List(pl.Categorical)),
    }
    frame = pl.DataFrame(columns)
    for name, told in (("big", str(2**100)), ("thing", "3)"), ("kind", "a"), ("tags", "['a']")):
        for given in (frame, frame.lazy()):
            made = given.flatout.answer(f"Say {{{{ {name} }}}}", **options(Lines())).lazy().collect()
            assert made["answer"].to_list() == [f"about {told}", None]
            assert made.schema == {**frame.schema, "answer": pl.String, "error": pl.String}


def test_a_series_is_no_table():
    """A user would read of schemas and structs."""
    pl = pytest.importorskip("polars")
    with pytest.raises(ConfigError, match="a Series cannot be read as a table"):
        answer(pl.Series("text", ["a"]), PROMPT, **options(Lines()))
    with pytest.raises(ConfigError, match="a Series cannot be read as a record batch"):
        list(answer(iter([pl.Series("text", ["a"])]), PROMPT, **options(Lines())))


def test_two_columns_of_one_name_are_refused_where_duckdb_would_rename_one():
    """A column would come back under another name, and one with a type that Arrow lacks would be lost."""
    duckdb = pytest.importorskip("duckdb")
    given = duckdb.sql("select 'a' as text, 1 as id, 2 as id")
    with pytest.raises(ConfigError, match=r"^the relation has two columns id, and DuckDB would rename one: name it"):
        answer(given, "{{ text }}", **options(Lines()))


def test_names_that_duckdb_takes_for_one_are_refused():
    """DuckDB would call one of them X_1, after every row is paid for."""
    duckdb = pytest.importorskip("duckdb")
    wire, given = Lines(), duckdb.sql("select 'a' as text, 1 as x, 'none' as \"Error\"")
    with pytest.raises(ConfigError, match="DuckDB takes the columns x and X for one; choose another name for X"):
        answer(given, PROMPT, into="X", error="why", **options(wire))
    with pytest.raises(ConfigError, match="DuckDB takes the columns Error and error for one"):
        answer(given, PROMPT, **options(wire))
    assert wire.prompts == []
    assert answer(given, PROMPT, error="why", **options(wire)).columns == ["text", "x", "Error", "answer", "why"]


ODD = pa.table(
    {
        "text": ["one", "two", "three"],
        "floats": [-0.0, float("nan"), float("-inf")],
        "bounds": [2**63 - 1, -(2**63), None],
        "nothing": pa.nulls(3),
        "at": pa.array([0, -1, None], pa.timestamp("us", "Europe/Prague")),
    }
)
"""Values that a conversion on the way would change."""


def polars_made(table):
    return pytest.importorskip("polars").DataFrame(table)


def of_duckdb(table):
    return pytest.importorskip("duckdb").from_arrow(table)


@pytest.mark.parametrize(
    ("given", "back"),
    [
        (lambda table: table, lambda made: made),
        (one_batch, lambda made: pa.Table.from_batches([made])),
        (lambda table: table.to_reader(), lambda made: made.read_all()),
        (polars_made, lambda made: made.to_arrow()),
        (lambda table: polars_made(table).lazy(), lambda made: made.collect().to_arrow()),
        (of_duckdb, lambda made: made.to_arrow_table()),
    ],
    ids=["table", "batch", "reader", "polars", "lazy", "duckdb"],
)
@pytest.mark.parametrize("rows", [3, 0])
def test_what_nobody_asks_for_stays_bit_for_bit(given, back, rows):
    """A minus zero would lose its sign, a time its zone, a column of nulls or a table without rows its type."""
    whole = given(ODD.slice(0, rows))
    before, kind = back(given(ODD.slice(0, rows))), type(whole)
    made = answer(whole, PROMPT, **options(Lines()))
    assert isinstance(made, kind)
    after = back(made)
    assert after.schema.names == [*before.schema.names, "answer", "error"]
    for name in before.schema.names:
        assert after.column(name).type == before.column(name).type
        assert repr(after.column(name).to_pylist()) == repr(before.column(name).to_pylist())


def test_rows_without_columns_are_refused():
    """A user of pandas would see an error of pandas about lengths, after the rows were counted as none."""
    pd = pytest.importorskip("pandas")
    with pytest.raises(ConfigError, match="has rows, but no columns to ask about"):
        answer(pd.DataFrame(index=[1, 2]), lambda row: "Say one", **options(Lines()))
