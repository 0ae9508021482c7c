"""`answer` for Daft: an expression whose rows are asked by an async class, many batches of it at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from flatout import tables
from flatout.errors import ConfigError
from flatout.tables._arrow import arrow
from flatout.tables._columns import ANSWER
from flatout.tables._question import Prompt
from flatout.tables._whole import is_a
from flatout.tables._workers import batches_at_once, check_counts, check_travels, engine, for_all_workers
from flatout.values import Limits


def answer(
    column: Any,
    prompt: Prompt,
    *,
    model: str | None = None,
    limits: Limits | None = None,
    rows_per_batch: int = 256,
    cache: bool | str | os.PathLike[str] | None = None,
    into: str | None = None,
    **options: Any,
) -> Any:
    """Ask a question of every row, as an expression of Daft.

    ::

        label = flatout.daft.answer("text", "Spam or ham? {{ text }}", model="openai/gpt-5-mini", into="label")
        df = df.select("*", label.unnest())   # with the columns label and error

    The expression is a struct: the answer, and the error of a row without one. ``unnest()`` makes columns of it. Rows
    are asked when Daft needs them, anew each time that a DataFrame is collected, unless there is a ``cache``.

    Args:
        column: what the prompt uses: an expression, the name of a column, or several of them. In the prompt they have
            the names that they would have as columns.
        prompt: a template with these columns in it, or a function of a row; see `flatout.tables.Answers`.
        model: ``provider/model``.
        limits: the limits of each process that Daft runs. Several need ``Limits(shared=…)``.
        rows_per_batch: rows that Daft hands over together.
        cache: keeps answers where all workers find them. A path is one file on one machine.
        into: the name of the answers' field. Without it, an object's fields become fields of the struct, and other
            answers the field ``answer``.
        **options: the other options of `flatout.tables.Answers`.

    Returns:
        An expression of Daft.

    Raises:
        ConfigError: Daft is not installed, an option is wrong or cannot be sent to a worker, or the prompt names
            another column. Nothing was sent.
    """
    daft = engine("daft", "daft")
    check_counts(rows_per_batch=rows_per_batch)
    columns = [_expression(daft, each) for each in _several(column)]
    names = [each.name() for each in columns]
    own = {"model": model, "limits": limits, "cache": for_all_workers(cache), "into": into}
    given = {"prompt": prompt, **own, **options, "replace": True}  # a struct of its own has room for every name
    check_travels(given, engine("daft.pickle", "daft").dumps)
    answers = _Answers(**given)
    answers.check(names)
    dtype = daft.DataType.from_arrow_type(answers.struct(names))

    class Asked:
        def __init__(self) -> None:
            self._answers = _Answers(**given)

        @daft.method.batch(return_dtype=dtype, batch_size=rows_per_batch)  # type: ignore[untyped-decorator]
        async def __call__(self, *series: Any) -> Any:
            return await self._answers.of_columns(names, series)

    at_once = batches_at_once(limits, rows_per_batch)
    asked = daft.cls(Asked, max_concurrency=at_once, use_process=False, name_override="flatout.daft.answer")()
    return asked(*columns).alias(into or ANSWER)


class _Answers(tables.Answers):
    """Answers as structs, apart from the columns that they are made of."""

    def check(self, names: list[str]) -> None:
        """Check that the prompt uses no other columns than these.

        Raises:
            ConfigError: it does.
        """
        try:
            self._question.check(names)
        except ConfigError as error:
            raise ConfigError(f"{error} (the table is what answer's first argument, column, names)") from None

    def struct(self, names: list[str]) -> Any:
        """The type of the answers to rows with these columns."""
        return arrow().struct(list(self._added(names)))

    async def of_columns(self, names: list[str], series: Sequence[Any]) -> Any:
        """The answers to rows whose columns are series of Daft's, as an array of structs."""
        pa = arrow()
        table = pa.table([each.to_arrow() for each in series], names)
        kind = self.struct(names)
        answered = await self.call_async(table)
        return answered.select([field.name for field in kind]).to_struct_array().combine_chunks()


def _several(column: Any) -> list[Any]:
    return list(column) if isinstance(column, list | tuple) else [column]


def _expression(daft: Any, column: Any) -> Any:
    if isinstance(column, str):
        return daft.col(column)
    if is_a(column, "daft.Expression"):
        return column
    raise ConfigError(f"column is an expression of Daft or the name of a column, not a {type(column).__name__}")
