"""`answer` and `embed`: a table in, the same kind of table out, with columns added."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable
from functools import partial
from typing import Any, TypeVar, cast

from flatout.client import Client
from flatout.edge.parameters import CLIENT, check_names, check_store
from flatout.lanes.offers import Wanted
from flatout.progress._following import ShowProgress
from flatout.values import OutputType

from ._answers import Answers
from ._columns import extras_of
from ._embed import INTO, Embedding
from ._keys import concealed
from ._options import check_added, check_belongs
from ._question import Prompt
from ._streams import comes_in_pieces, in_pieces
from ._whole import whole_of

TableT = TypeVar("TableT")


def answer(
    table: TableT,
    prompt: Prompt,
    *,
    model: str | None = None,
    output: OutputType[Any] | None = None,
    into: str | None = None,
    store: str | os.PathLike[str] | None = None,
    retry_failed: bool = False,
    lane: Wanted = "live",
    within: float | str | None = None,
    progress: ShowProgress = False,
    **options: Any,
) -> TableT:
    """Ask a question of every row of a table, and return the same kind of table with the answers beside its columns.

    ::

        df = flatout.tables.answer(df, "Spam or ham? {{ text }}", model="openai/gpt-5-mini",
                                   output=Literal["spam", "ham"], into="label", store="labels.flatout")

    The rows keep their order and their number. A row without an answer has a null, and its ``error`` says why.

    Args:
        table: an Arrow table, record batch or record batch reader; a DataFrame of pandas or Polars; a LazyFrame; a
            relation of DuckDB; a `datasets.Dataset`; an iterator or a list of record batches. Readers, iterators and
            lazy frames are answered while they are read: a LazyFrame anew by each ``collect``, or from the ``store``.
        prompt: a template with the row's columns in it, or a function of a row; see `Answers`.
        model: ``provider/model``.
        output: what every answer must be: a type, or a JSON schema.
        into: the name of the answers' column. Without it, an object's fields become columns of their own, and other
            answers the column ``answer``.
        store: a run file, which keeps every answer. The same call with it goes on where it stopped, and pays nothing
            twice.
        retry_failed: ask failed rows again.
        lane: as for `Client.as_completed`.
        within: as for `Client.as_completed`.
        progress: as for `Client.as_completed`.
        **options: the other options of `Answers`: ``error``, ``tokens``, ``cost``, ``replace``, ``system``, ``nulls``;
            and those of the `Client` and of all calls, such as ``limits=Limits(rpm=600)`` and ``temperature=0``.

    Raises:
        ConfigError: an option is wrong, the table lacks a column that the prompt names, or has one that would be added.
        RunMismatch: the run file belongs to other rows.
        StoreError: the run file cannot be used.
    """
    check_store(store, retry_failed=retry_failed)
    answers = Answers(prompt, model=model, output=output, into=into, **options)
    run: dict[str, Any] = {"store": store, "retry_failed": retry_failed, "lane": lane, "within": within}
    run["progress"] = progress
    if comes_in_pieces(table):
        return cast(TableT, in_pieces(table, answers._in_pieces(**run)))
    with answers:
        return cast(TableT, answers(table, **run))


async def answer_async(table: TableT, prompt: Prompt, **options: Any) -> TableT:
    """As `answer`, in a program with an event loop: the loop goes on while the answers come.

    Args:
        table: as for `answer`, or an async iterator of record batches, which gives one.
        prompt: as for `answer`.
        **options: as for `answer`.

    Raises:
        ConfigError: as for `answer`.
        RunMismatch: as for `answer`.
        StoreError: as for `answer`.
    """
    if isinstance(table, AsyncIterable):
        run = {name: options.pop(name) for name in _OF_A_RUN if name in options}
        return cast(TableT, Answers(prompt, **options).stream_async(table, **run))
    return await asyncio.to_thread(partial(answer, table, prompt, **options))


_OF_A_RUN = ("store", "retry_failed", "lane", "within", "progress")
_OF_EMBED = frozenset({"dimensions", "into", "error", "cost", "replace", "store", "retry_failed", "progress"})


def embed(
    table: TableT,
    column: str,
    *,
    model: str | None = None,
    dimensions: int | None = None,
    into: str = INTO,
    error: bool | str = True,
    cost: bool | str = False,
    replace: bool = False,
    store: str | os.PathLike[str] | None = None,
    retry_failed: bool = False,
    progress: ShowProgress = False,
    **options: Any,
) -> TableT:
    """Turn the texts of a column into vectors, and return the same kind of table with them in a column beside.

    That column has lists of one length: single-precision floats. A text without a vector has a null, and its ``error``
    says why.

    Args:
        table: as for `answer`.
        column: the texts. A value that is no string is embedded as ``str()`` shows it.
        model: an embedding model; needed unless flatout.toml names one.
        dimensions: the length of the vectors, for models that can shorten them. A LazyFrame needs it, because the types
            of its columns are fixed in advance.
        into: the name of the vectors' column.
        error: whether to add the column ``error``; or that column's name.
        cost: whether to add the column ``cost``, in US dollars; or that column's name.
        replace: whether columns that the table has may be replaced.
        store: a run file, which keeps the vectors; the same call with it goes on where it stopped.
        retry_failed: with ``store``, ask again for the texts that failed.
        progress: as for `Client.as_completed`; it counts texts.
        **options: options of the `Client`.

    Raises:
        ConfigError: an option is wrong, the table lacks the column, or has one that would be added.
        RunMismatch: the run file belongs to other texts.
        StoreError: the run file cannot be used.
    """
    concealed(options)
    check_belongs(options)
    check_names(options, CLIENT, own=_OF_EMBED, client="{}")
    check_store(store, retry_failed=retry_failed)
    extras = extras_of(error, tokens=False, cost=cost)
    check_added(into, extras)
    adds = (into, list(extras.values()), replace)
    run: dict[str, Any] = {"store": store, "retry_failed": retry_failed, "progress": progress}
    made = Embedding(partial(Client, model, **options), column, dimensions=dimensions, adds=adds, **run)
    if comes_in_pieces(table):
        return cast(TableT, in_pieces(table, made.in_pieces()))
    try:
        return cast(TableT, made.whole(whole_of(table)))
    finally:
        made.station.close()


async def embed_async(table: TableT, column: str, **options: Any) -> TableT:
    """As `embed`, in a program with an event loop: the loop goes on while the vectors come.

    Args:
        table: as for `embed`.
        column: as for `embed`.
        **options: as for `embed`.

    Raises:
        ConfigError: as for `embed`.
        RunMismatch: as for `embed`.
        StoreError: as for `embed`.
    """
    return await asyncio.to_thread(partial(embed, table, column, **options))
