"""Fills a table of a DuckDB database with duckdb, an extra, in one transaction: it appears whole or not at all.

Rows go there as Arrow tables, so types are as for Parquet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from flatout.errors import ConfigError
from flatout.runs.input.duck import engine, whole_table
from flatout.runs.parquet import arrow
from flatout.text.sql import quoted

_ROWS_READ = 1_000

Content = Iterator[tuple[Any, ...]]
"""The names of a table's columns, and then its rows."""


def content(path: Path, table: str) -> Content:
    """What a table holds; nothing if there is no such table, or no such file.

    Raises:
        ConfigError: duckdb is not installed, or it is a view.
        OSError: the database cannot be read.
    """
    duckdb = engine(str(path))
    if not path.exists():
        return
    with _plain(duckdb), closing(duckdb.connect(str(path), read_only=True)) as database:
        yield from _content(database, table)


def replace(
    path: Path,
    table: str,
    schema: Any,
    groups: Iterable[Any],
    before: Callable[[Content], object],
    after: Callable[[Content], object],
) -> int:
    """Put rows into a table in place of what it held, and return their number.

    Args:
        path: the database, which need not exist.
        table: the table, which need not exist.
        schema: the Arrow schema of the rows.
        groups: the rows, as Arrow tables.
        before: called with what the table holds; if it raises, nothing is replaced.
        after: called with what it will hold, before others can see that.

    Raises:
        OSError: the database cannot be written.
    """
    duckdb, is_new, total = engine(str(path)), not path.exists(), 0
    schema = _known(schema)
    try:
        with _plain(duckdb), closing(duckdb.connect(str(path))) as database:
            if is_new:
                path.chmod(0o600)
            database.execute("BEGIN")
            before(_content(database, table))
            name = quoted(table)
            database.register("flatout_rows", schema.empty_table())
            database.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM flatout_rows")  # noqa: S608 - quoted
            for group in groups:
                database.register("flatout_rows", group.cast(schema))
                database.execute(f"INSERT INTO {name} SELECT * FROM flatout_rows")  # noqa: S608
                total += group.num_rows
            after(_content(database, table))
            database.execute("COMMIT")  # closing without it undoes everything
    except BaseException:
        if is_new:
            path.unlink(missing_ok=True)
        raise
    return total


def _known(schema: Any) -> Any:
    """A schema with types that DuckDB has: it has no half floats."""
    pa = arrow()
    for place, field in enumerate(schema):
        if pa.types.is_float16(field.type):
            schema = schema.set(place, field.with_type(pa.float32()))
    return schema


def _content(database: Any, table: str) -> Content:
    kinds = (
        "SELECT table_type FROM information_schema.tables "
        "WHERE table_schema = current_schema() AND lower(table_name) = lower(?)"
    )
    found = database.execute(kinds, [table]).fetchone()
    if found is None:
        return
    if found[0] == "VIEW":
        raise ConfigError(f"{table} is a view; write to a table")
    # The rows are asked for only when they are wanted: a result that is not read to its end blocks the connection.
    yield tuple(str(column[0]) for column in database.execute(f"DESCRIBE {quoted(table)}").fetchall())
    rows = database.execute(whole_table(table))
    while some := rows.fetchmany(_ROWS_READ):
        yield from some


@contextmanager
def _plain(duckdb: Any) -> Iterator[None]:
    """A block that turns DuckDB's errors into OSError, which its callers report."""
    try:
        yield
    except duckdb.Error as error:
        raise OSError(f"DuckDB says: {str(error).partition(chr(10))[0]}") from None
