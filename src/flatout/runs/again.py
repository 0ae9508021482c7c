"""Asks failed rows again while the run goes, between the rows that are new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Set
from contextlib import aclosing

from flatout.store import Item, ItemState

from .work import Work

Failed = Callable[[Set[ItemState]], AsyncGenerator[tuple[Work, Item], None]]
"""The rows without an answer that ended in one of some states, each with its result so far."""


class Feed:
    """Gives a run's rows to whoever asks them, and does not end before all of them are over.

    Args:
        first: the rows to ask for the first time.
        failed: reads the rows that failed.
        take_back: hears of each failed row that is asked again.
        at_end: hears that all rows were given for the first time.
    """

    def __init__(
        self,
        first: AsyncGenerator[Work, None],
        failed: Failed,
        take_back: Callable[[Work, Item], None],
        at_end: Callable[[], None],
    ) -> None:
        self._first = first
        self._failed = failed
        self._take_back = take_back
        self._at_end = at_end
        self._open: set[int] = set()  # the rows that were given and are not over
        self._wanted: set[ItemState] = set()
        self._ends = False
        self._change: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ask_again(self, states: Set[ItemState]) -> None:
        """Ask the rows again that have ended so. Those that end so later are left alone."""
        self._wanted |= states
        self._changed()

    def over(self, index: int) -> None:
        """The result of a row is in the run file, or the row is left for another run."""
        self._open.discard(index)
        if not self._open:
            self._changed()

    def end(self) -> None:
        """Give no more rows."""
        self._ends = True
        self._changed()

    async def rows(self) -> AsyncGenerator[Work, None]:
        """The rows."""
        async with aclosing(self._first) as first:
            async for work in first:
                self._open.add(work.index)
                yield work
                async with aclosing(self._again()) as again:
                    async for other in again:
                        yield other
        self._at_end()
        while not self._ends and (self._open or self._wanted):
            async with aclosing(self._again()) as again:
                async for other in again:
                    yield other
            await self._until_changed()

    async def _again(self) -> AsyncGenerator[Work, None]:
        while self._wanted and not self._ends:
            wanted, self._wanted = self._wanted, set()
            async with aclosing(self._failed(wanted)) as failed:
                async for work, item in failed:
                    if work.index not in self._open:
                        self._open.add(work.index)
                        self._take_back(work, item)
                        yield work

    async def _until_changed(self) -> None:
        if self._open and not (self._ends or self._wanted):
            self._change = asyncio.get_running_loop().create_future()
            await self._change

    def _changed(self) -> None:
        if not self._change.done():
            self._change.set_result(None)
