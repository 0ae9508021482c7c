"""Vectors of a column's texts: a column of lists, all of one length."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Any

from flatout.client import Client
from flatout.errors import ConfigError

from ._arrow import arrow, sliced
from ._columns import Cell, Columns, Extra, error_text, joined
from ._flow import Check, Part
from ._inputs import blocking
from ._question import check_column
from ._station import Begin, Station
from ._streams import Added
from ._texts import embedded
from ._types import Kind
from ._whole import Whole, check_fits

INTO = "embedding"

MOST_WAITING = 100_000
"""Rows of a stream that wait for the first vector, which tells the length of all."""


class Vectors(Columns):
    """The columns that embeddings add.

    Args:
        width: the length of the vectors; None if there are none, so that the column is of lists of any length.
        into: the name of their column.
        extras: the columns beside it.
        replace: whether columns that the table has may be replaced.
    """

    def __init__(self, width: int | None, into: str, extras: Sequence[Extra], replace: bool) -> None:
        super().__init__(Kind(arrow().list_(arrow().float32(), -1 if width is None else width)), into, extras, replace)
        self._width = width

    def _values(self, cells: Sequence[Cell]) -> tuple[Any, dict[int, str]]:
        from flatout.runs.arrow_arrays import built

        pa, width = arrow(), self._width
        if width is None:
            return pa.nulls(len(cells), self._kind.type), {}
        misfits = {
            row: error_text(ConfigError(f"a vector of {len(cell.value)} numbers, where the others have {width}"))
            for row, cell in enumerate(cells)
            if cell.value is not None and len(cell.value) != width
        }
        fits = [cell.value is not None and row not in misfits for row, cell in enumerate(cells)]
        flat, none = array("f"), array("f", bytes(4 * width))
        for cell, fit in zip(cells, fits, strict=True):
            flat.extend(cell.value if fit else none)
        numbers = pa.Array.from_buffers(pa.float32(), len(flat), [None, pa.py_buffer(flat)])
        lacks = built([not fit for fit in fits], pa.bool_())
        return pa.FixedSizeListArray.from_arrays(numbers, type=self._kind.type, mask=lacks), misfits


class Embedding:
    """The vectors of one column, for any kind of table.

    Args:
        make: makes the client.
        column: the texts' column.
        dimensions: the length of the vectors, for models that can shorten them.
        adds: the arguments of `Vectors` but the first.
        **run: ``store``, ``retry_failed`` and ``progress``, as for `Client.map`.
    """

    def __init__(
        self,
        make: Callable[[], Client],
        column: str,
        *,
        dimensions: int | None,
        adds: tuple[str, Sequence[Extra], bool],
        **run: Any,
    ) -> None:
        self.station = Station(make)
        self._column = column
        self._dimensions = dimensions
        self._adds = adds
        self._run = run

    def check(self, names: Sequence[str]) -> Any:
        """Check that a table has the column, and none that would be added. Returns the schema of the added ones, but
        for the length of the vectors.

        Raises:
            ConfigError: it is not so.
        """
        check_column(self._column, names)
        return Vectors(None, *self._adds).added(names)

    def begin(self, batches: Iterator[Any], total: int | None = None, check: Check | None = None) -> Begin[Part[Cell]]:
        """Begins to embed some batches."""
        options = {"column": self._column, "dimensions": self._dimensions, "total": total, "check": check, **self._run}
        return lambda client: embedded(client, batches, **options)

    def whole(self, table: Whole) -> Any:
        """A table in memory with the columns of vectors."""
        check_fits(table, self.check(table.names).names)
        parts = self.station.each(self.begin(sliced(table.batches([self._column])), table.rows))
        made = [columns for _, columns in self._columns(parts, table.names)]
        added = made[0].schema if made else Vectors(self._dimensions, *self._adds).added(table.names)
        return table.attach(arrow().Table.from_batches(made, added))

    def stream(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Record batches with the columns of vectors."""
        parts = self.station.each(self.begin(blocking(batches), check=self.check))
        for part, columns in self._columns(parts, most=MOST_WAITING):
            yield joined(part.batch, columns)

    def in_pieces(self) -> Added:
        """What is added to a table that comes in pieces."""
        return Added(self.stream, lambda _: [self._column], self._fixed, self._beside)

    def _fixed(self, names: Sequence[str]) -> Any:
        """The schema of the added columns, in advance.

        Raises:
            ConfigError: the length of the vectors is not known.
        """
        if self._dimensions is None:
            raise ConfigError(
                "the columns of a lazy frame are fixed in advance: give the vectors' length, dimensions=…"
            )
        self.check(names)
        return Vectors(self._dimensions, *self._adds).added(names)

    def _beside(self, batches: Iterator[Any], names: Sequence[str], is_part: bool) -> Iterator[Any]:
        """The added columns alone. A run file has texts in large batches, so a part of them is another run's."""
        for _, columns in self._columns(self.station.each(self.begin(batches)), names):
            yield columns

    def _columns(
        self, parts: Iterable[Part[Cell]], names: Sequence[str] | None = None, most: float = inf
    ) -> Iterator[tuple[Part[Cell], Any]]:
        """Each part and its columns. Unless the length is given, the first vector tells it.

        Raises:
            ConfigError: more rows than ``most`` have come without a vector.
        """
        waiting: list[Part[Cell]] = []
        width, rows = self._dimensions, 0
        for part in parts:
            waiting.append(part)
            width, rows = width or _width(part), rows + part.batch.num_rows
            if width is None and rows > most:
                raise ConfigError(
                    f"the first {rows:,} rows have no vector that would tell the length of all: give it, dimensions=…"
                )
            if width is not None:
                yield from self._made(waiting, width, names)
                waiting = []
        yield from self._made(waiting, width, names)

    def _made(
        self, parts: Iterable[Part[Cell]], width: int | None, names: Sequence[str] | None
    ) -> Iterator[tuple[Part[Cell], Any]]:
        columns = Vectors(width, *self._adds)
        for part in parts:
            yield part, columns.batch(part.whole(), columns.added(names or part.batch.schema.names))


def _width(part: Part[Cell]) -> int | None:
    """The length of the first vector of a part; None if it has none."""
    return next((len(cell.value) for cell in part.whole() if cell.value is not None), None)
