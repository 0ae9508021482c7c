"""The columns that answers add to a table: their names and types, fixed in advance, and their values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from msgspec import Struct

from flatout.errors import ConfigError
from flatout.runs.output.answered import named_error
from flatout.values import Result

from ._arrow import arrow, first_line, unreadable
from ._question import check_single
from ._types import Kind, kind_of, plain

ANSWER = "answer"
_TOKENS = ("input_tokens", "output_tokens")


class Cell(Struct, frozen=True, gc=False):
    """What became of one row. What is not known is None."""

    value: Any = None
    error: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None


def cell_of(result: Result[Any], unasked: Exception | None = None) -> Cell:
    """A result as a row's cell.

    Args:
        result: the result.
        unasked: why the row made no call, if it made none.
    """
    error = unasked or result.error
    reply = result.reply if result.reply is not None else getattr(error, "reply", None)
    usage = reply.usage if reply is not None else None
    return Cell(
        value=result.output if result.output is not None else result.text,
        error=None if error is None else error_text(error),
        input_tokens=usage.input_tokens if usage is not None else None,
        output_tokens=usage.output_tokens if usage is not None else None,
        cost=result.cost,
    )


def error_text(error: Exception) -> str:
    """An error in one line, as the command's outputs have it."""
    return named_error(type(error).__name__, str(error))


class Extra(Struct, frozen=True):
    """A column beside the answers.

    Attributes:
        fields: the fields of `Cell` that it shows, each a column.
        wanted: whether the user wants it, or the name to give it.
    """

    fields: Sequence[str]
    wanted: bool | str


def extras_of(error: bool | str, tokens: bool, cost: bool | str) -> dict[str, Extra]:
    """The columns beside the answers, by the options that ask for them."""
    return {"error": Extra(("error",), error), "tokens": Extra(_TOKENS, tokens), "cost": Extra(("cost",), cost)}


class Columns:
    """The columns that answers add.

    Without ``into``, the fields of an object become columns, and any other answer the column ``answer``. With it, the
    whole answer becomes that column, an object as a struct. Columns beside it have names of their own; if the table has
    such a column already, ``into`` goes in front: ``label_error``.

    Args:
        kind: the type of the answers.
        into: the name of the answers' column.
        extras: the columns beside it.
        replace: whether columns that the table has may be replaced.
    """

    def __init__(self, kind: Kind, into: str | None, extras: Sequence[Extra], replace: bool) -> None:
        pa = arrow()
        self._kind = kind
        self._spread = into is None and pa.types.is_struct(kind.type)
        self._into = into or ANSWER
        self._extras = [extra for extra in extras if extra.wanted]
        self._replace = replace
        self._types = {"error": pa.string(), "cost": pa.float64(), **dict.fromkeys(_TOKENS, pa.int64())}

    @classmethod
    def of(
        cls,
        output: Any,
        into: str | None,
        *,
        error: bool | str = True,
        tokens: bool = False,
        cost: bool | str = False,
        replace: bool = False,
    ) -> Columns:
        """The columns for the answers that ``output`` asks for."""
        return cls(kind_of(output), into, list(extras_of(error, tokens, cost).values()), replace)

    def added(self, given: Collection[str]) -> Any:
        """The schema of the added columns.

        Args:
            given: the table's own columns.

        Raises:
            ConfigError: the table has such a column already.
        """
        pa = arrow()
        answers = list(self._kind.type) if self._spread else [pa.field(self._into, self._kind.type)]
        taken = set(given) if not self._replace else set()
        for field in answers:
            if field.name in taken:
                raise ConfigError(_taken(field.name))
        taken |= {field.name for field in answers}
        extras = [self._extra(name, extra, taken) for extra in self._extras for name in extra.fields]
        check_single([field.name for field in (*answers, *extras)], list(given))
        return pa.schema([*answers, *extras])

    def schema(self, given: Any) -> Any:
        """The schema of a table with the added columns.

        Raises:
            ConfigError: as `added`.
        """
        return merged(given, self.added(given.names))

    def batch(self, cells: Sequence[Cell], added: Any) -> Any:
        """The added columns of some rows, as a record batch. An answer that does not fit is null, and has an error."""
        from flatout.runs.arrow_arrays import built

        values, misfits = self._values(cells)
        answers = values.flatten() if self._spread else [values]
        extras = [
            built([misfits.get(row, cell.error) for row, cell in enumerate(cells)], arrow().string())
            if name == "error"
            else built([getattr(cell, name) for cell in cells], self._types[name])
            for extra in self._extras
            for name in extra.fields
        ]
        return arrow().RecordBatch.from_arrays([*answers, *extras], schema=added)

    def _extra(self, field: str, extra: Extra, taken: set[str]) -> Any:
        if isinstance(extra.wanted, str):
            if extra.wanted in taken:
                raise ConfigError(_taken(extra.wanted))
            return arrow().field(extra.wanted, self._types[field])
        name = field if field not in taken else f"{self._into}_{field}"
        if name in taken:
            raise ConfigError(_taken(name))
        return arrow().field(name, self._types[field])

    def _values(self, cells: Sequence[Cell]) -> tuple[Any, dict[int, str]]:
        """The answers as an array, and the errors of those that do not fit, by row."""
        misfits: dict[int, str] = {}
        try:
            return self._array([cell.value for cell in cells]), misfits
        except unreadable():
            pass
        values: list[Any] = []
        for row, cell in enumerate(cells):
            try:
                self._array([cell.value])
                values.append(cell.value)
            except unreadable() as error:
                values.append(None)
                told = f"the answer does not fit a column of {self._kind.type}: {first_line(error)}"
                misfits[row] = named_error("SchemaMismatch", told)
        return self._array(values), misfits

    def _array(self, values: Sequence[Any]) -> Any:
        from flatout.runs.arrow_types import array

        convert = self._kind.convert
        made = [None if value is None else plain(value) for value in values]
        if convert is not None:
            made = [None if value is None else convert(value) for value in made]
        return array(made, self._kind.type)


def merged(given: Any, added: Any) -> Any:
    """A schema with added columns: one of a known name takes its place, others come last."""
    pa = arrow()
    fields = {field.name: field for field in added}
    own = [fields.pop(field.name, field) for field in given]
    return pa.schema([*own, *fields.values()], metadata=given.metadata)


def joined(batch: Any, added: Any) -> Any:
    """A record batch with the added columns."""
    columns = dict(zip(added.schema.names, added.columns, strict=True))
    schema = merged(batch.schema, added.schema)
    own = [columns.pop(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    return type(batch).from_arrays([*own, *columns.values()], schema=schema)


def _taken(name: str) -> str:
    return f"the table has a column {name} already; choose another name, or say replace=True"
