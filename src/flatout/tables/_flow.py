"""Answers record batches in order, while the window stays full across them.

A batch is handed on when its last row has an answer. Meanwhile the rows of the batches behind it are asked: calls come
from one input, whatever batch they belong to. So a slow row at a batch's end keeps nobody waiting but the reader.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, Generic, TypeVar

from flatout.client import Client, engine_of
from flatout.errors import ConfigError
from flatout.values import Call, CallLike, Limits, Result

from ._arrow import rows
from ._columns import Cell, cell_of, error_text
from ._question import Question

MINUTES = 2
"""Minutes of a known rate whose rows are in hand: the slowest row of a batch may take a good part of one."""

TAIL = 12
"""Rows in hand for each request in flight. A batch's slowest row takes ten times as long as most others."""

UNKNOWN = 12_000
"""Rows in hand if no limit is known: those of 6,000 requests a minute."""

_DECIDE = ("model", "service_tier", "max_tokens", "reasoning_effort")
"""Parameters of all calls that decide whether any can be asked."""


def rows_in_hand(limits: Limits) -> int:
    """How many rows keep these limits used, while the batches that are about to end wait for their slowest rows."""
    known = []
    if limits.rpm is not None:
        known.append(math.ceil(limits.rpm * MINUTES))
    if limits.concurrency is not None:
        known.append(limits.concurrency * TAIL)
    return min(known, default=UNKNOWN)


CellT = TypeVar("CellT")
Check = Callable[[list[str]], object]
Turn = AbstractAsyncContextManager[object]
"""Entered while the rows of an input are begun."""

_END: Any = object()


class Part(Generic[CellT]):
    """A batch on its way.

    Attributes:
        batch: the batch.
        cells: what became of its rows; None for those in progress.
        left: how many of them are in progress.
    """

    def __init__(self, batch: Any, rows: int, first: int = 0) -> None:
        self.batch = batch
        self.cells: list[CellT | None] = [None] * rows
        self.left = rows
        self._first = first

    def put(self, index: int, cell: CellT) -> None:
        """Note what became of the row with this index in the whole input."""
        self.cells[index - self._first] = cell
        self.left -= 1

    def whole(self) -> list[CellT]:
        """The cells of a part without rows in progress."""
        return [cell for cell in self.cells if cell is not None]


class Parts(Generic[CellT]):
    """The batches that have been read and not handed on.

    Args:
        batches: the input. Its ``next`` may block, so a thread calls it: always the same one, because some sources,
            such as a connection to SQLite, belong to a thread.
        ahead: the rows up to which a further batch is read.
        check: refuses the columns of a batch, if they do not suit.
    """

    def __init__(self, batches: Iterator[Any], ahead: float, check: Check | None = None) -> None:
        self._batches = batches
        self._check = check
        self._ahead = ahead
        self._open: deque[Part[CellT]] = deque()
        self._rows = 0
        self._read = 0
        self._room = asyncio.Event()

    async def read(self) -> AsyncIterator[tuple[int, Part[CellT]]]:
        """The batches, each with the index of its first row, as there is room for them."""
        loop, reader = asyncio.get_running_loop(), ThreadPoolExecutor(1, "flatout tables")
        names: list[str] | None = None
        try:
            while (batch := await loop.run_in_executor(reader, next, self._batches, _END)) is not _END:
                if self._check is not None and batch.schema.names != names:
                    names = batch.schema.names
                    self._check(names)
                first, self._read = self._read, self._read + batch.num_rows
                part: Part[CellT] = Part(batch, batch.num_rows, first)
                self._rows += batch.num_rows
                self._open.append(part)
                yield first, part
                while self._rows >= self._ahead:
                    self._room.clear()
                    await self._room.wait()
        finally:
            reader.shutdown(wait=False)  # a source that waits for something would be waited for

    def finished(self) -> Iterator[Part[CellT]]:
        """The first batches, as far as they are whole."""
        while self._open and not self._open[0].left:
            part = self._open.popleft()
            self._rows -= len(part.cells)
            self._room.set()
            yield part


class _Asked:
    """The calls of all rows, and which part and which error each of them has.

    Attributes:
        total: how many rows there are; None if nobody knows.
        is_part: whether the table has more rows than are asked for; its run file then keeps those.
    """

    def __init__(
        self, parts: Parts[Cell], question: Question, total: int | None, is_part: bool, turn: Turn | None
    ) -> None:
        self._parts = parts
        self._question = question
        self._turn: Turn = nullcontext() if turn is None else turn
        self._of: dict[int, Part[Cell]] = {}
        self._unasked: dict[int, Exception] = {}
        self.total = total
        self.is_part = is_part

    async def __aiter__(self) -> AsyncIterator[Any]:
        async with self._turn:
            async for first, part in self._parts.read():
                read = part.batch.select(self._question.reads(part.batch.schema.names))
                for index, row in enumerate(rows(read), first):
                    self._of[index] = part
                    yield self._call(index, row)

    def put(self, result: Result[Any]) -> None:
        """Note a result."""
        index = result.index
        self._of.pop(index).put(index, cell_of(result, self._unasked.pop(index, None)))

    def _call(self, index: int, row: Any) -> CallLike | ConfigError:
        """The call of a row; if it makes none, the error in its place says why."""
        try:
            if isinstance(row, Exception):
                raise row
            return self._question.call(index, row)
        except ConfigError as error:
            return error
        except Exception as error:  # a user's function may raise anything
            self._unasked[index] = error
            return ConfigError(error_text(error))


class _Counted(_Asked):
    """Calls whose number is known, for the display of their progress."""

    def __len__(self) -> int:
        return self.total or 0


async def answered(
    client: Client,
    batches: Iterator[Any],
    question: Question,
    *,
    ahead: float | None = None,
    total: int | None = None,
    check: Check | None = None,
    is_part: bool = False,
    turn: Turn | None = None,
    **options: Any,
) -> AsyncGenerator[Part[Cell], None]:
    """The batches with what became of each row, in order.

    Args:
        client: asks the calls.
        batches: record batches of pyarrow's.
        question: makes a call of each row.
        ahead: see `Parts`; None for as many rows as keep the client's limits used.
        total: the number of rows, if it is known.
        check: see `Parts`.
        is_part: whether these may be the first rows of a table of more.
        turn: shared by inputs that are asked one after the other. If several tables were begun together, all would end
            together: nothing would be handed on for minutes, and the limits idle at the slowest rows of all.
        **options: those of `Client.as_completed`.

    Raises:
        ConfigError: no row can be asked: there is no model, or no price for the budget.
    """
    if not question.names_models:
        call = Call.of({"prompt": "", **{name: options[name] for name in _DECIDE if name in options}})
        await asyncio.to_thread(client.check, call)  # it may read files, or look for a server that shares limits
    most = rows_in_hand(engine_of(client).targets.client_limits) if ahead is None else ahead
    parts: Parts[Cell] = Parts(batches, most, check)
    asked = (_Asked if total is None else _Counted)(parts, question, total, is_part, turn)
    async with aclosing(client.as_completed(asked, **options)) as results:
        async for result in results:
            asked.put(result)
            for part in parts.finished():
                yield part
    for part in parts.finished():  # those without rows, at the end
        yield part
