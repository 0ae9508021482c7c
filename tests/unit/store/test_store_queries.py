"""The store's SQL: each statement named, described, and true to the tables."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest

from flatout.errors import StoreError
from flatout.store import Item, RunReader, database, queries, schema
from tests.support.store_samples import item, open_run

TOPICS = sorted(
    entry.name.removesuffix(".sql")
    for entry in (files("flatout.store") / "sql").iterdir()
    if entry.name.endswith(".sql")
)


def test_every_statement_is_named_and_described() -> None:
    """A statement could not be found from its name, or would swallow the one after it."""
    for topic in TOPICS:
        for name, statement in queries.queries(topic).items():
            assert statement.count(";") == 0, f"{topic}.{name} is more than one statement"


@pytest.mark.parametrize("text", ["SELECT 1;", "-- a: One.\nSELECT 1;\n-- a: Two.\nSELECT 2;"])
def test_a_badly_headed_file_is_refused(text: str) -> None:
    """One statement would silently hide another."""
    with pytest.raises(ValueError, match="statement"):
        queries.parse(text)


def test_every_statement_fits_the_tables() -> None:
    """A statement that is rarely used would fail when it is needed."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        database.migrate(connection, 0)
        for topic in TOPICS:
            for statement in queries.queries(topic).values():
                if statement.startswith("CREATE"):  # tables of a file of their own
                    connection.execute(statement)
                elif not statement.startswith(("PRAGMA", "BEGIN", "COMMIT", "ROLLBACK")):
                    names = dict.fromkeys(re.findall(r":(\w+)", statement))
                    connection.execute(f"EXPLAIN {statement}", names or [None] * statement.count("?"))


def test_columns_are_the_fields() -> None:
    """A field would have no column, or a column would be filled with its neighbour's value."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        database.migrate(connection, 0)
        columns = {row[1] for row in connection.execute("PRAGMA table_info(items)")}
        fields = ["item_index", *Item.__struct_fields__[1:]]
        assert columns == set(fields)
        statement = queries.queries("items")["finish"]
        inserted = re.search(r"INTO items \((.*?)\)", statement, re.DOTALL)
        assert inserted is not None
        assert re.split(r",\s*", inserted[1].strip()) == fields
        updated = re.findall(r"(\w+) = excluded\.(\w+)", statement)
        assert updated == [(field, field) for field in fields[1:]]
        asked = {"first": 0, "last": 0, "choice": "all", "most": 1}
        cursor = connection.execute(queries.queries("items")["items"], asked)
        assert [column[0] for column in cursor.description] == fields


def test_each_migration_leaves_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file would be migrated twice, or taken for a newer one."""
    every = queries.migrations()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for number in range(len(every)):
            monkeypatch.setattr(database, "migrations", lambda number=number: every[: number + 1])
            database.migrate(connection, number)
            assert connection.execute("PRAGMA user_version").fetchone() == (number + 1,)


def test_an_older_file_is_brought_up_to_date_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade, old runs could not be resumed, or a failed upgrade would leave half a schema."""
    path = tmp_path / "answers.flatout"
    run = open_run(path)
    asyncio.run(run.finish(item(0)))
    run.close_now()
    now = queries.migrations()
    number = f"PRAGMA user_version = {len(now) + 1};"
    broken = f"ALTER TABLE items ADD COLUMN mood TEXT; ALTER TABLE nonsense ADD COLUMN x; {number}"
    good = f"ALTER TABLE items ADD COLUMN mood TEXT; {number}"
    for script in (broken, good):
        for module in (database, schema):
            monkeypatch.setattr(module, "migrations", lambda script=script: (*now, script))
        if script is broken:
            with pytest.raises(StoreError, match="nonsense"):
                open_run(path)
    open_run(path).close_now()
    with RunReader.open(path) as found:
        assert found.item(0) == item(0)
    monkeypatch.undo()
    for opening in (open_run, RunReader.open):
        with pytest.raises(
            StoreError, match=rf"newer flatout \(version {len(now) + 1} of the run file; this one knows {len(now)}\)"
        ):
            opening(path)


def test_a_run_file_that_is_being_made_has_nothing_in_it_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a run that starts, `status` would say that an older flatout made its file, or a stranger."""
    path, seen = tmp_path / "answers.flatout", set()
    connect = database.connect

    def look(_: str) -> None:
        try:
            with RunReader.open(path) as reader:
                seen.add(reader.info().state)
        except StoreError as error:
            seen.add(str(error))

    def watched(place: database.Place, mode: str) -> sqlite3.Connection:
        connection = connect(place, mode)
        if mode == "rwc":
            connection.set_trace_callback(look)
        return connection

    monkeypatch.setattr(database, "connect", watched)
    open_run(path).close_now()
    assert seen - {"running", "interrupted"} == {f"{path} has nothing in it yet"}
