from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import sqlite3
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from flatout.errors import ConfigError
from flatout.runs.input.check import check
from flatout.runs.input.read import open_input
from flatout.runs.output.claim import Claim, where
from flatout.runs.prompts.recipe import Recipe

from .workbooks import workbook


def _zstd(data: bytes) -> bytes:
    try:
        from compression import zstd
    except ImportError:
        zstd = pytest.importorskip("backports.zstd")
    return bytes(zstd.compress(data))


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".zst": _zstd,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def columns(source: Any, **options: Any) -> list[dict[str, Any]]:
    return [row.columns for row in open_input(source, **options)]


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        list(open_input(source, **options))
    said = str(caught.value)
    assert "\n" not in said
    return said


def database(path: Path, *statements: str) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize(
    ("name", "data", "rows"),
    [
        ("a.jsonl", b'{"n": 1}\n{"n": 2}\n', [{"n": 1}, {"n": 2}]),
        ("a.json", b'[{"n": 1}, {"n": 2}]', [{"n": 1}, {"n": 2}]),
        ("a.csv", b"n\n1\n2\n", [{"n": "1"}, {"n": "2"}]),
        ("a.tsv", b"n\tm\n1\t2\n", [{"n": "1", "m": "2"}]),
        ("a.txt", "\ufeffä\nb\n".encode("utf-16-le"), [{"prompt": "ä"}, {"prompt": "b"}]),
    ],
)
def test_what_is_packed_is_unpacked(
    tmp_path: Path, ending: str, name: str, data: bytes, rows: list[dict[str, Any]]
) -> None:
    """Packed exports would have to be unpacked by hand, or be taken for text."""
    packed = PACK[ending](data)
    (tmp_path / f"{name}{ending}").write_bytes(packed)
    (tmp_path / name).write_bytes(packed)  # the ending was lost
    source = open_input(tmp_path / f"{name}{ending}")
    assert [row.columns for row in source] == [row.columns for row in source] == rows
    assert columns(tmp_path / name) == rows
    if name != "a.tsv":
        assert columns("-", stdin=io.BytesIO(packed), format="csv" if name == "a.csv" else None) == rows


@pytest.mark.parametrize(("ending", "kind"), [(".gz", "gzip"), (".zst", "zstd"), (".bz2", "bzip2"), (".xz", "xz")])
def test_a_packed_file_that_is_cut_off_is_no_shorter_input(tmp_path: Path, ending: str, kind: str) -> None:
    """A download that broke off would be answered in part, and called complete."""
    path = tmp_path / f"a.txt{ending}"
    whole = PACK[ending](b"".join(b"%d\n" % n**7 for n in range(50_000)))
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert refusal(path) == f"{path}: the {kind} file is damaged or cut off"
    path.write_bytes(b"plain")
    assert refusal(path) == f"{path}: not {'an' if kind == 'xz' else 'a'} {kind} file"


def test_zstd_without_its_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of an older Python would see an ImportError's traceback."""
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(_zstd(b'"a"\n'))
    for name in ("compression", "compression.zstd", "backports", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    assert refusal(path).endswith("pip install 'flatout[compression]'")
    assert refusal(path).startswith(f"{path}: is packed with zstd")


def test_a_table_of_sqlite_is_read(tmp_path: Path) -> None:
    """Rows of a database would have to be written out as JSON first."""
    path = database(
        tmp_path / "shop.db",
        "CREATE TABLE mails (id INTEGER PRIMARY KEY, text TEXT, score REAL, raw BLOB)",
        "CREATE INDEX by_text ON mails (text, id, score, raw)",  # holds all columns, in another order
        "INSERT INTO mails VALUES (1, 'z', 0.5, x'00ff'), (2, 'a', NULL, NULL)",
    )
    source = open_input(path)
    rows = [{"id": 1, "text": "z", "score": 0.5, "raw": b"\0\xff"}, {"id": 2, "text": "a", "score": None, "raw": None}]
    assert (source.format, source.columns, source.repeatable) == ("sqlite", ("id", "text", "score", "raw"), True)
    found = list(source)
    assert [row.columns for row in found] == [row.columns for row in source] == rows
    assert found[1].at == f"{path}, row 2"
    assert columns(f"{path}::Mails") == rows
    assert check(source, Recipe(prompt="{{ text }}")).rows == 2


def test_a_query_of_sqlite_is_read(tmp_path: Path) -> None:
    """Only whole tables could be asked, and a join would need a table of its own."""
    path = database(
        tmp_path / "shop.db",
        "CREATE TABLE a (n, m)",
        "CREATE TABLE b (n)",
        "CREATE VIEW v AS SELECT m FROM a",
        "INSERT INTO a VALUES (1, 'x'), (2, 'y')",
    )
    assert columns(f"{path}::select m, n * 2 as twice from a order by n desc") == [
        {"m": "y", "twice": 4},
        {"m": "x", "twice": 2},
    ]
    assert columns(f"{path}::WITH t AS (SELECT 1 AS p) SELECT p FROM t;") == [{"p": 1}]
    assert columns(f"{path}::v") == [{"m": "x"}, {"m": "y"}]
    assert open_input(f"{path}::select n from a").name == str(path)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("", "holds the tables a, b; name one: {path}::a"),
        ("::c", "has no table 'c'; it holds the tables a, b"),
        ("::select x from a", "SQLite says: no such column: x"),
        ("::select n, n from a", "the column 'n' occurs twice"),
        ("::select n from a where 0", "no rows"),
        ("::select cast(x'ff' as text) as t", "SQLite says: Could not decode to UTF-8 column 't'"),
        ("::with t as (select 1) insert into a values (1)", "SQLite says: attempt to write a readonly database"),
    ],
)
def test_what_a_database_cannot_give_is_said(tmp_path: Path, part: str, message: str) -> None:
    """A mistyped table would be a traceback, or a database would be written by a reader."""
    path = database(tmp_path / "shop.db", "CREATE TABLE a (n)", "CREATE TABLE b (n)", "INSERT INTO a VALUES (1)")
    assert message.format(path=path) in refusal(f"{path}{part}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a.csv::t", "names a table or a query of a database, or a sheet of a workbook; the format here is csv"),
        ("gone.db::t", "gone.db::t: no such file"),
        ("packed.db", "an SQLite database cannot be read while it is packed; unpack it first"),
    ],
)
def test_a_part_of_what_has_no_parts(tmp_path: Path, given: str, message: str) -> None:
    """A name would be cut at :: and another file be read than the one that was meant."""
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b::c.csv").write_text("a\n1\n")
    inner = database(tmp_path / "shop.db", "CREATE TABLE a (n)")
    (tmp_path / "packed.db").write_bytes(gzip.compress(inner.read_bytes()))
    assert message in refusal(f"{tmp_path}/{given}")
    assert columns(tmp_path / "b::c.csv") == [{"a": "1"}]
    assert "cannot be read from a pipe" in refusal("-", stdin=io.BytesIO(inner.read_bytes()))


def test_duckdb_is_read_with_its_types(tmp_path: Path) -> None:
    """Rows of DuckDB would have to be written out as Parquet first."""
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "shop.db"  # the first bytes tell
    with duckdb.connect(str(path)) as made:
        made.execute("CREATE TABLE t AS SELECT range AS n, [1, 2] AS l, DATE '2020-01-02' AS d FROM range(1000)")
    source = open_input(path)
    rows = [row.columns for row in source]
    assert (source.format, source.columns, len(rows)) == ("duckdb", ("n", "l", "d"), 1000)
    assert [row["n"] for row in rows] == list(range(1000))
    assert rows[0]["l"] == [1, 2]
    assert source.types is not None
    assert columns(f"{path}::from t select n limit 1") == [{"n": 0}]
    assert "DuckDB says: " in refusal(f"{path}::select x from t")
    (tmp_path / "a.duckdb").write_bytes(b"plain")
    assert "DuckDB says: " in refusal(tmp_path / "a.duckdb")


@pytest.mark.parametrize(("package", "name"), [("duckdb", "a.duckdb"), ("python_calamine", "a.xlsx")])
def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str
) -> None:
    """A user without the extra would see an ImportError's traceback."""
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(b"x")
    said = refusal(tmp_path / name)
    assert said.startswith(f"{tmp_path / name}: ")
    assert "pip install 'flatout[" in said


def test_a_sheet_of_a_workbook_is_read(tmp_path: Path) -> None:
    """People whose rows are in a spreadsheet would have to save it as CSV each time."""
    pytest.importorskip("python_calamine")
    mails = [[], [None, "text", "n", None], [None, "hi", 3, True], [], [None, "ho", 1.5, None]]
    path = workbook(tmp_path / "book.xlsx", {"Mails": mails, "Other": [["a"], ["b"]]})
    source = open_input(f"{path}::Mails")
    found = list(source)
    assert (source.format, source.columns) == ("excel", ("text", "n", "D"))
    assert [row.columns for row in found] == [{"text": "hi", "n": 3, "D": True}, {"text": "ho", "n": 1.5, "D": ""}]
    assert [row.line for row in found] == [3, 5]
    assert columns(f"{path}::Other") == [{"a": "b"}]
    assert f"has 2 sheets (Mails, Other); name one: '{path}::Mails'" in refusal(path)
    assert "has no sheet 'x'; it has Mails, Other" in refusal(f"{path}::x")
    (tmp_path / "a.xlsx").write_bytes(b"plain")
    assert "not readable as a workbook: " in refusal(tmp_path / "a.xlsx")
    assert "no rows" in refusal(workbook(tmp_path / "empty.xlsx", {"A": []}))
    assert "the column 'a' occurs twice" in refusal(workbook(tmp_path / "twice.xlsx", {"A": [["a", "a"], [1, 2]]}))


@pytest.mark.parametrize(
    ("name", "data", "delimiter"),
    [
        ("a.csv", b"n;text\n1;x, y\n", ";"),
        ("a.csv", b"n\ttext\n1\tx, y\n", "\\t"),
        ("a.tsv", b"n|text\n1|x, y\n", "|"),
        ("a.txt", b"n;text\n1;x, y\n", ";"),
        ("noname", "n·text\n1·x, y\n".encode(), "·"),
        ("a.csv.gz", gzip.compress(b"n;text\n1;x, y\n", mtime=0), ";"),
    ],
)
def test_another_delimiter(tmp_path: Path, name: str, data: bytes, delimiter: str) -> None:
    """A German Excel's CSV would be one column with semicolons in it."""
    (tmp_path / name).write_bytes(data)
    assert columns(tmp_path / name, delimiter=delimiter) == [{"n": "1", "text": "x, y"}]
    if name == "noname":
        assert columns("-", stdin=io.BytesIO(data), delimiter=delimiter) == [{"n": "1", "text": "x, y"}]


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n", "\\n", "\0"])
def test_a_delimiter_that_cannot_be_one_is_refused(tmp_path: Path, delimiter: str) -> None:
    """A typo would end in the csv module's own TypeError."""
    (tmp_path / "a.csv").write_text("a;b\n1;2\n")
    assert "--delimiter is one character" in refusal(tmp_path / "a.csv", delimiter=delimiter)


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_delimiter_is_for_csv(tmp_path: Path, name: str) -> None:
    """The option would be ignored without a word."""
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    assert "--delimiter is for CSV" in refusal(tmp_path / name, delimiter=";")
    assert "--delimiter is for CSV" in refusal(tmp_path / name, delimiter=";", format="jsonl")


def test_a_pattern_and_a_folder_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    """The parts that every cluster writes would have to be joined by hand."""
    folder = tmp_path / "out"
    (folder / "day=2").mkdir(parents=True)
    (folder / "b.jsonl").write_text('{"n": 3}\n\n{"n": 4}\n')
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(b'{"n": 1}\n{"n": 2}\n'))
    (folder / "c.jsonl").write_text("")
    (folder / "day=2" / "a.jsonl").write_text('{"n": 5}\n')
    (folder / "_SUCCESS").write_text("")
    (folder / ".a.jsonl").write_text("not a row")
    source = open_input(folder, format="jsonl")
    found = list(source)
    assert [row.columns["n"] for row in found] == [1, 2, 3, 4, 5]
    assert [row.index for row in found] == [0, 1, 2, 3, 4]
    assert found[3].at == f"{folder / 'b.jsonl'}, line 3"
    assert [row["n"] for row in columns(f"{folder}/[bc].jsonl")] == [3, 4]
    assert [row["n"] for row in columns(f"{folder}/**/*.jsonl")] == [3, 4, 5]
    assert refusal(f"{folder}/*.nope") == f"{folder}/*.nope: matches no file"
    assert refusal(f"{folder}/c*.jsonl") == f"{folder}/c*.jsonl: no rows"


def test_a_file_whose_name_has_the_marks_of_a_pattern_is_that_file(tmp_path: Path) -> None:
    """`mails[1].csv`, as browsers name downloads, could not be read."""
    (tmp_path / "mails[1].csv").write_text("a\n1\n")
    assert columns(tmp_path / "mails[1].csv") == [{"a": "1"}]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.csv": "a\n1\n", "b.csv": "b\n1\n"}, "b.csv: has other columns than"),
        ({"a.csv": "a\n1\n", "b.jsonl": '"x"\n'}, "is a directory with .csv and .jsonl files; name one kind: '"),
        ({"readme.md": "x"}, "is a directory without files that can be read"),
        ({"a.jsonl": '"x"\n', "b.jsonl": '["x"]'}, "b.jsonl: is json, but"),
        ({"a.jsonl": '{"id": "x"}\n', "b.jsonl": '{"id": "x"}\n'}, "b.jsonl, line 1: the id 'x' was already used in"),
    ],
)
def test_files_that_are_not_alike_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    """Two tables would be mixed into one, or rows be asked under the same id."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        check(open_input(tmp_path), Recipe(prompt="{{ id }}"))
    assert message in str(caught.value)


def test_parquet_parts_keep_their_types(tmp_path: Path) -> None:
    """A folder of Parquet would lose its types, or read a part with other columns."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for name, start in (("part-0.parquet", 0), ("part-1.parquet", 2)):
        parquet.write_table(pa.table({"n": pa.array([start, start + 1], pa.int16())}), tmp_path / name)
    source = open_input(tmp_path)
    assert [row.columns["n"] for row in source] == [0, 1, 2, 3]
    assert (source.format, source.columns) == ("parquet", ("n",))
    assert source.types == open_input(tmp_path / "part-0.parquet").types


@pytest.mark.parametrize(
    ("source", "output", "refused"),
    [
        ("*.jsonl", "out.jsonl", True),
        ("*.jsonl", "out.csv", False),
        ("*.jsonl", "sub/out.jsonl", False),
        ("sub/../*.jsonl", "out.jsonl", True),
        ("**/*.jsonl", "sub/out.jsonl", True),
        ("", "out.csv", True),
        ("", "sub/out.jsonl", True),
        ("sub", "out.jsonl", False),
        ("shop.db::select 1", "shop.db", True),
    ],
)
def test_an_output_never_becomes_an_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, output: str, refused: bool
) -> None:
    """The same command again would read its own answers as rows, or write over a database."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text('"x"\n')
    (tmp_path / "sub").mkdir()
    database(tmp_path / "shop.db", "CREATE TABLE t (n)")
    claim = Claim(source=where(source or "."), overwrite=True)
    if not refused:
        claim.check(output)
        return
    with pytest.raises(ConfigError, match=r"would be one of the files of the input|is the input"):
        claim.check(output)


def _peak(source: Any, **options: Any) -> int:
    rows = open_input(source, **options)
    tracemalloc.start()
    try:
        assert sum(1 for _ in rows) > 1
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _jsonl(count: int) -> bytes:
    return b"".join(b'{"n": %d, "text": "%040d"}\n' % (n, n) for n in range(count))


def _sqlite(path: Path, count: int) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE t (n, text)")
        made.executemany("INSERT INTO t VALUES (?, ?)", ((n, f"{n:040}") for n in range(count)))
        made.commit()
    return path


def test_large_inputs_take_no_more_memory_than_small_ones(tmp_path: Path) -> None:
    """A packed file or a table of a hundred million rows would fill the memory."""
    sizes: Iterable[int] = (5_000, 30_000)
    for kind in (".gz", ".zst", ".db"):
        peaks = []
        for count in sizes:
            path = tmp_path / f"{count}.jsonl{kind}"
            if kind == ".db":
                _sqlite(path, count)
            else:
                path.write_bytes(PACK[kind](_jsonl(count)))
            peaks.append(_peak(path))
        assert peaks[1] < peaks[0] * 1.3 + 100_000, (kind, peaks)


@pytest.mark.soak
def test_a_hundred_thousand_rows_of_each_kind_take_no_more_memory(tmp_path: Path) -> None:
    """As above, with the figures that are promised."""
    test_sizes = (5_000, 100_000)
    for kind in (".gz", ".db"):
        peaks = []
        for count in test_sizes:
            path = tmp_path / f"{count}.jsonl{kind}"
            _sqlite(path, count) if kind == ".db" else path.write_bytes(PACK[kind](_jsonl(count)))
            peaks.append(_peak(path))
        assert peaks[1] < peaks[0] * 1.3 + 100_000, (kind, peaks)
    assert json.loads(_jsonl(1))["n"] == 0


def test_folders_that_name_a_column_are_that_column(tmp_path: Path) -> None:
    """The day of each row would be gone, though every other reader of such folders gives it."""
    for day, text in (("1", "a"), ("2%2F3", "b")):
        (tmp_path / f"day={day}").mkdir()
        (tmp_path / f"day={day}" / "part.csv").write_text(f"text\n{text}\n")
    found = [{"day": "1", "text": "a"}, {"day": "2/3", "text": "b"}]
    assert columns(tmp_path) == columns(tmp_path / "day=*" / "*.csv") == found
    assert open_input(tmp_path).columns == ("text", "day")


def test_a_column_of_the_file_counts_for_more_than_its_folder(tmp_path: Path) -> None:
    """The file's own values would be replaced."""
    (tmp_path / "day=1").mkdir()
    (tmp_path / "day=1" / "a.csv").write_text("text,day\na,7\n")
    assert columns(tmp_path) == [{"text": "a", "day": "7"}]


def test_folders_that_name_different_columns_are_refused(tmp_path: Path) -> None:
    """Some rows would lack the column, and a prompt that uses it fail in the middle of a run."""
    for folder in ("day=1", "week=1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text("text\na\n")
    assert "name other columns" in refusal(tmp_path)
    assert "day, week" in refusal(tmp_path)
