"""Names in statements of SQL."""

from __future__ import annotations


def quoted(name: str) -> str:
    """A table's or column's name, as SQLite and DuckDB take it whatever is in it."""
    return '"' + name.replace('"', '""') + '"'
