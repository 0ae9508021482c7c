"""Rows of a pipe, read in a thread of their own.

Whoever writes into a pipe may be slow. A read that waits for it in the event loop would hold up every call in flight,
and Ctrl-C with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from threading import Semaphore, Thread
from typing import Generic, TypeVar

from msgspec import Struct

AHEAD = 1_000
"""Rows that are read before anybody wants them."""

RowT = TypeVar("RowT")


class _End(Struct, frozen=True):
    """After the last row: why there are no more, when it is not the end of the input."""

    error: Exception | None = None


class Arrivals(Generic[RowT]):
    """An async iterator over rows whose reading blocks. Iterate once; `close` ends it early.

    Iterating raises what the reading raises, after the rows before it.
    """

    def __init__(self, rows: Iterator[RowT]) -> None:
        self._rows = rows
        self._arrived: asyncio.Queue[RowT | _End] = asyncio.Queue()
        self._room = Semaphore(AHEAD)

    async def __aiter__(self) -> AsyncIterator[RowT]:
        loop = asyncio.get_running_loop()
        # A daemon: a read that never returns must not keep the process from ending.
        Thread(target=self._read, args=(loop,), name="flatout reads", daemon=True).start()
        while not isinstance(row := await self._arrived.get(), _End):
            self._room.release()
            yield row
        if row.error is not None:
            raise row.error

    def close(self) -> None:
        """End the iteration, once the rows that have arrived are taken. Call it in the event loop."""
        self._arrived.put_nowait(_End())

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        end = _End()
        try:
            for row in self._rows:
                self._room.acquire()
                self._hand_over(row, loop)
        except Exception as error:
            end = _End(error)
        self._hand_over(end, loop)

    def _hand_over(self, row: RowT | _End, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._arrived.put_nowait, row)
