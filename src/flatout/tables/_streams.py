"""The tables that come piece by piece: readers, iterators and lists of record batches, and lazy frames."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from typing import Any, NamedTuple

from ._arrow import SLICE, arrow, no_rows, one_batch
from ._polars import as_arrow
from ._whole import is_a, library


class Added(NamedTuple):
    """What is added to a table that comes in pieces.

    Attributes:
        to: adds the columns to record batches.
        reads: those of a table's columns that are looked at.
        schema: the schema of the added columns, from the names of the table's own.
        beside: the added columns alone, of batches of the columns that are looked at, the names of all, and whether
            the table may have more rows.
    """

    to: Callable[[Iterator[Any]], Iterator[Any]]
    reads: Callable[[Sequence[str]], list[str]]
    schema: Callable[[Sequence[str]], Any]
    beside: Callable[[Iterator[Any], Sequence[str], bool], Iterator[Any]]


def comes_in_pieces(table: Any) -> bool:
    """Whether a table is answered as it comes."""
    if is_a(table, "polars.LazyFrame") or isinstance(table, arrow().RecordBatchReader):
        return True
    return isinstance(table, Iterable | AsyncIterable) and not _is_whole(table)


def _is_whole(table: Any) -> bool:
    return (
        isinstance(table, arrow().RecordBatch | Mapping | str | bytes)  # a mapping or a text is no table at all
        or hasattr(table, "__arrow_c_stream__")
        or hasattr(table, "__arrow_c_array__")
        or is_a(table, "datasets.Dataset")
    )


def in_pieces(table: Any, added: Added) -> Any:
    """A table of the same kind with columns added, made while it is read.

    Args:
        table: the table.
        added: adds the columns. A lazy frame is answered anew by everyone who collects it.
    """
    if is_a(table, "polars.LazyFrame"):
        return _lazily(table, added)
    if isinstance(table, arrow().RecordBatchReader):
        return _reader(added.to(_one_at_least(table)))
    made = added.to(iter(table))
    return list(made) if isinstance(table, list | tuple) else made


def _one_at_least(table: Any) -> Iterator[Any]:
    """The batches of a reader; an empty one if it has none, which tells what is added."""
    batch = None
    for batch in table:
        yield batch
    if batch is None:
        yield no_rows(table.schema)


def _reader(batches: Iterator[Any]) -> Any:
    """A reader of record batches. Its schema is the first one's."""
    first = next(batches)
    return arrow().RecordBatchReader.from_batches(first.schema, chain([first], batches))


def _lazily(frame: Any, added: Added) -> Any:
    """A lazy frame with added columns. If nobody wants those, nothing is asked."""
    polars, plugins = library("polars"), library("polars.io.plugins")
    own = frame.collect_schema()
    made = polars.DataFrame(arrow().Table.from_batches([no_rows(added.schema(own.names()))])).schema

    def source(columns: list[str] | None, predicate: Any, rows: int | None, batch_size: int | None) -> Iterator[Any]:
        wanted = frame if rows is None else frame.head(rows)
        parts = wanted.collect_batches(chunk_size=min(batch_size or SLICE, SLICE), maintain_order=True, lazy=True)
        asks = columns is None or predicate is not None or not set(made).isdisjoint(columns)
        answered = _answered(parts, added, own.names(), is_part=rows is not None) if asks else parts
        for part in answered:
            found = part if predicate is None else part.filter(predicate)
            yield found if columns is None else found.select(columns)

    return plugins.register_io_source(source, schema={**own, **made}, is_pure=False)


def _answered(parts: Iterable[Any], added: Added, names: Sequence[str], is_part: bool) -> Iterator[Any]:
    """The parts of a frame with added columns. Their own stay as they are; only those that are looked at are read."""
    polars = library("polars")
    waiting: deque[Any] = deque()

    def batches() -> Iterator[Any]:
        for part in parts:
            waiting.append(part)
            yield one_batch(as_arrow(part.select(added.reads(names))))

    with closing(added.beside(batches(), names, is_part)) as made:  # type: ignore[type-var]  # a generator
        for batch in made:
            columns = polars.DataFrame(arrow().Table.from_batches([batch]))
            yield waiting.popleft().with_columns(columns.get_columns())
