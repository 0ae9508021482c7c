"""Reading and writing Parquet with pyarrow, an extra: most runs do not need its 45 MB.

Rows are read in record batches. A Parquet file's schema is fixed before its first row, so writing takes two passes over
the rows: one finds the unknown types, one writes. The input's own columns keep their types.
"""

from __future__ import annotations

import os
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from flatout.errors import ConfigError
from flatout.extras import package, spared
from flatout.text.halves import to_json

LARGEST_GROUP = 4 * 1024**3
"""Most bytes of one row group that are read, unpacked. A small file may unpack to more than any memory."""

_ROWS_READ = 64  # rows of a record batch; each of them may be large
_BUFFER = 1024 * 1024  # bytes of a column that are read at a time
_ROWS_WRITTEN = 5_000
"""Rows after which a row group is closed, because it is held in memory twice: as it is, and encoded."""

_BYTES_WRITTEN = 8_000_000
"""Bytes after which a row group is closed, if that comes first."""

_PAGE = 128 * 1024
"""Bytes of a page. With pyarrow's own 1 MB, a writer of small rows takes 20 MB; with these, 7 MB."""

_PARTS = 10
"""Parts of a row group, each made of Python's values at once: those take several times the memory of Arrow's."""

_SPARED = ("numpy", "pyarrow._azurefs", "pyarrow._gcsfs", "pyarrow._hdfs", "pyarrow._s3fs")
"""What pyarrow imports if it is there, 14 MB of memory: numpy's arrays, and clients of clouds. fsspec is ours.
Nothing here may use pyarrow's ``to_numpy`` or ``to_pandas``: without numpy they end the process."""

_TEXTS, _LISTS = (str, bytes), (list, tuple)
Values = Mapping[str, Any]


def arrow() -> Any:
    """The pyarrow module.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # the others keep twice as much; read at the import
    if sys.modules.get("pyarrow.parquet") is None:
        with spared(*_SPARED):
            package("pyarrow.parquet", needs="Parquet needs", extra="parquet")
    return package("pyarrow", needs="Parquet needs", extra="parquet")


def read_types(file: Path | BinaryIO, name: str) -> tuple[tuple[str, ...], str]:
    """The columns of a file, and their types in the form that `write_rows` takes.

    Raises:
        ConfigError: the file is not Parquet, or unpacks to more than memory may hold.
    """
    pa = arrow()
    try:
        with pa.parquet.ParquetFile(file) as opened:
            _check_groups(opened.metadata, name)
            schema = opened.schema_arrow
            return tuple(schema.names), types_of(schema)
    except (pa.ArrowException, ValueError) as error:
        raise ConfigError(f"{name}: not readable as Parquet: {_first_line(error)}") from None


def read_rows(source: Path | BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a file, a few in memory at a time.

    Raises:
        ConfigError: a part of the file cannot be read.
    """
    pa = arrow()
    done = 0
    try:
        with pa.parquet.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=_ROWS_READ, use_threads=False):
                for row in rows_of(batch, name, done):
                    yield row
                    done += 1
    except (pa.ArrowException, ValueError, OSError) as error:
        raise ConfigError(f"{name}, after row {done}: not readable as Parquet: {_first_line(error)}") from None


def write_rows(
    file: BinaryIO,
    rows: Callable[[], Iterable[Values]],
    columns: Sequence[str],
    fixed: Mapping[str, str],
    types: str | None = None,
) -> int:
    """Write rows to a file and return their number.

    A column keeps its type if all its values share one; keys that an object lacks become null. A column of mixed types
    becomes text, with every value but a string written as JSON.

    Args:
        file: receives the bytes.
        rows: returns a fresh iterator; called twice.
        columns: the columns, in order. A value that a row lacks is null.
        fixed: Arrow's type names for the columns whose types are known.
        types: the input's types, from `read_types`. The values of its columns come as JSON and get their types back.

    Raises:
        ConfigError: a value is not of its column's type.
    """
    schema, parts = typed(rows, columns, fixed, types)
    total = 0
    pages = {"data_page_size": _PAGE, "dictionary_pagesize_limit": _PAGE}
    with arrow().parquet.ParquetWriter(file, schema, **pages) as writer:
        for group in _row_groups(parts):
            writer.write_table(group, row_group_size=group.num_rows)
            total += group.num_rows
    return total


def typed(
    rows: Callable[[], Iterable[Values]], columns: Sequence[str], fixed: Mapping[str, str], types: str | None = None
) -> tuple[Any, Iterator[Any]]:
    """The Arrow schema of rows, and the rows as Arrow tables, some at a time; see `write_rows`."""
    pa = arrow()
    own = _own_fields(pa, columns, types)
    schema = _schema(pa, rows, columns, fixed, own)

    def tables() -> Iterator[Any]:
        for some in _parts(rows()):
            arrays = [_column(pa, some, field, field.name in own) for field in schema]
            yield pa.Table.from_arrays(arrays, schema=schema)

    return schema, tables()


def _check_groups(metadata: Any, name: str) -> None:
    for index in range(metadata.num_row_groups):
        size = metadata.row_group(index).total_byte_size
        if size > LARGEST_GROUP:
            raise ConfigError(
                f"{name}: row group {index + 1} is {size / 1024**3:,.1f} GB unpacked, more than the "
                f"{LARGEST_GROUP / 1024**3:,.1f} GB that are read; write the file with smaller row groups"
            )


def types_of(schema: Any) -> str:
    """An Arrow schema's types in the form that `write_rows` takes."""
    return b64encode(schema.remove_metadata().serialize()).decode()


def rows_of(batch: Any, name: str, done: int) -> Iterator[dict[str, Any]]:
    """The rows of an Arrow record batch.

    Args:
        batch: the record batch.
        name: where it comes from, for messages.
        done: how many rows came before it.

    Raises:
        ConfigError: Python has no equivalent of a value.
    """
    from .arrow_types import values

    names = batch.schema.names
    try:
        columns = [values(column) for column in batch.columns]
    except (arrow().ArrowException, ValueError, OverflowError):
        raise ConfigError(_unreadable(batch, name, done)) from None
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def _unreadable(batch: Any, name: str, done: int) -> str:
    """The message that names the value for which Python has no equivalent."""
    from .arrow_types import values

    for row in range(batch.num_rows):
        for column, each in zip(batch.schema.names, batch.columns, strict=True):
            try:
                values(each.slice(row, 1))
            except (arrow().ArrowException, ValueError, OverflowError) as error:
                return f"{name}, row {done + row + 1}: the column {column} ({each.type}): {_first_line(error)}"
    return f"{name}, after row {done}: not readable"


def _own_fields(pa: Any, columns: Sequence[str], types: str | None) -> dict[str, Any]:
    """The columns that come from the input, with their types."""
    if types is None:
        return {}
    schema = pa.ipc.read_schema(pa.py_buffer(b64decode(types)))
    return {field.name: field for field in schema if field.name in frozenset(columns)}


def _schema(
    pa: Any,
    rows: Callable[[], Iterable[Values]],
    columns: Sequence[str],
    fixed: Mapping[str, str],
    own: Mapping[str, Any],
) -> Any:
    open_columns = [name for name in columns if name not in fixed and name not in own]
    found = dict.fromkeys(open_columns, pa.null())
    for some in _parts(rows()):
        for name in open_columns:
            if found[name] is not None:
                found[name] = _unified(pa, found[name], [values.get(name) for values in some])
    types = {name: kind if kind is not None and _storable(pa, kind) else pa.string() for name, kind in found.items()}
    types |= {name: pa.type_for_alias(alias) for name, alias in fixed.items()}
    return pa.schema([own.get(name) or pa.field(name, types[name]) for name in columns])


def _unified(pa: Any, kind: Any, values: list[Any]) -> Any | None:
    """The type that holds both the values so far and these; None if only text does."""
    from .arrow_arrays import type_of

    try:
        own = type_of(values)
        if own == kind:
            return kind
        schemas = [pa.schema([("x", each)]) for each in (kind, own)]
        return pa.unify_schemas(schemas, promote_options="permissive").field("x").type
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return None


def _storable(pa: Any, kind: Any) -> bool:
    """Whether Parquet should store the type. It has no objects without keys, and nulls alone are better as text."""
    if pa.types.is_null(kind) or (pa.types.is_struct(kind) and kind.num_fields == 0):
        return False
    return all(_storable(pa, kind.field(index).type) for index in range(kind.num_fields))


def _column(pa: Any, some: list[Values], field: Any, own: bool) -> Any:
    """A column of some rows; one of the input's own in its original type."""
    from .arrow_arrays import built
    from .arrow_types import array

    values = [values.get(field.name) for values in some]
    if not own and pa.types.is_string(field.type):
        values = [value if value is None or isinstance(value, str) else to_json(value).decode() for value in values]
    try:
        return array(values, field.type) if own else built(values, field.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise ConfigError(
            f"a value of the column {field.name!r} is not of its type ({field.type}): {_first_line(error)}; "
            "write another format, such as .jsonl"
        ) from None


def _parts(rows: Iterable[Values]) -> Iterator[list[Values]]:
    """The rows, some at a time."""
    most_rows, most_bytes = max(1, _ROWS_WRITTEN // _PARTS), _BYTES_WRITTEN // _PARTS
    part: list[Values] = []
    size = 0
    for values in rows:
        part.append(values)
        size += _size(values)
        if len(part) >= most_rows or size >= most_bytes:
            yield part
            part, size = [], 0
    if part:
        yield part


def _row_groups(parts: Iterable[Any]) -> Iterator[Any]:
    """Tables joined to row groups."""
    group: list[Any] = []
    rows = size = 0
    for part in parts:
        group.append(part)
        rows, size = rows + part.num_rows, size + part.nbytes
        if rows >= _ROWS_WRITTEN or size >= _BYTES_WRITTEN:
            yield arrow().concat_tables(group)
            group, rows, size = [], 0, 0
    if group:
        yield arrow().concat_tables(group)


def _size(value: Any) -> int:
    """Roughly how many bytes a value takes in a column, unpacked."""
    if isinstance(value, _TEXTS):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, _LISTS) else 8


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
