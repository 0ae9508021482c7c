"""The tables that come piece by piece: readers, iterators and lists of record batches, and lazy frames."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

from ._arrow import SLICE, arrow, one_batch
from ._inputs import peeked
from ._whole import is_a, library

Answered = Callable[[Iterator[Any]], Iterator[Any]]
"""Adds columns to record batches."""

SchemaOf = Callable[[Any], Any]
"""The schema of a table with these columns added."""


def comes_in_pieces(table: Any) -> bool:
    """Whether a table is answered as it comes."""
    if is_a(table, "polars.LazyFrame") or isinstance(table, arrow().RecordBatchReader):
        return True
    return (
        isinstance(table, Iterable | AsyncIterable)
        and not hasattr(table, "__arrow_c_stream__")
        and not _is_whole(table)
    )


def _is_whole(table: Any) -> bool:
    return (
        isinstance(table, arrow().RecordBatch) or hasattr(table, "__arrow_c_array__") or is_a(table, "datasets.Dataset")
    )


def in_pieces(table: Any, answered: Answered, schema_of: SchemaOf) -> Any:
    """A table of the same kind with columns added, made while it is read.

    Args:
        table: the table.
        answered: adds the columns. A lazy frame is answered anew by everyone who collects it.
        schema_of: the schema of what comes out.
    """
    pa = arrow()
    if is_a(table, "polars.LazyFrame"):
        return _lazily(table, answered, schema_of)
    if isinstance(table, pa.RecordBatchReader):
        return _reader(answered(iter(table)), table.schema)
    made = answered(iter(table))
    return list(made) if isinstance(table, list | tuple) else made


def _reader(batches: Iterator[Any], otherwise: Any) -> Any:
    """A reader of record batches. Its schema is the first one's."""
    first, every = peeked(batches)
    return arrow().RecordBatchReader.from_batches(otherwise if first is None else first.schema, every)


def _lazily(frame: Any, answered: Answered, schema_of: SchemaOf) -> Any:
    """A lazy frame with added columns. If nobody wants those, nothing is asked."""
    polars, plugins = library("polars"), library("polars.io.plugins")
    own = frame.collect_schema()
    schema = schema_of(arrow().table(polars.DataFrame(schema=own)).schema)
    made = polars.DataFrame(schema.empty_table()).schema
    added = [name for name in made if name not in own or made[name] != own[name]]

    def source(columns: list[str] | None, predicate: Any, rows: int | None, batch_size: int | None) -> Iterator[Any]:
        wanted = frame if rows is None else frame.head(rows)
        parts = wanted.collect_batches(chunk_size=min(batch_size or SLICE, SLICE), maintain_order=True, lazy=True)
        asks = columns is None or predicate is not None or not set(added).isdisjoint(columns)
        for part in _beside(parts, answered, added) if asks else parts:
            found = part if predicate is None else part.filter(predicate)
            yield found if columns is None else found.select(columns)

    return plugins.register_io_source(source, schema={**own, **made}, is_pure=False)


def _beside(parts: Iterable[Any], answered: Answered, added: list[str]) -> Iterator[Any]:
    """The parts of a frame with the columns that answering their record batches adds. Their own stay as they are."""
    polars = library("polars")
    waiting: deque[Any] = deque()

    def batches() -> Iterator[Any]:
        for part in parts:
            waiting.append(part)
            yield one_batch(arrow().table(part))

    with closing(answered(batches())) as made:  # type: ignore[type-var]  # a generator
        for batch in made:
            columns = polars.DataFrame(arrow().Table.from_batches([batch.select(added)]))
            yield waiting.popleft().with_columns(columns.get_columns())
