"""Reads DuckDB files with duckdb, an extra.

Rows come as Arrow record batches, so values and types are as for Parquet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from flatout.errors import ConfigError
from flatout.extras import package
from flatout.runs.parquet import arrow, rows_of, types_of
from flatout.text.sql import quoted

_ROWS_READ = 256  # rows of a record batch


def tables(path: Path, name: str) -> list[str]:
    """The names of a database's tables and views.

    Raises:
        ConfigError: it cannot be read, or duckdb is not installed.
    """
    query = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY 1"
    with _opened(path, name) as database:
        return [str(found) for (found,) in database.execute(query).fetchall()]


def whole_table(table: str) -> str:
    """The query for a table's rows; DuckDB keeps the order in which they were put in."""
    return f"SELECT * FROM {quoted(table)}"  # noqa: S608 - quoted, and opened for reading alone


def columns(path: Path, query: str, name: str) -> tuple[tuple[str, ...], str]:
    """The columns of a query and their types, as `flatout.runs.parquet.write_rows` takes them.

    Raises:
        ConfigError: DuckDB cannot run it.
    """
    with _opened(path, name) as database:
        schema = _reader(database, query).schema
        return tuple(schema.names), types_of(schema)


def rows(path: Path, query: str, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a query, a few in memory at a time.

    Raises:
        ConfigError: DuckDB cannot run it, or Python has no equivalent of a value.
    """
    done = 0
    with _opened(path, name) as database:
        for batch in _reader(database, query):
            for row in rows_of(batch, name, done):
                yield row
                done += 1


def _reader(database: Any, query: str) -> Any:
    found = database.sql(query)
    return (getattr(found, "to_arrow_reader", None) or found.fetch_arrow_reader)(_ROWS_READ)


def engine(name: str) -> Any:
    """The duckdb module.

    Raises:
        ConfigError: it, or pyarrow, is not installed.
    """
    arrow()
    return package("duckdb", needs=f"{name}: a DuckDB database needs", extra="duckdb")


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Any]:
    duckdb = engine(name)
    try:
        with closing(duckdb.connect(str(path), read_only=True)) as database:
            yield database
    except duckdb.Error as error:
        raise ConfigError(f"{name}: DuckDB says: {str(error).partition(chr(10))[0]}") from None
