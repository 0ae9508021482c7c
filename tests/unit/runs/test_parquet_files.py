from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flatout.errors import ConfigError
from flatout.runs import parquet
from flatout.runs.check import check
from flatout.runs.read import open_input
from flatout.runs.recipe import Recipe
from flatout.runs.write import ANSWER_COLUMNS, Answered, write

pa: Any = pytest.importorskip("pyarrow")
pq: Any = pytest.importorskip("pyarrow.parquet")


def rows(*columns: dict[str, Any], **answer: Any) -> Callable[[], Iterator[Answered]]:
    return lambda: (Answered(columns=each, **answer) for each in columns)


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
    with pytest.raises(ConfigError, match=r"a\.parquet: the column 'a' is there twice"):
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


def test_nothing_answered(tmp_path: Path) -> None:
    """A run without any row could not be exported."""
    assert write(tmp_path / "a.parquet", rows(), ("a",)) == 0
    assert pq.read_table(tmp_path / "a.parquet").column_names == ["a", *ANSWER_COLUMNS]
