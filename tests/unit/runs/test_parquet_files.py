from __future__ import annotations

import datetime
import decimal
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flatout.errors import ConfigError
from flatout.runs import parquet
from flatout.runs.input.check import check
from flatout.runs.input.read import open_input
from flatout.runs.output.answered import ANSWER_COLUMNS, AnsweredRow
from flatout.runs.output.write import write
from flatout.runs.prompts.recipe import Recipe
from flatout.runs.stored import restored, stored

pa: Any = pytest.importorskip("pyarrow")
pq: Any = pytest.importorskip("pyarrow.parquet")


def rows(*columns: dict[str, Any], **answer: Any) -> Callable[[], Iterator[AnsweredRow]]:
    return lambda: (AnsweredRow(columns=each, **answer) for each in columns)


def test_rows_are_read_in_order(tmp_path: Path) -> None:
    """A Parquet data set would have to be converted by hand."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"t{n}" for n in range(1_000)], "n": range(1_000)}), path)
    source = open_input(path)
    assert (source.format, source.columns) == ("parquet", ("text", "n"))
    found = list(source)
    assert [row.columns for row in found] == [{"text": f"t{n}", "n": n} for n in range(1_000)]
    assert found[6].at == f"{path}, row 7"
    assert len(list(source)) == 1_000
    (tmp_path / "noname").write_bytes(path.read_bytes())
    assert open_input(tmp_path / "noname").format == "parquet"


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    """A damaged, empty or doubtful file would end in a traceback."""
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(ConfigError, match=r"a\.parquet: not readable as Parquet: "):
        open_input(path)
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), path)
    with pytest.raises(ConfigError, match=r"a\.parquet: no rows"):
        list(open_input(path))
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(ConfigError, match=r"a\.parquet: the column 'a' occurs twice"):
        open_input(path)
    pq.write_table(pa.table({"prompt": ["x", "y"], "id": ["a", "a"]}), path)
    with pytest.raises(ConfigError, match=r"a\.parquet, row 2: the id 'a' was already used on row 1"):
        check(open_input(path), Recipe())


def test_a_damaged_middle(tmp_path: Path) -> None:
    """A half-downloaded file would end in a traceback after some rows."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"{n} some text" for n in range(5_000)]}), path, row_group_size=1_000)
    data = bytearray(path.read_bytes())
    data[2_000:60_000] = bytes(58_000)[: len(data[2_000:60_000])]
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="not readable as Parquet"):
        list(open_input(path))


def test_answers_keep_their_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers and dates of a Parquet data set would come back as text."""
    monkeypatch.setattr(parquet, "_ROWS_WRITTEN", 2)
    path = tmp_path / "a.parquet"
    day = datetime.date(2026, 11, 22)
    given = [{"n": n, "f": n / 2, "day": day, "tags": ["a", "b"], "text": None if n < 2 else "t"} for n in range(5)]
    assert write(path, rows(*given, answer={"spam": True}, input_tokens=5), tuple(given[0])) == 5
    table = pq.read_table(path)
    assert table.column_names == [*given[0], *ANSWER_COLUMNS]
    found = table.to_pylist()
    assert [{name: row[name] for name in given[0]} for row in found] == given
    assert found[0]["answer"] == {"spam": True}
    assert (found[0]["input_tokens"], found[0]["cost"], found[0]["error"]) == (5, None, None)
    assert table.schema.field("cost").type == pa.float64()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, "x", None], ["1", "x", None]),
        ([1, 2.5], [1.0, 2.5]),
        ([{}, {"a": 1}], [{"a": None}, {"a": 1}]),
        ([{}, {}], ["{}", "{}"]),
        ([{"a": 1}, {"a": "x"}], ['{"a":1}', '{"a":"x"}']),
        ([[], [1]], [[], [1]]),
        ([[1], ["x"]], ["[1]", '["x"]']),
        ([True, 2], ["true", "2"]),
        ([2**70, 1], [str(2**70), "1"]),
        ([None, None], [None, None]),
        ([{"a": {}}], ['{"a":{}}']),
        ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 2}]),
        ([b"x", b"y"], [b"x", b"y"]),
    ],
)
@pytest.mark.parametrize("group", [1, 100])
def test_mixed_columns_become_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int, values: list[Any], expected: list[Any]
) -> None:
    """A column of mixed values would keep all answers from being written."""
    monkeypatch.setattr(parquet, "_ROWS_WRITTEN", group)
    path = tmp_path / "a.parquet"
    write(path, rows(*({"x": value} for value in values)))
    assert pq.read_table(path).column("x").to_pylist() == expected


D = decimal.Decimal
A_DAY = 86_400
NS = pa.timestamp("ns")
UUIDS = pa.array([b"0123456789abcdef", None], pa.binary(16)).cast(pa.uuid())


def counts(unit: str, *more: int) -> list[int | None]:
    """Moments at both sides of 1970: long ago, at a fraction of a second, and in summer."""
    second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    return [1, -1, 1_500, None, 1_780_000_000 * second + 7, -2_840_140_800 * second, *more]


COLUMNS = [
    *(pa.array(counts(unit), pa.timestamp(unit, zone)) for unit in ("ms", "us", "ns") for zone in (None, "UTC")),
    *(pa.array(counts("us"), pa.timestamp("us", zone)) for zone in ("Europe/Berlin", "+01:30")),
    pa.array(counts("ns"), pa.timestamp("ns", "Europe/Berlin")),
    *(pa.array(counts(unit, -A_DAY * 1_000 - 1), pa.duration(unit)) for unit in ("s", "ms", "us", "ns")),
    pa.array([1, 1_500, A_DAY * 1_000 - 1, None], pa.time32("ms")),
    *(pa.array([1, 1_500, A_DAY * 10**6 - 1, None], pa.time64(unit)) for unit in ("us", "ns")),
    pa.array([datetime.date(2020, 1, 2), datetime.date(1, 1, 1), None]),
    *(pa.array([D("1.50"), D("-0.01"), None], kind) for kind in (pa.decimal128(30, 2), pa.decimal256(60, 2))),
    *(pa.array([b"\xff\0", b"", None], kind) for kind in (pa.binary(), pa.large_binary())),
    pa.array([b"ab", None], pa.binary(2)),
    *(pa.array([1.5, float("inf"), -float("inf"), float("nan"), None], kind) for kind in (pa.float32(), pa.float64())),
    pa.array([1.5, None], pa.float32()).cast(pa.float16()),
    pa.array([2**64 - 1, 0, None], pa.uint64()),
    pa.array([-128, None], pa.int8()),
    pa.array([True, None]),
    pa.nulls(2),
    *(pa.array(["a", None, "b"], kind) for kind in (pa.string(), pa.large_string())),
    *(pa.array(["a", None, "b"], pa.dictionary(index, pa.string(), True)) for index in (pa.int8(), pa.uint16())),
    UUIDS,
    pa.array([[1, None], None, []], pa.list_(NS)),
    pa.array([[1, None], None, []], pa.large_list(pa.duration("ns"))),
    pa.array([[1, None], None], pa.list_(NS, 2)),
    pa.array(
        [{"a": 1, "b": [{"c": b"x"}]}, None, {"a": None, "b": None}],
        pa.struct([("a", NS), ("b", pa.list_(pa.struct([("c", pa.binary())])))]),
    ),
    pa.array([[("k", 1), ("l", None)], None, []], pa.map_(pa.string(), NS)),
    pa.array([[("k", float("nan"))], None], pa.map_(pa.string(), pa.float32())),
    pa.array([["a", None], None], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.type)[:60])
def test_each_type_of_the_input_comes_out_as_it_went_in(tmp_path: Path, column: Any) -> None:
    """A column of dates, decimals or bytes would come back as text, and an infinity as nothing."""
    field = pa.field("x", column.type, metadata={"unit": "mm"})
    pq.write_table(pa.Table.from_arrays([column], schema=pa.schema([field])), tmp_path / "in.parquet")
    source = open_input(tmp_path / "in.parquet")
    kept = [restored(stored(row)) for row in source]
    write(tmp_path / "out.parquet", rows(*kept), ("x",), types=source.types)
    before, after = pq.read_table(tmp_path / "in.parquet"), pq.read_table(tmp_path / "out.parquet")
    assert after.schema.field("x").equals(before.schema.field("x"), check_metadata=True)
    assert str(after["x"]) == str(before["x"])


def test_times_finer_than_pythons_are_text(tmp_path: Path) -> None:
    """A prompt would show a rounded time, or need pandas; a whole one would be no date that a template can format."""
    table = pa.table({"at": pa.array([1_500_000, 1_500_001], NS), "long": pa.array([10**9, 1], pa.duration("ns"))})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [row.columns for row in open_input(tmp_path / "a.parquet")] == [
        {"at": datetime.datetime(1970, 1, 1, 0, 0, 0, 1_500), "long": datetime.timedelta(seconds=1)},
        {"at": "1970-01-01 00:00:00.001500001", "long": "PT0.000000001S"},
    ]


def test_a_value_that_python_cannot_have_is_named(tmp_path: Path) -> None:
    """A file would be called unreadable, without the row to look at."""
    far = pa.array([0, 10**15], pa.timestamp("ms"))
    pq.write_table(pa.table({"prompt": ["a", "b"], "at": far}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"a\.parquet, row 2: the column at \(timestamp\[ms\]\): "):
        list(open_input(tmp_path / "a.parquet"))


def test_row_groups_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that unpacks to more than the memory would take the machine with it."""
    monkeypatch.setattr(parquet, "LARGEST_GROUP", 1024**2)
    pq.write_table(pa.table({"x": [f"{n}" + "x" * 1_000 for n in range(2_000)]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"row group 1 is 0\.0 GB unpacked, more than .*; write the file with"):
        open_input(tmp_path / "a.parquet")


@pytest.mark.parametrize("value", ["x" * 1_000, ["x" * 500, {"a": "x" * 500}], {"a": ["x"] * 1_000}])
def test_row_groups_are_closed_by_all_that_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    """Long texts within lists and objects would be held in memory ten thousand rows at a time."""
    monkeypatch.setattr(parquet, "_BYTES_WRITTEN", 5_000)
    write(tmp_path / "a.parquet", rows(*({"x": value} for _ in range(50))))
    assert pq.ParquetFile(tmp_path / "a.parquet").metadata.num_row_groups >= 10


def test_row_groups_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of many small row groups is slow to read, and larger."""
    monkeypatch.setattr(parquet, "_ROWS_WRITTEN", 200)
    write(tmp_path / "a.parquet", rows(*({"x": n} for n in range(450))))
    found = pq.ParquetFile(tmp_path / "a.parquet")
    assert [found.metadata.row_group(index).num_rows for index in range(found.num_row_groups)] == [200, 200, 50]
    assert found.read().column("x").to_pylist() == list(range(450))


def test_nothing_answered(tmp_path: Path) -> None:
    """A run without any row could not be exported."""
    assert write(tmp_path / "a.parquet", rows(), ("a",)) == 0
    assert pq.read_table(tmp_path / "a.parquet").column_names == ["a", *ANSWER_COLUMNS]


def test_writing_holds_little_of_a_column_in_memory() -> None:
    """A million short questions would take three times the memory while their answers are written."""

    class Written(io.RawIOBase):
        most = 0

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.most = max(self.most, pa.default_memory_pool().bytes_allocated())
            return len(data)

    before, written = pa.default_memory_pool().bytes_allocated(), Written()
    made = [{"text": f"{n} some text" * 20} for n in range(15_000)]
    parquet.write_rows(written, lambda: iter(made), ["text"], {})  # type: ignore[arg-type]  # all that pyarrow calls
    assert written.most - before < 1_500_000
