"""Fills a table of an SQLite database that is not a run file, in one transaction: it appears whole or not at all.

It is here because only this package uses SQLite. Nothing else in the database is touched.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from flatout.errors import ConfigError
from flatout.text.sql import quoted

BUSY = 30.0
"""Seconds to wait for others who are writing to the database."""

Content = Iterator[tuple[Any, ...]]
"""The names of a table's columns, and then its rows."""


def content(path: Path, table: str) -> Content:
    """What a table holds; nothing if there is no such table, or no such file.

    Raises:
        ConfigError: it is a view.
        OSError: the database cannot be read.
    """
    if not path.exists():
        return
    # Opened for writing too: SQLite then undoes what a killed writer left half-done.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with plain(), closing(sqlite3.connect(uri, uri=True, timeout=BUSY)) as database:
        yield from _content(database, table)


def replace(
    path: Path,
    table: str,
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[Any]],
    before: Callable[[Content], object],
    after: Callable[[Content], object],
) -> int:
    """Put rows into a table in place of what it held, and return their number.

    Args:
        path: the database, which need not exist.
        table: the table, which need not exist.
        columns: the names and SQLite types of the columns.
        rows: values of the types None, int, float, str and bytes.
        before: called with what the table holds; if it raises, nothing is replaced.
        after: called with what it will hold, before others can see that.

    Raises:
        OSError: the database cannot be written.
    """
    with plain(), _made(path), closing(sqlite3.connect(path, timeout=BUSY, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        before(_content(database, table))
        database.execute(f"DROP TABLE IF EXISTS {quoted(table)}")
        declared = ", ".join(f"{quoted(name)} {kind}".rstrip() for name, kind in columns)
        database.execute(f"CREATE TABLE {quoted(table)} ({declared})")
        places = ", ".join("?" * len(columns))
        total = database.executemany(f"INSERT INTO {quoted(table)} VALUES ({places})", rows).rowcount  # noqa: S608 - quoted
        after(_content(database, table))
        database.execute("COMMIT")  # closing without it undoes everything
    return max(0, total)


def _content(database: sqlite3.Connection, table: str) -> Content:
    query = "SELECT type FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(?)"
    found = database.execute(query, (table,)).fetchone()
    if found is None:
        return
    if found[0] == "view":
        raise ConfigError(f"{table} is a view; write to a table")
    rows = database.execute(f"SELECT * FROM {quoted(table)}")  # noqa: S608 - quoted
    yield tuple(column[0] for column in rows.description)
    yield from rows


@contextmanager
def _made(path: Path) -> Iterator[None]:
    """A block in which a database is made, for its owner alone, unless there is one; if it fails, it leaves none."""
    made = False
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        made = True
    try:
        yield
    except BaseException:
        if made:
            path.unlink(missing_ok=True)
        raise


@contextmanager
def plain() -> Iterator[None]:
    """A block that turns SQLite's errors into OSError, which its callers report."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(f"SQLite says: {error}") from None
