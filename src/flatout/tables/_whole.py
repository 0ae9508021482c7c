"""The tables that are in memory as a whole: their rows as record batches, and the answers beside their own columns.

A table's own columns are never converted and put back, where its library can add columns: only those that the prompt
names are read. So an index, a category, a nanosecond or a Python object stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, Protocol

from flatout.errors import ConfigError
from flatout.text.sql import quoted

from ._arrow import SLICE, arrow, first_line, one_batch, table_of, unreadable
from ._polars import as_arrow

_ARROW_LACKS = ("BIT", "HUGEINT", "VARINT", "BIGNUM", "UUID", "TIME WITH TIME ZONE")
"""Types of DuckDB's that Arrow has no equal of; they travel as text."""


class Whole(Protocol):
    """A table in memory."""

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        ...

    @property
    def rows(self) -> int:
        """How many rows it has."""
        ...

    @property
    def schema(self) -> Any:
        """Its schema, of pyarrow."""
        ...

    def batches(self, names: Sequence[str]) -> Iterator[Any]:
        """Some of its columns, as record batches."""
        ...

    def attach(self, added: Any) -> Any:
        """A table of the same kind, with the columns of an Arrow table beside its own or in their places."""
        ...


def whole_of(table: Any) -> Whole:
    """A table of any kind.

    Raises:
        ConfigError: it is no table, or cannot be read as a whole.
    """
    pa = arrow()
    if isinstance(table, pa.RecordBatch):
        return _Batch(table)
    if isinstance(table, pa.Table):
        return _Arrow(table)
    for name, kind in _KINDS.items():
        if is_a(table, name):
            return kind(table)
    if hasattr(table, "__arrow_c_stream__"):
        return _Foreign(table)
    raise ConfigError(
        f"a {type(table).__name__} is not a table that flatout knows: give an Arrow table, a frame of pandas or "
        "Polars, a relation of DuckDB, a Dataset, or an iterator of record batches"
    )


def check_fits(table: Whole, added: Sequence[str]) -> None:
    """Check that a table can have some columns beside its own, or in their places.

    Raises:
        ConfigError: DuckDB, for which ``Text`` and ``text`` are one name, would give one of them another.
    """
    if not isinstance(table, _DuckDB):
        return
    seen: dict[str, str] = {}
    for name in dict.fromkeys([*table.names, *added]):
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise ConfigError(f"DuckDB takes the columns {other} and {name} for one; choose another name for {name}")


def is_a(value: Any, name: str) -> bool:
    """Whether a value is of a class of another library, which need not be there: ``"polars.LazyFrame"``."""
    library, _, kind = name.partition(".")
    return any(
        each.__name__ == kind and each.__module__.lstrip("_").split(".")[0] == library for each in type(value).__mro__
    )


class _Arrow:
    def __init__(self, table: Any) -> None:
        self._table = table
        self.names: list[str] = table.schema.names
        self.rows: int = table.num_rows
        self.schema = table.schema

    def batches(self, names: Sequence[str]) -> Iterator[Any]:
        yield from self._table.select(list(names)).to_batches(max_chunksize=SLICE)

    def attach(self, added: Any) -> Any:
        table = self._table
        for field, column in zip(added.schema, added.columns, strict=True):
            place = table.schema.get_field_index(field.name)
            table = table.append_column(field, column) if place < 0 else table.set_column(place, field, column)
        return table


class _Batch(_Arrow):
    def __init__(self, batch: Any) -> None:
        super().__init__(arrow().Table.from_batches([batch]))

    def attach(self, added: Any) -> Any:
        return one_batch(super().attach(added))


class _Foreign(_Arrow):
    """A table of a library that is not known here; one that makes its tables of Arrow's gets one of its own back."""

    def __init__(self, table: Any) -> None:
        try:
            made = table_of(table)
        except arrow().ArrowException as error:
            raise ConfigError(f"a {type(table).__name__} cannot be read as a table: {first_line(error)}") from None
        super().__init__(made)
        self._back = getattr(type(table), "from_arrow", lambda made: made)

    def attach(self, added: Any) -> Any:
        return self._back(super().attach(added))


class _Pandas:
    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.names = [str(name) for name in frame.columns]
        self.rows = len(frame)

    @property
    def schema(self) -> Any:
        return self._table(range(len(self.names)), slice(None)).schema

    def batches(self, names: Sequence[str]) -> Iterator[Any]:
        place_of = {name: place for place, name in enumerate(self.names)}
        places = [place_of[name] for name in names]
        for start in range(0, self.rows, SLICE):
            yield from self._table(places, slice(start, start + SLICE)).to_batches()

    def _table(self, places: Iterable[int], rows: slice) -> Any:
        columns = [_of_pandas(self._frame.iloc[rows, place]) for place in places]
        return arrow().Table.from_arrays(columns, [self.names[place] for place in places])

    def attach(self, added: Any) -> Any:
        pa, pandas = arrow(), library("pandas")
        nullable = {pa.int64(): pandas.Int64Dtype(), pa.bool_(): pandas.BooleanDtype()}
        columns = added.to_pandas(types_mapper=nullable.get)
        frame = self._frame.copy(deep=False)
        for name in columns.columns:
            frame[name] = columns[name].array
        return frame


def _of_pandas(column: Any) -> Any:
    """A column as an array. Mixed values, and values that Arrow has no equal of, are text."""
    pa, pandas = arrow(), library("pandas")
    try:
        found = pa.Array.from_pandas(column)
        if not getattr(found.type, "extension_name", "").startswith("pandas."):  # a period would be a bare number
            return found
    except unreadable():
        pass
    lacks = pandas.isna(column)
    return pa.array([None if lack else str(value) for value, lack in zip(column, lacks, strict=True)], pa.string())


class _Polars:
    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.names: list[str] = frame.columns
        self.rows: int = frame.height

    @property
    def schema(self) -> Any:
        return as_arrow(self._frame.head(0)).schema

    def batches(self, names: Sequence[str]) -> Iterator[Any]:
        frame = self._frame.select(names)
        for start in range(0, self.rows, SLICE):
            yield from as_arrow(frame.slice(start, SLICE)).to_batches()

    def attach(self, added: Any) -> Any:
        return self._frame.with_columns(library("polars").DataFrame(added).get_columns())


class _DuckDB(_Arrow):
    """A relation. It is computed once: a second time, its rows might come in another order."""

    def __init__(self, relation: Any) -> None:
        self._relation = relation
        if twice := next((name for name in relation.columns if relation.columns.count(name) > 1), None):
            raise ConfigError(
                f"the relation has two columns {twice}, and DuckDB would rename one: name it, as in {twice} AS other"
            )
        self._types = dict(zip(relation.columns, map(str, relation.types), strict=True))
        as_text = {name for name, kind in self._types.items() if any(each in kind for each in _ARROW_LACKS)}
        taken = (
            f"{quoted(name)}::VARCHAR AS {quoted(name)}" if name in as_text else quoted(name) for name in self._types
        )
        super().__init__(table_of(relation.project(", ".join(taken)) if as_text else relation))

    def attach(self, added: Any) -> Any:
        answered = super().attach(added)  # DuckDB finds it by its name
        made = self._relation.query("flatout_answered", "SELECT * FROM answered")
        own = {name: kind for name, kind in self._types.items() if name not in added.schema.names}
        typed = (
            f"{quoted(name)}::{own[name]} AS {quoted(name)}" if name in own and own[name] != str(kind) else quoted(name)
            for name, kind in zip(made.columns, made.types, strict=True)
        )
        del answered
        return made.project(", ".join(typed))


class _Dataset:
    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.names: list[str] = dataset.column_names
        self.rows: int = dataset.num_rows

    @property
    def schema(self) -> Any:
        return self._dataset.features.arrow_schema

    def batches(self, names: Sequence[str]) -> Iterator[Any]:
        for table in self._dataset.select_columns(list(names)).with_format("arrow").iter(batch_size=SLICE):
            yield from table.to_batches()

    def attach(self, added: Any) -> Any:
        datasets = library("datasets")
        own = self._dataset.remove_columns([name for name in self.names if name in added.schema.names])
        made = _dataset_of(added)
        if self.rows:
            made = datasets.concatenate_datasets([own, made], axis=1)
        else:  # that would leave out what has no rows, with its columns
            features = datasets.Features({**own.features, **made.features})
            made = _dataset_of(features.arrow_schema.empty_table())
        return made.with_format(self._dataset.format["type"], **self._dataset.format["format_kwargs"])


def _dataset_of(table: Any) -> Any:
    datasets = library("datasets")
    return datasets.Dataset(datasets.table.InMemoryTable(table))


def library(name: str) -> Any:
    """A library whose table we were given, so it is loaded already."""
    return import_module(name)


_KINDS: dict[str, Callable[[Any], Whole]] = {
    "pandas.DataFrame": _Pandas,
    "polars.DataFrame": _Polars,
    "duckdb.DuckDBPyRelation": _DuckDB,
    "datasets.Dataset": _Dataset,
}
