"""What a run file is made of, and whether a file is made of just that.

A run file may come from anyone. A view in place of a table never ends, a trigger changes what is written, an index of
expressions costs what its maker likes: so what no version of flatout made is refused by its name before it is used.
The same look finds a file that some unlanded version left between two versions.
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
_MOST = 100  # objects that are looked at; a run file has ten


class DatabaseSchema(NamedTuple):
    """The objects of a database.

    Attributes:
        objects: the SQL of each by its kind and name. SQLite's own are left out.
        columns: the columns of each table.
    """

    objects: Mapping[tuple[str, str], str]
    columns: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, connection: sqlite3.Connection) -> DatabaseSchema:
        """What a database is made of."""
        objects = {(kind, name): sql for kind, name, sql in connection.execute(_SQL["objects"], (_MOST,))}
        columns: dict[str, set[str]] = {}
        for table, column in connection.execute(_SQL["columns"], (_MOST * _MOST,)):
            columns.setdefault(table, set()).add(column)
        return cls(objects, {table: frozenset(names) for table, names in columns.items()})


def check_schema(connection: sqlite3.Connection, version: int, name: str, *, half_upgraded: bool = False) -> None:
    """Refuse a file that has other tables, views, triggers or indexes than this version of the run file.

    Args:
        connection: to the file; of its tables nothing was read yet.
        version: what the file says of itself.
        name: its name, for messages.
        half_upgraded: take one in which something is missing.

    Raises:
        StoreError: it has, or misses, something; the message names it.
    """
    made, found = made_by(version), DatabaseSchema.of(connection)
    for (kind, what), sql in found.objects.items():
        ours = made.objects.get((kind, what))
        # The text of a table that was altered is SQLite's; its columns tell.
        if ours is None or (kind != "table" and sql != ours):
            raise _foreign(name, f"{kind} {what!r}")
    for table, columns in found.columns.items():
        if more := columns - made.columns.get(table, columns):
            raise _foreign(name, f"column {min(more)!r} of the table {table!r}")
    if not half_upgraded and (missing := _missing(made, found)):
        raise StoreError(
            f"{name} is half upgraded, by a flatout that was never released: it has no {missing}; "
            "flatout export --salvage gets out what is left"
        )


def _foreign(name: str, what: str) -> StoreError:
    return StoreError(
        f"{name} is not opened: flatout did not make the {what} in it, and a file from someone else may hold anything"
    )


def _missing(made: DatabaseSchema, found: DatabaseSchema) -> str:
    """The first thing that a file should have and has not; "" when it has all."""
    for kind, name in sorted(made.objects.keys() - found.objects.keys()):
        return f"{kind} {name}"
    for table, columns in made.columns.items():
        if less := columns - found.columns[table]:
            return f"column {min(less)} in its table {table}"
    return ""


@cache
def made_by(version: int) -> DatabaseSchema:
    """The schema of a version of the run file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in migrations()[:version]:
            connection.executescript(script)
        return DatabaseSchema.of(connection)
