"""Reads the rows of a pipe in a thread of its own.

The program that writes into a pipe may be slow. Waiting for it in the event loop would stop every call in flight, and
Ctrl-C with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from threading import Semaphore, Thread
from typing import Generic, TypeVar

from msgspec import Struct

AHEAD = 1_000
"""Rows that are read ahead of use."""

RowT = TypeVar("RowT")


class _End(Struct, frozen=True):
    """Follows the last row. ``error`` says why reading stopped early."""

    error: Exception | None = None


class Arrivals(Generic[RowT]):
    """An async iterator over rows whose reading blocks. Iterate once; `close` ends it early.

    An error in reading is raised here too, after the rows that came before it.
    """

    def __init__(self, rows: Iterator[RowT]) -> None:
        self._rows = rows
        self._arrived: asyncio.Queue[RowT | _End] = asyncio.Queue()
        self._room = Semaphore(AHEAD)

    async def __aiter__(self) -> AsyncIterator[RowT]:
        loop = asyncio.get_running_loop()
        # A daemon thread, because a read that never returns must not keep the process alive.
        Thread(target=self._read, args=(loop,), name="flatout reads", daemon=True).start()
        while not isinstance(row := await self._arrived.get(), _End):
            self._room.release()
            yield row
        if row.error is not None:
            raise row.error

    def close(self) -> None:
        """End the iteration once the rows that have arrived are taken. Call it in the event loop."""
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
        with suppress(RuntimeError):  # the loop is closed, so nobody is waiting
            loop.call_soon_threadsafe(self._arrived.put_nowait, row)
