"""Parquet, by pyarrow, which is an extra: 40 MB that most runs do not need.

Reading goes by record batches. Writing looks through the rows once for their types and then writes them, because a
Parquet file has its schema fixed before its first row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from flatout.errors import ConfigError

_ROWS_READ = 256
_ROWS_WRITTEN = 10_000
_CHARACTERS_WRITTEN = 32_000_000
"""A row group is closed at this many rows or characters, whichever comes first: it is held in memory."""

Values = Mapping[str, Any]


def arrow() -> Any:
    """The pyarrow module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError("Parquet needs pyarrow, which is not installed: pip install 'flatout[parquet]'") from None
    return pyarrow


def read_columns(path: Path, name: str) -> tuple[str, ...]:
    """The columns of a file.

    Raises:
        ConfigError: it is no Parquet file.
    """
    pa = arrow()
    try:
        return tuple(pa.parquet.read_schema(path).names)
    except (pa.ArrowException, ValueError) as error:
        raise ConfigError(f"{name}: not readable as Parquet: {_first_line(error)}") from None


def read_rows(path: Path, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a file, a few hundred in memory at a time.

    Raises:
        ConfigError: a part of the file cannot be read.
    """
    pa = arrow()
    done = 0
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS_READ):
                rows = batch.to_pylist()
                yield from rows
                done += len(rows)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise ConfigError(f"{name}, after row {done}: not readable as Parquet: {_first_line(error)}") from None


def write_rows(
    file: BinaryIO, rows: Callable[[], Iterable[Values]], columns: Sequence[str], fixed: Mapping[str, str]
) -> int:
    """Write rows to a file and return how many there were.

    A column whose values have one type keeps it (a key that one of its objects lacks is null in it); a column of mixed
    types becomes text, what is not a string in it as JSON.

    Args:
        file: takes the bytes.
        rows: returns a fresh iterator; called twice.
        columns: the columns, in order. What a row does not have is null.
        fixed: Arrow's type names for the columns whose types are known.
    """
    pa = arrow()
    schema = _schema(pa, rows, columns, fixed)
    total = 0
    with pa.parquet.ParquetWriter(file, schema) as writer:
        for group in _groups(rows()):
            arrays = [_column(pa, group, field) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            total += len(group)
    return total


def _schema(pa: Any, rows: Callable[[], Iterable[Values]], columns: Sequence[str], fixed: Mapping[str, str]) -> Any:
    open_columns = [name for name in columns if name not in fixed]
    found = dict.fromkeys(open_columns, pa.null())
    for group in _groups(rows()):
        for name in open_columns:
            if found[name] is not None:
                found[name] = _unified(pa, found[name], [values.get(name) for values in group])
    types = {name: kind if kind is not None and _storable(pa, kind) else pa.string() for name, kind in found.items()}
    types |= {name: pa.type_for_alias(alias) for name, alias in fixed.items()}
    return pa.schema([(name, types[name]) for name in columns])


def _unified(pa: Any, kind: Any, values: list[Any]) -> Any | None:
    """The type that holds what was found so far and these values; None when there is none but text."""
    try:
        own = pa.array(values).type
        if own == kind:
            return kind
        schemas = [pa.schema([("x", each)]) for each in (kind, own)]
        return pa.unify_schemas(schemas, promote_options="permissive").field("x").type
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return None


def _storable(pa: Any, kind: Any) -> bool:
    """Whether Parquet has the type: it has no objects without keys; and a column of nulls alone is better text."""
    if pa.types.is_null(kind) or (pa.types.is_struct(kind) and kind.num_fields == 0):
        return False
    return all(_storable(pa, kind.field(index).type) for index in range(kind.num_fields))


def _column(pa: Any, group: list[Values], field: Any) -> Any:
    values = [values.get(field.name) for values in group]
    if pa.types.is_string(field.type):
        values = [value if value is None or isinstance(value, str) else _text(value) for value in values]
    return pa.array(values, type=field.type)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _groups(rows: Iterable[Values]) -> Iterator[list[Values]]:
    group: list[Values] = []
    size = 0
    for values in rows:
        group.append(values)
        size += sum(len(value) for value in values.values() if isinstance(value, str))
        if len(group) >= _ROWS_WRITTEN or size >= _CHARACTERS_WRITTEN:
            yield group
            group, size = [], 0
    if group:
        yield group


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
