"""Embeds the texts of record batches, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from flatout.client import Client, engine_of
from flatout.durable.records import error_of
from flatout.edge.embed import may_be_one_text
from flatout.errors import CallError, ConfigError
from flatout.progress._following import ShowProgress
from flatout.values import Call, Result
from flatout.values.result import make_result

from ._arrow import rows
from ._columns import Cell, error_text
from ._flow import Check, Part, Parts

if TYPE_CHECKING:
    from flatout.durable.kept_call import KeptCall

AHEAD = 16_384
"""Rows that are read before the first of them is handed on. One request has up to a thousand."""

_NULL = error_text(ConfigError("the text is null"))

Outcome = tuple[Any, str | None, float | None]
"""What became of a text: its vector, its error, its cost."""


class _Embedder:
    """Embeds the texts of one batch: a function for `Client.map`, which knows it by its job.

    It fails if a text did, so that its item counts as failed in a run file. The other texts have vectors all the same.
    """

    def __init__(self, dimensions: int | None) -> None:
        self.__qualname__ = "flatout.tables.embed"  # its name in run files
        self._dimensions = dimensions
        self._made: dict[int, tuple[list[Outcome], list[bool]]] = {}

    def job(self) -> dict[str, Any]:
        return {"dimensions": self._dimensions}

    async def __call__(self, texts: list[str | None], client: Client) -> list[Outcome]:
        asked = [text for text in texts if text is not None]
        found = await client.embed(asked, dimensions=self._dimensions) if asked else []
        results = iter(found)
        made = [(None, _NULL, 0.0) if text is None else _outcome(next(results)) for text in texts]
        news = [_is_new(result) for result in found]
        asks, is_first = iter(news), all(news)  # a null was told of when others were asked
        self._made[id(texts)] = made, [is_first if text is None else next(asks) for text in texts]
        for result in found:
            if result.error is not None:
                raise result.error
        return made

    def partly(self, kept: KeptCall) -> bool:
        """Whether a failed request is sent again. If it was refused for one bad text, its halves were sent instead."""
        error = error_of(kept.error or "", kept.message, kept.attempts)
        halved = isinstance(error, CallError) and may_be_one_text(error)
        return not halved or len(msgspec.json.decode(kept.call)["messages"]) == 1

    def outcomes(self, result: Result[Any]) -> tuple[list[Outcome], list[bool]]:
        """What became of the texts of a result's batch, and which of that is new. The rest is from the run file."""
        texts: Any = result.item
        made = self._made.pop(id(texts), None)
        if made is not None:
            return made
        known = [False] * len(texts)
        if result.error is None:
            return result.output or [], known
        return [(None, error_text(result.error), None)] * len(texts), known


def _is_new(result: Result[Any]) -> bool:
    """Whether this process has made the attempts of a result. Those in a journal have no time on the wire."""
    return not result.attempts or result.provider_seconds is not None


def _outcome(result: Result[Any]) -> Outcome:
    return result.output, None if result.error is None else error_text(result.error), result.cost


class _Asked:
    """The texts of all batches, and what became of them.

    Args:
        parts: the batches.
        column: the texts' column.
    """

    def __init__(self, parts: Parts[Cell], column: str) -> None:
        self._parts = parts
        self._column = column
        self._open: dict[int, tuple[int, Part[Cell]]] = {}
        self._unread: dict[int, str] = {}

    async def __aiter__(self) -> AsyncIterator[list[str | None]]:
        number = 0
        async for first, part in self._parts.read():
            self._open[number] = first, part
            number += 1
            yield [self._text(index, row) for index, row in enumerate(rows(part.batch.select([self._column])), first)]

    def put(self, number: int, outcomes: Sequence[Outcome]) -> list[tuple[int, Cell]]:
        """Note the outcomes of a batch. Returns its rows' indexes and cells."""
        first, part = self._open.pop(number)
        for index, (vector, error, cost) in enumerate(outcomes, first):
            part.put(index, Cell(value=vector, error=self._unread.pop(index, error), cost=cost))
        return list(enumerate(part.whole(), first))

    def _text(self, index: int, row: Any) -> str | None:
        if isinstance(row, Exception):
            self._unread[index] = error_text(row)
            return None
        text = row[self._column]
        return text if text is None or isinstance(text, str) else str(text)


async def embedded(
    client: Client,
    batches: Iterator[Any],
    *,
    column: str,
    dimensions: int | None,
    ahead: int = AHEAD,
    total: int | None = None,
    check: Check | None = None,
    progress: ShowProgress = False,
    **run: Any,
) -> AsyncGenerator[Part[Cell], None]:
    """The batches with the vector of each row's text, in order.

    Args:
        client: asks for the vectors.
        batches: record batches of pyarrow's.
        column: the texts' column.
        dimensions: the length of the vectors, for models that can shorten them.
        ahead: see `Parts`.
        total: the number of rows, if it is known.
        check: see `Parts`.
        progress: as for `Client.as_completed`; it counts texts.
        **run: ``store`` and ``retry_failed``, as for `Client.map`.

    Raises:
        ConfigError: no text can be embedded: there is no model, it has no embeddings, or no price for the budget.
    """
    await asyncio.to_thread(client.check, Call(""))  # it may read files, or look for a server that shares limits
    await engine_of(client).caps(None)
    parts: Parts[Cell] = Parts(batches, ahead, check)
    asked, function = _Asked(parts, column), _Embedder(dimensions)
    async with (
        _hearing(client, progress, total, durable=run.get("store") is not None) as heard,
        aclosing(client.map(function, asked, **run)) as results,
    ):
        async for result in results:
            outcomes, news = function.outcomes(result)
            for (index, cell), new in zip(asked.put(result.index, outcomes), news, strict=True):
                heard(index, cell, new)
            for part in parts.finished():
                yield part
    for part in parts.finished():
        yield part


@asynccontextmanager
async def _hearing(
    client: Client, progress: ShowProgress, total: int | None, *, durable: bool
) -> AsyncGenerator[Callable[[int, Cell, bool], None], None]:
    """Within the block, show the progress of texts. The yielded function receives the index of each, what became of it,
    and whether that is new.
    """
    if not progress:
        yield lambda index, cell, new: None
        return
    from flatout.progress._following import following

    known: set[int] = set()

    def hear(index: int, cell: Cell, new: bool) -> None:
        if not new:
            known.add(index)
        name, _, message = (cell.error or "").partition(": ")
        error = error_of(name, message, 0) if name else None
        heard(make_result(index=index, output=cell.value, error=error, cost=cell.cost))

    kept = known if durable else None
    async with following(engine_of(client), progress, total=total, known=kept, counts="text") as heard:
        yield hear
