"""Rows of a database file: a table or a query of SQLite or DuckDB.

``shop.db::orders`` names a table, ``shop.db::select …`` asks. A database with one table needs no name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from flatout.errors import ConfigError

from .begun import Begun, check_unique
from .rows import InputSource, Row

_QUERY = re.compile(r"\s*(?:(?:select|with|values|from)[\s(*\"']|\()", re.IGNORECASE)
_NAMED = 12  # tables that a message names


def is_query(part: str) -> bool:
    """Whether what follows ``::`` is a query, and not a table's name."""
    return _QUERY.match(part) is not None


def begin_sqlite(path: Path, part: str | None, source: InputSource) -> Begun:
    """Look up the columns; rows follow as they are asked for.

    Raises:
        ConfigError: no such table, or SQLite cannot run the query.
    """
    from flatout.store import foreign

    query = part
    if part is None or not is_query(part):
        query = foreign.whole_table(path, _table(foreign.tables(path, source.name), part, source.name), source.name)
    assert query is not None
    columns = foreign.columns(path, query, source.name)
    check_unique(columns, f"{source.name}:")
    found = partial(foreign.rows, path, query, source.name)
    return Begun(_rows(found(), columns, source), columns)


def begin_duckdb(path: Path, part: str | None, source: InputSource) -> Begun:
    """Look up the columns and their types; rows follow as they are asked for.

    Raises:
        ConfigError: duckdb is not installed, no such table, or DuckDB cannot run the query.
    """
    from . import duck

    query = part
    if part is None or not is_query(part):
        query = duck.whole_table(_table(duck.tables(path, source.name), part, source.name))
    assert query is not None
    columns, types = duck.columns(path, query, source.name)
    check_unique(columns, f"{source.name}:")
    found = enumerate(duck.rows(path, query, source.name))
    return Begun((Row(index, index + 1, values, source) for index, values in found), columns, types)


def _rows(found: Iterator[tuple[Any, ...]], columns: tuple[str, ...], source: InputSource) -> Iterator[Row]:
    for index, values in enumerate(found):
        yield Row(index, index + 1, dict(zip(columns, values, strict=True)), source)


def _table(tables: list[str], wanted: str | None, name: str) -> str:
    """The table to read: the one wanted, or the only one."""
    if wanted is None and len(tables) == 1:
        return tables[0]
    if wanted is None:
        way_out = f"name one: {name}::{tables[0]}" if tables else "there is nothing to read"
        raise ConfigError(f"{name}: holds {_listed(tables)}; {way_out}")
    found = next((each for each in tables if each.lower() == wanted.strip().lower()), None)
    if found is None:
        raise ConfigError(f"{name}: has no table {wanted.strip()!r}; it holds {_listed(tables)}")
    return found


def _listed(tables: list[str]) -> str:
    if not tables:
        return "no table"
    more = f" and {len(tables) - _NAMED:,} more" if len(tables) > _NAMED else ""
    return f"the table{'s' if len(tables) > 1 else ''} {', '.join(tables[:_NAMED])}{more}"
