"""An output that is a table of a database: ``out.db::answers``.

The rules are those of a file: a table that another program wrote, or that somebody has changed, is not replaced
unasked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

from flatout.errors import ConfigError
from flatout.runs.parquet import typed

from .answered import Rows
from .claim import Claim
from .encode import Layout, cell
from .formats import Form

_SQLITE_TYPES = {"string": "TEXT", "int64": "INTEGER", "double": "REAL", "bool": "BOOLEAN"}
_LARGEST = 2**63  # whole numbers of SQLite are below


def check_table(form: Form, claim: Claim) -> None:
    """Check that a table may be written.

    Raises:
        ConfigError: another's table would be lost, it is a view, or what writes the database is not installed.
        OSError: the database cannot be read.
    """
    _check(form, claim, _place(form).content(form.file, form.table))


def write_table(form: Form, rows: Rows, layout: Layout, claim: Claim) -> int:
    """Put rows into a table in place of what it held, and return their number.

    Args:
        form: the table.
        rows: returns a fresh iterator over the rows.
        layout: the columns.
        claim: what may be replaced.

    Raises:
        ConfigError: the columns do not fit a table, or another's table is in the place.
        OSError: the database cannot be written.
    """
    _check_names(layout.all, form.name)
    callbacks = partial(_check, form, claim), lambda content: claim.written(_digest(content))
    if form.format == "duckdb":
        from . import duck

        arrow = typed(lambda: layout.values(rows()), layout.all, layout.fixed, layout.types)
        return duck.replace(form.file, form.table, *arrow, *callbacks)
    from flatout.store import foreign_table

    types, names = layout.fixed, layout.all
    declared = [(name, _SQLITE_TYPES.get(types.get(name, ""), "")) for name in names]
    values = (list(map(_sqlite_value, map(row.get, names))) for row in layout.values(rows()))
    return foreign_table.replace(form.file, form.table, declared, values, *callbacks)


def _place(form: Form) -> Any:
    if form.format == "duckdb":
        from . import duck

        return duck
    from flatout.store import foreign_table

    return foreign_table


def _check(form: Form, claim: Claim, content: Iterable[tuple[Any, ...]]) -> None:
    found = iter(content)
    first = next(found, None)
    claim.check_table(form.file, form.table, None if first is None else lambda: _digest(chain([first], found)))


def _digest(content: Iterable[tuple[Any, ...]]) -> str:
    made = hashlib.blake2b(digest_size=16)
    for row in content:
        made.update(repr(row).encode("utf-8", "surrogatepass"))
    return made.hexdigest()


def _check_names(names: Sequence[str], where: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other is not name:
            raise ConfigError(f"{where}: a database takes the columns {other!r} and {name!r} for one; write .jsonl")
        if not name or "\0" in name:
            raise ConfigError(f"{where}: a database has no column named {name!r}; write .jsonl")


def _sqlite_value(value: Any) -> Any:
    """A value as SQLite has it: lists and objects as JSON, and so whole numbers that are too large for it."""
    if value is None or isinstance(value, float | bytes):
        return None if value != value else value  # NaN is the only value that differs from itself
    if isinstance(value, int) and -_LARGEST <= value < _LARGEST:
        return int(value)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else cell(value)
