"""Reads databases that are not run files: a table or a query of any SQLite file, row by row.

It is here because only this package uses SQLite. Nothing is written: the file is opened for reading alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from flatout.errors import ConfigError
from flatout.text.sql import quoted


def tables(path: Path, name: str) -> list[str]:
    """The names of a database's tables and views.

    Args:
        path: the database.
        name: its name, for messages.

    Raises:
        ConfigError: it cannot be read.
    """
    query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    with _plain(name), _opened(path) as database:
        return [str(found) for (found,) in database.execute(f"{query} ORDER BY name")]


def whole_table(path: Path, table: str, name: str) -> str:
    """The query for a table's rows in their own order, which must be the same each time.

    Raises:
        ConfigError: the database cannot be read.
    """
    rows = f"SELECT * FROM {quoted(table)}"  # noqa: S608 - quoted, and opened for reading alone
    with _plain(name), _opened(path) as database, suppress(sqlite3.OperationalError):
        # An index may hold all columns in another order. Views and tables without row ids have an order of their own.
        database.execute(f"SELECT rowid FROM {quoted(table)} LIMIT 0")  # noqa: S608 - quoted, and opened for reading alone
        return f"{rows} ORDER BY rowid"
    return rows


def columns(path: Path, query: str, name: str) -> tuple[str, ...]:
    """The columns of a query.

    Raises:
        ConfigError: SQLite cannot run it.
    """
    with _plain(name), _opened(path) as database:
        return tuple(column[0] for column in database.execute(query).description)


def rows(path: Path, query: str, name: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a query, one in memory at a time.

    Raises:
        ConfigError: SQLite cannot run it, or a row cannot be read.
    """
    with _plain(name), _opened(path) as database:
        yield from database.execute(query)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    # Rows are fetched by whichever thread of a pool is free, one at a time.
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, check_same_thread=False)) as database:
        yield database


@contextmanager
def _plain(name: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise ConfigError(f"{name}: SQLite says: {error}") from None
