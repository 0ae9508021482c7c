"""Outputs that are more than a plain file: packed ones, and tables of databases."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flatout.errors import ConfigError, StoreError
from flatout.runs.input.read import open_input
from flatout.runs.output import duck
from flatout.runs.output.answered import ANSWER_COLUMNS, AnsweredRow
from flatout.runs.output.claim import Claim, where
from flatout.runs.output.write import check_output, write

DATABASES = ("out.db", "out.duckdb")


def rows(*columns: dict[str, Any], **answer: Any) -> Callable[[], Iterator[AnsweredRow]]:
    return lambda: (AnsweredRow(columns=each, **answer) for each in columns)


def read(source: str | Path) -> list[dict[str, Any]]:
    return [row.columns for row in open_input(source)]


def available(name: str) -> str:
    if "duckdb" in name:
        pytest.importorskip("duckdb")
    if ".zst" in name and sys.version_info < (3, 14):
        pytest.importorskip("backports.zstd")
    return name


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz", "a.ndjson.zst", "a.tsv.bz2", "a.jsonl.xz"])
def test_a_packed_output_is_packed_as_its_name_says(tmp_path: Path, name: str) -> None:
    """A terabyte of answers would fill a disk, or a file be packed whose name says otherwise."""
    path = tmp_path / available(name)
    given = rows({"text": "é, x"}, {"text": "y"}, answer="spam")
    check_output(path)
    assert write(path, given) == 2
    once = path.read_bytes()
    assert b"spam" not in once
    found = read(path)
    assert [row["text"] for row in found] == ["é, x", "y"]
    assert found[0]["answer"] == "spam"
    write(path, given)
    assert path.read_bytes() == once, "the same answers would look like another file"


def test_a_packed_output_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Half a packed file would be taken for a whole one by programs that do not look for its end."""

    def broken() -> Iterator[AnsweredRow]:
        yield AnsweredRow(columns={})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.jsonl.gz", broken, ())
    assert list(tmp_path.iterdir()) == []


def test_zstd_without_its_package_is_found_before_the_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All answers would be paid for and then not be written."""
    monkeypatch.setitem(sys.modules, "compression", None)
    monkeypatch.setitem(sys.modules, "backports", None)
    with pytest.raises(ConfigError, match=r"pip install 'flatout\[compression\]'"):
        check_output(tmp_path / "a.jsonl.zst")


def test_another_delimiter(tmp_path: Path) -> None:
    """Spreadsheets of half of the world would show all columns as one; TSV has tabs whatever the input had."""
    write(tmp_path / "a.csv", rows({"a": "1;2", "b": "x"}), delimiter=";")
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith('"1;2";x;')
    write(tmp_path / "a.tsv", rows({"a": "1;2", "b": "x"}), delimiter=";")
    assert (tmp_path / "a.tsv").read_text().splitlines()[1].startswith("1;2\tx\t")


@pytest.mark.parametrize("url", ["s3://bucket/out.jsonl?X-Amz-Signature=hidden", "s3://key:hidden@bucket/out.jsonl"])
def test_a_url_of_an_output_has_no_secrets(url: str) -> None:
    """Answers would be written under a name with a signature in it, or a password be shown."""
    with pytest.raises(ConfigError, match=r"^s3://bucket/out.jsonl: give no password and no query"):
        check_output(url)


@pytest.mark.parametrize("name", DATABASES)
def test_a_table_of_a_database(tmp_path: Path, name: str) -> None:
    """Rows or values would be lost on their way into a database, or other tables of it."""
    path = tmp_path / available(name)
    check_output(f"{path}::answers")
    given = rows({"id": 1, "text": "a"}, {"id": 2, "tags": ["é"]}, answer="yes", cost=0.5, attempts=1)
    assert write(f"{path}::answers", given) == 2
    assert path.stat().st_mode & 0o077 == 0
    assert write(f"{path}::others", rows({"n": 1})) == 1
    one, two = read(f"{path}::answers")
    assert list(one) == ["id", "text", "tags", *ANSWER_COLUMNS]
    assert (one["id"], one["text"], one["answer"], one["cost"], one["attempts"]) == (1, "a", "yes", 0.5, 1)
    assert (one["error"], two["text"]) == (None, None)
    assert two["tags"] in ('["é"]', ["é"])
    assert read(f"{path}::others")[0]["n"] == 1


def test_duckdb_gets_half_floats_as_floats(tmp_path: Path) -> None:
    """A Parquet file of a model's weights would be answered, and then not be written."""
    duckdb, pa = pytest.importorskip("duckdb"), pytest.importorskip("pyarrow")
    halves = pa.table({"half": pa.array([1.5, None]).cast(pa.float16())})
    path = tmp_path / "a.duckdb"
    assert duck.replace(path, "t", halves.schema, [halves], list, list) == 2
    with contextlib.closing(duckdb.connect(str(path))) as made:
        assert made.execute("SELECT half FROM t").fetchall() == [(1.5,), (None,)]


def test_unusual_values_in_sqlite(tmp_path: Path) -> None:
    """One strange value would keep a million rows from being written."""
    odd = {"big": 2**70, "nan": math.nan, "half": "a\ud800b", "nul": "a\0b", "yes": True, "raw": b"\xff"}
    write(f"{tmp_path / 'a.db'}::t", rows(odd, answer={"k": 1}))
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as made:
        found = made.execute("SELECT big, nan, half, nul, yes, raw, answer FROM t").fetchone()
    assert found == (str(2**70), None, "a?b", "a\0b", 1, b"\xff", '{"k":1}')


@pytest.mark.parametrize("name", DATABASES)
def test_names_that_a_database_takes_for_one(tmp_path: Path, name: str) -> None:
    """A column would be renamed or overwritten: databases do not tell capital letters from small ones."""
    path = tmp_path / available(name)
    write(f"{path}::t", rows({"Answer": "mine"}, answer="new"))
    found = read(path)[0]
    assert (found["Answer"], found["flatout_answer"]) == ("mine", "new")
    with pytest.raises(ConfigError, match="takes the columns 'id' and 'Id' for one"):
        write(f"{path}::t", rows({"id": 1, "Id": 2}))
    with pytest.raises(ConfigError, match="no column named ''"):
        write(f"{path}::t", rows({"": 1}))
    assert read(path)[0]["Answer"] == "mine"


@pytest.mark.parametrize("name", DATABASES)
def test_a_table_is_replaced_as_a_file_is(tmp_path: Path, name: str) -> None:
    """A table of somebody else, or one that was edited, would be lost to a name typed wrongly."""
    path = tmp_path / available(name)
    mine: list[str] = []

    def claim(**options: Any) -> Claim:
        return Claim(mine=mine, note=lambda digests: mine.__setitem__(slice(None), digests), **options)

    write(f"{path}::t", rows({"n": 1}), claim=claim())
    write(f"{path}::T", rows({"n": 2}), claim=claim())
    assert read(path)[0]["n"] == 2
    for refuses in (check_output, lambda path, claim: write(path, rows({"n": 3}), claim=claim)):
        with pytest.raises(ConfigError, match="::t: exists already; name another table, or add --overwrite"):
            refuses(f"{path}::t", claim=Claim())
    assert read(path)[0]["n"] == 2
    change(path, "UPDATE t SET n = 5")
    with pytest.raises(ConfigError, match="exists already"):
        write(f"{path}::t", rows({"n": 4}), claim=claim())
    write(f"{path}::t", rows({"n": 4}), claim=claim(overwrite=True))
    assert read(path)[0]["n"] == 4
    change(path, "CREATE VIEW v AS SELECT n FROM t")
    with pytest.raises(ConfigError, match="v is a view"):
        check_output(f"{path}::v", claim=Claim(overwrite=True))
    write(f"{path}::t", rows({"n": 6}), claim=claim())
    assert read(f"{path}::v") == [{"n": 6}]


def change(path: Path, statement: str) -> None:
    if path.suffix == ".duckdb":
        import duckdb

        with duckdb.connect(str(path)) as database:
            database.execute(statement)
    else:
        with contextlib.closing(sqlite3.connect(path)) as made, made:
            made.execute(statement)


@pytest.mark.parametrize("name", DATABASES)
@pytest.mark.parametrize("exists", [True, False])
def test_the_old_table_stays_until_the_new_one_is_whole(tmp_path: Path, name: str, exists: bool) -> None:
    """A crash while writing would leave half a table in place of yesterday's whole one, or a database with nothing."""
    path = tmp_path / available(name)
    if exists:
        write(f"{path}::t", rows({"n": 1}))

    def broken() -> Iterator[AnsweredRow]:
        yield AnsweredRow(columns={"n": 2})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(f"{path}::t", broken, ("n",))
    if exists:
        assert read(path)[0]["n"] == 1
    else:
        assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_to_write_to(tmp_path: Path) -> None:
    """A run file, or a file that only has the name of a database, would be written over."""
    (tmp_path / "text.db").write_text("my notes")
    (tmp_path / "run.db").write_bytes(b"SQLite format 3\0".ljust(68, b"\0") + b"FLAT")
    (tmp_path / "empty.db").touch()
    for name, message in {"text.db": "exists, and is no database", "run.db": "is a run file"}.items():
        with pytest.raises(ConfigError, match=message):
            check_output(f"{tmp_path / name}::t", claim=Claim(overwrite=True))
    with pytest.raises(ConfigError, match=r"a table has no csv format"):
        check_output(f"{tmp_path}/empty.db::t", format="csv")
    write(f"{tmp_path}/empty.db::t", rows({"n": 1}))
    assert (tmp_path / "text.db").read_text() == "my notes"


def test_a_database_that_is_what_its_content_says(tmp_path: Path) -> None:
    """A DuckDB file that is named .db would be taken for SQLite."""
    duckdb = pytest.importorskip("duckdb")
    duckdb.connect(str(tmp_path / "shop.db")).close()
    write(f"{tmp_path}/shop.db::t", rows({"n": 1}))
    assert read(f"{tmp_path}/shop.db::t")[0]["n"] == 1


def test_a_database_that_is_locked_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback would end a night's run because a person looked at the database."""
    from flatout.store import foreign_table

    monkeypatch.setattr(foreign_table, "BUSY", 0.0)
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE mine (n)")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match=r"a\.db::t: cannot be written: SQLite says: database is locked"):
            write(f"{tmp_path}/a.db::t", rows({"n": 1}))


@pytest.mark.parametrize(
    ("source", "output", "refused"),
    [
        ("shop.db::mails", "shop.db::labels", False),
        ("shop.db::mails", "shop.db::Mails", True),
        ("shop.db", "shop.db::labels", True),
        ("shop.db::select * from mails", "shop.db::labels", True),
        ("mails.jsonl", "shop.db::labels", False),
    ],
)
def test_answers_may_stand_beside_the_table_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, output: str, refused: bool
) -> None:
    """The input would be replaced; or a second table in it make the same command fail when it is given again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mails.jsonl").write_text('"x"\n')
    with contextlib.closing(sqlite3.connect("shop.db")) as made:
        made.execute("CREATE TABLE mails (text)")
    claim = Claim(source=where(source), overwrite=True)
    if refused:
        with pytest.raises(ConfigError, match="is the input"):
            check_output(output, claim=claim)
    else:
        check_output(output, claim=claim)
    with pytest.raises(ConfigError, match=r"is in the database of the input, .* leave out --no-prompts"):
        check_output("shop.db::labels", claim=Claim(source=where("shop.db::mails"), rereads=True))
    with pytest.raises(ConfigError, match="is the input"):
        check_output("shop.db::mails", claim=Claim(source=where("shop.db::mails"), rereads=True))
