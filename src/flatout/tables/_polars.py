"""Polars' frames in Arrow, for prompts: types that Arrow has no equal of are text."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from flatout.errors import ConfigError

from ._arrow import arrow, first_line, table_of

_ARROW_LACKS = frozenset({"Int128", "UInt128", "Object"})
"""Types of Polars' that Arrow has no equal of. An Object would be the address of a Python object."""


def as_arrow(frame: Any) -> Any:
    """A DataFrame as an Arrow table.

    Raises:
        ConfigError: Arrow has no equal of what is within a column.
    """
    texts = [_text(frame[name]) for name, kind in frame.schema.items() if type(kind).__name__ in _ARROW_LACKS]
    try:
        return table_of(frame.with_columns(texts) if texts else frame)
    except arrow().ArrowException as error:
        raise ConfigError(
            f"the columns {', '.join(frame.columns)} cannot be read as Arrow: {first_line(error)}"
        ) from None


def _text(column: Any) -> Any:
    polars = import_module("polars")
    values = [None if value is None else str(value) for value in column]
    return polars.Series(column.name, values, polars.String)
