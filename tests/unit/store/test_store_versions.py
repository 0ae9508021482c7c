"""Run files of every version that ever was, and of none: what stands in them is read, or named."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
from contextlib import closing
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

from flatout.errors import StoreError
from flatout.store import RunReader, queries, salvage, schema
from tests.support.store_samples import open_run

LANDED = {
    "0001_run_file.sql": "25c2b31c6cf0f76d",
    "0002_repaired_and_after.sql": "9b9b06601a0b8e98",
    "0003_facts.sql": "2519ae229a54f3cc",
    "0004_ledger.sql": "b6f81941a4c5abac",
    "0005_trail.sql": "c84beb3134170e4d",
    "0006_batches.sql": "4d836adc4a0e69a6",
    "0007_course.sql": "d283a87e35487bd6",
    "0008_rows_of_batch.sql": "d66d609059962dcc",
    "0009_batch_answers.sql": "72ba36e0a6933c80",
    "0010_deeds.sql": "60ad1b789b42aa9a",
    "0011_failed_attempts.sql": "d0a6a6f7ae7bc6c6",
    "0012_without_answer.sql": "759f2a4466785ec1",
}
"""The first 16 digits of each migration's sha256. Files that were made with it are out there: it never changes."""

KEPT = Path(__file__).parent / "run_files"
"""Of each version a file with an answered and a failed item, and a third of which only a step is done."""


@pytest.fixture(params=sorted(path.name for path in KEPT.glob("version-*.flatout")))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copy(KEPT / request.param, tmp_path / "answers.flatout"))


def test_a_landed_migration_is_never_edited() -> None:
    """Files that the old text made would call themselves this version, and lack what the new text makes."""
    folder = files("flatout.store") / "sql" / "migrations"
    found = {
        entry.name: hashlib.sha256(entry.read_bytes()).hexdigest()[:16]
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    }
    assert found == LANDED


def test_a_file_of_every_earlier_version_is_kept() -> None:
    """A new version would be tried on new files alone."""
    assert len(list(KEPT.glob("version-*.flatout"))) == len(queries.migrations()) - 1


def test_a_file_of_an_earlier_version_goes_on(old: Path) -> None:
    """After an upgrade a run that was half done could not go on, and its answers would be paid for again."""
    run = open_run(old, job={"model": "m"})
    assert [(found.index, found.state) for found in run.finished()] == [(0, "answered"), (1, "failed")]
    assert asyncio.run(run.journalled(2))["1"].kind == "answered"
    run.close_now()
    with RunReader.open(old) as reader:
        first, second = reader.items()
        assert (first.answer, second.error) == ("answer 0", "Truncated")


def test_what_an_earlier_version_spent_is_reckoned(old: Path) -> None:
    """A budget would begin anew with the upgrade."""
    open_run(old, job={"model": "m"}).close_now()
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT spent, items FROM run").fetchone() == (
            0.25  # told for the answered item
            + 0.5  # the failed one's estimate
            + 0.0625  # told for a step of the unfinished one
            + 0.125,  # the estimate of what it had in flight
            2,
        )


@pytest.mark.parametrize(
    "name", ["version-2", "version-3", "version-4", "version-5", "version-6", "version-7", "version-8"]
)
def test_a_finished_run_of_an_earlier_version_is_read_as_it_is(name: str) -> None:
    """Who only wants the answers of an old run would have to run it once more first."""
    path = KEPT / f"{name}.flatout"
    before = path.read_bytes()
    with RunReader.open(path) as reader:
        assert reader.fact("nothing") is None
        assert [item.answer for item in reader.items("answered")] == ["answer 0"]
        assert [tried.outcome for tried in reader.history(1).attempts] == ["failed"]
        assert reader.summary().answered == 1
    assert path.read_bytes() == before


def test_the_batches_of_an_earlier_version_go_on(tmp_path: Path) -> None:
    """Answers that were paid for would be asked once more, or rows that a provider has would be sent again."""
    path = Path(shutil.copy(KEPT / "version-8.flatout", tmp_path))
    states = {
        0: "kept", 1: "kept", 3: "sent", 4: "answered", 5: "expired", 6: "sent", 7: "answered", 8: "back"
    }  # fmt: skip
    with RunReader.open(path) as before:
        assert before.ledger is not None
        assert {row.index: row.state for row in filter(None, map(before.ledger.row, range(9)))} == states
        counts = before.ledger.counts()
    run = open_run(path, job={"model": "m"})
    rows = {row.index: row for row in run.ledger.rows()}
    assert {row.index: row.state for row in rows.values()} == states
    assert {row.index: row.state for row in filter(None, map(run.ledger.row, range(9)))} == states
    assert {index: [each.body for each in row.told] for index, row in rows.items() if row.told} == {
        4: [b'{"a":4}'], 6: [b'{"earlier":1}'], 7: [b'{"earlier":1}', b'{"a":7}']
    }  # fmt: skip
    assert (rows[8].tries, rows[8].most, rows[8].fingerprint) == (0, 3, bytes([8]) * 16)
    assert run.ledger.counts() == counts
    assert run.ledger.has_results()
    run.close_now()


@pytest.mark.parametrize(
    ("name", "missing"),
    [("half-of-1", "trigger entry_settles_attempts"), ("half-of-2", "column after in its table attempts")],
)
def test_a_file_between_two_versions_is_named_as_such(tmp_path: Path, name: str, missing: str) -> None:
    """It would fail in the middle of the run, when the first statement misses a column."""
    path = Path(shutil.copy(KEPT / f"{name}.flatout", tmp_path))
    with pytest.raises(StoreError, match=f"is half upgraded.*it has no {missing}; flatout export --salvage"):
        open_run(path, job={"model": "m"})
    assert not [found for found in tmp_path.iterdir() if found != path]
    assert path.read_bytes() == (KEPT / f"{name}.flatout").read_bytes()


def test_a_file_between_two_versions_can_be_salvaged() -> None:
    """The advice would lead to the same refusal."""
    assert [item.answer for item in salvage(KEPT / "half-of-2.flatout")] == ["answer 0", None]


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"

FOREIGN = {
    "view 'more'": f"CREATE VIEW more AS {ENDLESS}",
    "table 'more'": "CREATE TABLE more (x)",
    "index 'more'": "CREATE INDEX more ON items (hex(zeroblob(1000000)))",
    "trigger 'more'": "CREATE TRIGGER more AFTER INSERT ON items BEGIN UPDATE items SET answer = 'mine'; END",
    "column 'more' of the table 'items'": "ALTER TABLE items ADD COLUMN more",
    "column 'more (computed)' of the table 'items'": "ALTER TABLE items ADD COLUMN more AS (hex(zeroblob(1000000)))",
    "view 'items'": f"ALTER TABLE items RENAME TO run_items; CREATE VIEW items AS {ENDLESS}",
    "trigger 'item_settles_attempts'": (
        "DROP TRIGGER item_settles_attempts; CREATE TRIGGER item_settles_attempts AFTER INSERT ON items "
        "BEGIN UPDATE items SET answer = 'mine'; END"
    ),
    "index 'attempts_in_flight'": (
        "DROP INDEX attempts_in_flight; CREATE INDEX attempts_in_flight ON attempts (hex(zeroblob(item_index)))"
    ),
}


def test_what_a_change_did_is_known_of_earlier_files(tmp_path: Path) -> None:
    """The report of a run from before an upgrade would not show its pauses; nor would that of one that went on."""
    path = Path(shutil.copy(KEPT / "version-9.flatout", tmp_path / "answers.flatout"))
    told = [("paused, rpm 60", "pause"), ("resumed", "resume"), ("drain", "drain"), ("paused quickly", None)]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for what, _ in told:
            connection.execute("INSERT INTO happenings (at, kind, what) VALUES (1, 'change', ?)", (what,))
        connection.execute("INSERT INTO happenings (at, kind, target, what) VALUES (1, 'pause', 'm', 'paused')")

    def found() -> list[tuple[str, str | None]]:
        with RunReader.open(path) as reader:
            assert reader.course is not None
            return [(each.what, each.does) for _, each in reader.course.happenings() if each.at == 1]

    assert found() == [*told, ("paused", None)]
    open_run(path, job={"model": "m"}).close_now()
    assert found() == [*told, ("paused", None)]


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("opening", [open_run, RunReader.open, lambda path: next(salvage(path))])
def test_what_flatout_did_not_make_is_refused_by_name(tmp_path: Path, what: str, opening: object) -> None:
    """A file from someone else would hang `status` for ever, or change the answers that are written."""
    path = tmp_path / "answers.flatout"
    open_run(path).close_now()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FOREIGN[what])
    with pytest.raises(StoreError, match="flatout did not make the ") as refused:
        opening(path)  # type: ignore[operator] # three ways to open
    assert what in str(refused.value) or "'run_items'" in str(refused.value)


def test_statistics_are_no_foreign_table(tmp_path: Path) -> None:
    """Who let SQLite analyse the file could not go on with the run."""
    path = tmp_path / "answers.flatout"
    open_run(path).close_now()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ANALYZE")
    open_run(path).close_now()


def test_the_schema_of_each_version_is_its_own() -> None:
    """Two versions alike could not be told from each other, and a file between them not at all."""
    made = [schema.made_by(version) for version in range(1, len(queries.migrations()) + 1)]
    told = [
        (each.columns, {name: sql for (kind, name), sql in each.objects.items() if kind != "table"}) for each in made
    ]
    assert all(one != two for one, two in pairwise(told))
