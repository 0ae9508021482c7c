"""The same kind of table comes back, with the user's own columns as they were."""

from __future__ import annotations

import gc
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from flatout import ConfigError
from flatout.store import RunReader
from flatout.tables import answer
from tests.support.answered_tables import Lines, options

pa = pytest.importorskip("pyarrow")

WANTED = ["about one", "about two", "about three"]
PROMPT = "Say {{ text }}"


def test_arrow_keeps_every_type_and_its_notes():
    """A user's own columns would come back as other types."""
    given = pa.table(
        {
            "text": pa.array(["one", "two", "three"]).dictionary_encode(),
            "at": pa.array([1, None, 3], pa.timestamp("ns", "Europe/Prague")),
            "money": pa.array([Decimal("1.20"), None, Decimal("3.00")], pa.decimal128(9, 2)),
            "nested": [{"a": [1, None]}, None, {"a": []}],
            "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int8())),
        }
    ).replace_schema_metadata({"made": "by hand"})
    made = answer(given, PROMPT, **options(Lines()))
    assert made.select(given.schema.names) == given
    assert made.schema.metadata == given.schema.metadata
    assert made.column("answer").to_pylist() == WANTED


def test_readers_iterators_and_lists_of_batches():
    """A stream would be read into memory, or come back as something else."""
    table = pa.table({"text": ["one", "two", "three"]})
    given = options(Lines())
    reader = answer(table.to_reader(max_chunksize=2), PROMPT, **given)
    assert isinstance(reader, pa.RecordBatchReader)
    assert reader.read_all().column("answer").to_pylist() == WANTED
    made = answer(table.to_batches(max_chunksize=2), PROMPT, **given)
    assert [batch.num_rows for batch in made] == [2, 1]
    pieces = answer(iter(table.to_batches(max_chunksize=2)), PROMPT, **given)
    assert next(pieces).column("answer").to_pylist() == WANTED[:2]
    assert next(pieces).column("answer").to_pylist() == WANTED[2:]
    with pytest.raises(ConfigError, match="no column txt"):
        answer(table.to_reader(), "{{ txt }}", **given)


def test_a_table_of_another_library_comes_back_as_its_own():
    """A library that speaks Arrow would have to be named here to be served."""

    class Other:
        def __init__(self, table):
            self.table = table

        def __arrow_c_stream__(self, requested_schema=None):
            return self.table.__arrow_c_stream__(requested_schema)

        @classmethod
        def from_arrow(cls, table):
            return cls(pa.table(table))

    made = answer(Other(pa.table({"text": ["one", "two", "three"]})), PROMPT, **options(Lines()))
    assert type(made) is Other
    assert made.table.column("answer").to_pylist() == WANTED


def test_what_is_no_table_is_refused_by_name():
    """A dict of lists would be taken for something that it is not."""
    with pytest.raises(ConfigError, match="a int is not a table that flatout knows"):
        answer(5, PROMPT, **options(Lines()))
    for given in ({"text": ["one"]}, "mails.parquet"):
        with pytest.raises(ConfigError, match=f"a {type(given).__name__} is not a table that flatout knows"):
            answer(given, PROMPT, **options(Lines()))
    with pytest.raises(ConfigError, match="a record batch of Arrow is needed, not a dict"):
        answer([{"text": "one"}], PROMPT, **options(Lines()))


def test_pandas_keeps_its_index_and_its_types():
    """A user's frame would lose its index, or its categories become text."""
    pd = pytest.importorskip("pandas")
    given = pd.DataFrame(
        {
            "text": pd.Series(["one", "two", "three"], dtype="category"),
            "small": pd.array([1, None, 3], "Int8"),
            "at": pd.to_datetime(["2026-01-01", None, "2026-01-03"]).tz_localize("Europe/Prague"),
            "object": [object(), {1, 2}, None],
            5: [1.5, float("nan"), 2.5],
        }
    )
    given.index = pd.MultiIndex.from_tuples([("a", 1), ("a", 1), ("b", 2)], names=["x", "y"])
    given.attrs["from"] = "here"
    before = given.copy()
    made = given.flatout.answer(PROMPT, into="said", tokens=True, **options(Lines()))
    assert type(made) is pd.DataFrame
    pd.testing.assert_frame_equal(made[list(given.columns)], given)
    pd.testing.assert_frame_equal(given, before)
    assert made.attrs == given.attrs
    assert made["said"].tolist() == WANTED
    assert str(made["input_tokens"].dtype) == "Int64"
    empty = answer(given.iloc[:0], PROMPT, **options(Lines()))
    assert list(empty.columns)[-2:] == ["answer", "error"]


def test_polars_keeps_its_types():
    """A user's enums would become text."""
    pl = pytest.importorskip("polars")
    given = pl.DataFrame(
        {
            "text": ["one", "two", "three"],
            "kind": pl.Series(["a", "b", None], dtype=pl.Enum(["a", "b"])),
            "cat": pl.Series(["x", "y", None], dtype=pl.Categorical),
            "at": [datetime(2026, 1, 1, tzinfo=UTC), None, datetime(2026, 1, 3, tzinfo=UTC)],
            "for": [timedelta(seconds=1), None, timedelta(days=2)],
            "list": pl.Series([[1], None, []], dtype=pl.List(pl.UInt8)),
            "array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int8, 2)),
            "struct": [{"a": date(2026, 1, 1)}, None, {"a": None}],
            "object": pl.Series([object(), object(), None], dtype=pl.Object),
        }
    )
    made = given.flatout.answer(PROMPT, into="said", **options(Lines()))
    assert made.select(pl.exclude("said", "error", "object")).equals(given.drop("object"))
    assert made.schema == {**given.schema, "said": pl.String, "error": pl.String}
    assert made["said"].to_list() == WANTED


def test_a_lazy_frame_asks_when_it_is_collected_and_only_for_what_is_wanted():
    """Planning a query would cost money, or its first rows as much as all."""
    pl = pytest.importorskip("polars")
    wire = Lines()
    given = pl.LazyFrame({"text": [str(n) for n in range(3000)], "kind": pl.Series(["a"] * 3000, dtype=pl.Categorical)})
    made = given.flatout.answer(PROMPT, into="said", **options(wire))
    assert made.collect_schema() == {**given.collect_schema(), "said": pl.String, "error": pl.String}
    assert made.select("kind").collect().height == 3000
    assert wire.prompts == []
    assert made.head(2).collect()["said"].to_list() == ["about 0", "about 1"]
    assert len(wire.prompts) == 2
    whole = made.collect()
    assert whole["said"].to_list() == [f"about {n}" for n in range(3000)]
    assert whole.drop("said", "error").equals(given.collect())
    assert made.filter(pl.col("text") == "7").collect()["said"].to_list() == ["about 7"]


def test_the_first_rows_of_an_answered_frame_come_from_its_run_file(tmp_path):
    """Nobody could look at a table that is paid for: its run file would be refused as that of a longer one."""
    pl = pytest.importorskip("polars")
    path, given = tmp_path / "run.flatout", pl.LazyFrame({"text": [str(n) for n in range(30)]})
    first, again = Lines(), Lines()
    given.flatout.answer(PROMPT, store=path, **options(first)).collect()
    for rows in (0, 5):
        cut = given.flatout.answer(PROMPT, store=path, **options(again)).head(rows).collect()
        assert cut["answer"].to_list() == [f"about {n}" for n in range(rows)]
    with RunReader.open(path) as reader:
        assert (reader.info().state, reader.info().total) == ("finished", 30)
    with pytest.raises(Exception, match="has a result for row 21, but the input has only 20 rows now"):
        given.head(20).flatout.answer(PROMPT, store=path, **options(again)).collect()
    assert again.prompts == []


def test_a_frame_may_be_answered_after_its_first_rows(tmp_path):
    """A look at a few rows would be paid for twice, or be taken for the whole table."""
    pl = pytest.importorskip("polars")
    path, given, wire = tmp_path / "run.flatout", pl.LazyFrame({"text": [str(n) for n in range(30)]}), Lines()
    made = given.flatout.answer(PROMPT, store=path, **options(wire))
    assert made.head(5).collect().height == 5
    with RunReader.open(path) as reader:
        assert reader.info().state == "interrupted"
    assert made.collect().height == 30
    assert len(wire.prompts) == 30


def test_a_relation_keeps_its_types_and_its_connection():
    """A user's ids would become text, and the answers not be joinable with the table that they come from."""
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    connection.sql(
        """create table mails as select * from (values
           ('one', 1::hugeint, uuid(), '101'::bit, 'a'::enum('a', 'b'), interval 1 day, map {'k': 1}),
           ('two', null, null, null, null, null, null),
           ('three', -170141183460469231731687303715884105727::hugeint, uuid(), '1'::bit, 'b', interval 2 month, null)
           ) t(text, big, id, bits, kind, span, "a map")"""
    )
    given = connection.sql("select * from mails")
    made = answer(given, PROMPT, into="said", **options(Lines()))
    gc.collect()
    assert made.columns == [*given.columns, "said", "error"]
    assert made.types[: len(given.types)] == given.types
    assert [row[:-2] for row in made.fetchall()] == given.fetchall()
    assert connection.sql("select said from made join mails using (text) order by said").fetchall() == [
        (text,) for text in sorted(WANTED)
    ]


def test_a_dataset_keeps_its_features():
    """A user's class labels would become numbers."""
    datasets = pytest.importorskip("datasets", reason="datasets is installed by hand: with what it needs it is 150 MB")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"]), "n": datasets.Value("int8")}
    )
    given = datasets.Dataset.from_dict({"text": ["three", "two", "one"], "label": [0, 1, 0], "n": [3, 2, 1]}, features)
    turned = given.select([2, 1, 0]).with_format("numpy")
    made = answer(turned, PROMPT, into="said", **options(Lines()))
    assert made.features == {**features, "said": datasets.Value("string"), "error": datasets.Value("string")}
    assert list(made["said"]) == WANTED
    assert made.format["type"] == "numpy"
    again = answer(made, PROMPT, into="said", replace=True, **options(Lines()))
    assert set(again.column_names) == set(made.column_names)
    none = answer(given.select([]), PROMPT, into="said", **options(Lines()))
    assert (none.num_rows, none.features) == (0, made.features)


def test_the_methods_of_frames_are_there_whichever_is_imported_first():
    """``import flatout.tables`` stands above ``import pandas`` in most files, and ``df.flatout`` would not be there."""
    import subprocess
    import sys

    pytest.importorskip("pandas")
    looks = "import importlib.util; importlib.util.find_spec('pandas')"  # as datasets does, to know what is there
    for first in ("import pandas, flatout.tables", "import flatout.tables", f"import flatout.tables; {looks}"):
        code = f"{first}; import pandas; print(pandas.DataFrame.flatout.answer.__name__)"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.stdout == "answer\n", run.stderr


def test_pandas_is_not_loaded_for_others():
    """Who uses Polars would wait for pandas, and give it 45 MB: pyarrow imports it for many of its functions."""
    import subprocess
    import sys

    pytest.importorskip("polars")
    code = """
import sys
import polars as pl
from flatout.tables import answer
from tests.support.answered_tables import Lines, options

frame = pl.DataFrame({"text": ["one", None]})
for given in (frame, frame.lazy()):
    answer(given, "{{ text }}", tokens=True, cost=True, **options(Lines())).lazy().collect()
print("pandas" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr
