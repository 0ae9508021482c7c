"""What a run file may contain, and whether a file contains exactly that.

A run file may come from anyone. A view in place of a table may never end, a trigger may change what is written, and an
index on expressions may run expensive code. So flatout refuses, before using it, anything in the file that no version
of flatout made. The same check finds a file that is between two versions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from typing import NamedTuple

from flatout.errors import StoreError

from .queries import migrations, queries

_SQL = queries("schema")
_MOST = 100
"""Database objects that are read at most; a run file has ten."""


class DatabaseSchema(NamedTuple):
    """The objects of a database.

    Attributes:
        objects: the SQL of each object, by its kind and name. SQLite's own objects are left out.
        columns: the columns of each table.
    """

    objects: Mapping[tuple[str, str], str]
    columns: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, connection: sqlite3.Connection) -> DatabaseSchema:
        """The schema of an open database."""
        objects = {(kind, name): sql for kind, name, sql in connection.execute(_SQL["objects"], (_MOST,))}
        columns: dict[str, set[str]] = {}
        for table, column in connection.execute(_SQL["columns"], (_MOST * _MOST,)):
            columns.setdefault(table, set()).add(column)
        return cls(objects, {table: frozenset(names) for table, names in columns.items()})


def check_schema(connection: sqlite3.Connection, version: int, name: str, *, half_upgraded: bool = False) -> None:
    """Refuse a file with other tables, views, triggers or indexes than this version of the run file has.

    Args:
        connection: to the file; nothing has been read from its tables yet.
        version: the version that the file claims.
        name: its name, for messages.
        half_upgraded: accept a file that lacks something.

    Raises:
        StoreError: it has something foreign, or lacks something; the message names it.
    """
    expected, actual = made_by(version), DatabaseSchema.of(connection)
    for (kind, what), sql in actual.objects.items():
        ours = expected.objects.get((kind, what))
        # SQLite rewrites the text of an altered table, so tables are compared by their columns.
        if ours is None or (kind != "table" and sql != ours):
            raise _foreign(name, f"{kind} {what!r}")
    for table, columns in actual.columns.items():
        if more := columns - expected.columns.get(table, columns):
            raise _foreign(name, f"column {min(more)!r} of the table {table!r}")
    if not half_upgraded and (missing := _missing(expected, actual)):
        raise StoreError(
            f"{name} is half upgraded, by a flatout that was never released: it has no {missing}; "
            "flatout export --salvage recovers what is left"
        )


def _foreign(name: str, what: str) -> StoreError:
    return StoreError(
        f"{name} is not opened: flatout did not make the {what} in it, and a file from someone else may hold anything"
    )


def _missing(expected: DatabaseSchema, actual: DatabaseSchema) -> str:
    """The first thing that a file should have but lacks; "" if it has everything."""
    for kind, name in sorted(expected.objects.keys() - actual.objects.keys()):
        return f"{kind} {name}"
    for table, columns in expected.columns.items():
        if less := columns - actual.columns[table]:
            return f"column {min(less)} in its table {table}"
    return ""


@cache
def made_by(version: int) -> DatabaseSchema:
    """The schema of a version of the run file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in migrations()[:version]:
            connection.executescript(script)
        return DatabaseSchema.of(connection)
