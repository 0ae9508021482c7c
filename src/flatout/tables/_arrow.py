"""Arrow's tables inside: pyarrow, an extra, and the rows of record batches as Python's values.

Tables come in and go out by Arrow's C interface, so nothing else is imported that the user has not. pyarrow does the
rest: it knows every type, and pandas and datasets need it anyway. arro3 would be 3 MB instead of 170, and lacks the
conversions that Parquet's columns have here already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flatout.errors import ConfigError
from flatout.extras import package

AT_ONCE = 256
"""Rows that become Python's values in one turn: more would keep the event loop waiting."""

SLICE = 1_024
"""Rows of a table that are handed on together, if it can be cut anywhere."""


def arrow() -> Any:
    """The pyarrow module.

    Raises:
        ConfigError: it is not installed.
    """
    return package("pyarrow", needs="tables need", extra="tables")


def record_batch(value: Any) -> Any:
    """A record batch of pyarrow's, of a record batch or a small table of any library.

    Raises:
        ConfigError: it is none.
    """
    pa = arrow()
    if isinstance(value, pa.RecordBatch):
        return value
    try:
        if hasattr(value, "__arrow_c_array__"):
            return pa.record_batch(value)
        if hasattr(value, "__arrow_c_stream__"):
            return one_batch(table_of(value))
    except pa.ArrowException as error:
        told = f"a {type(value).__name__} cannot be read as a record batch: {first_line(error)}"
        raise ConfigError(told) from None
    hint = "; pyarrow.Table.from_pylist(rows) makes a table of rows" if isinstance(value, Mapping) else ""
    raise ConfigError(f"a record batch of Arrow is needed, not a {type(value).__name__}{hint}")


def table_of(value: Any) -> Any:
    """An Arrow table of what speaks Arrow's C interface. ``pyarrow.table`` would import pandas.

    Raises:
        pyarrow.ArrowException: it is no table.
    """
    return arrow().RecordBatchReader.from_stream(value).read_all()


def one_batch(table: Any) -> Any:
    """A table as one record batch."""
    batches = table.combine_chunks().to_batches()
    if len(batches) == 1:
        return batches[0]
    return arrow().concat_batches(batches) if batches else no_rows(table.schema)


def no_rows(schema: Any) -> Any:
    """A record batch without rows."""
    pa = arrow()
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def sliced(batches: Iterable[Any], most: int = SLICE) -> Iterator[Any]:
    """The same rows in batches of at most ``most`` rows. Slices share the memory of their batch."""
    for batch in batches:
        for start in range(0, batch.num_rows, most):
            yield batch.slice(start, most)


def rows(batch: Any) -> Iterator[Mapping[str, Any] | ConfigError]:
    """The rows of a batch in Python's values, made a few at a time; an error for a row that has none."""
    for start in range(0, batch.num_rows, AT_ONCE):
        part = batch.slice(start, AT_ONCE)
        try:
            made = list(_values(part))
        except unreadable():
            made = None
        yield from made if made is not None else map(_row, (part.slice(row, 1) for row in range(part.num_rows)))


def unreadable() -> tuple[type[Exception], ...]:
    """What is raised for a value without an equivalent on the other side."""
    return (arrow().ArrowException, ValueError, TypeError, OverflowError)


def _values(part: Any) -> Iterator[dict[str, Any]]:
    from flatout.runs.arrow_types import values

    names = part.schema.names
    if not names:
        return iter([{} for _ in range(part.num_rows)])
    columns = [values(column) for column in part.columns]
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def _row(part: Any) -> Mapping[str, Any] | ConfigError:
    """The one row of a part, or why it has no value."""
    from flatout.runs.arrow_types import values

    found = {}
    for name, column in zip(part.schema.names, part.columns, strict=True):
        try:
            [found[name]] = values(column)
        except unreadable() as error:
            return ConfigError(f"the column {name} ({column.type}): {first_line(error)}")
    return found


def first_line(error: BaseException) -> str:
    """The beginning of an error's message."""
    return str(error).partition("\n")[0] or type(error).__name__
