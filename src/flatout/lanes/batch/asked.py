"""Finds rows that need no place in a batch: their answers are kept, or an equal row is being asked already.

It is for runs with a cache, and for those that reuse an earlier run. Which questions are under way, and in a run
without a cache what they were answered, is looked up in the run file. So memory stays constant, and the next process of
the run knows them, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flatout.durable.reuse import kept_of
from flatout.layers.cache import Cache
from flatout.store.ledger import BatchRow, LedgerReader
from flatout.values import Call, Reply

from .box import Box
from .row import Row

TOGETHER = 200
"""Rows that are looked up at once."""


class Asked:
    """The questions that are answered, or under way.

    Args:
        cache: the client's.
        ledger: the run file's.

    Attributes:
        waiting: rows of this pass that wait for the answer of an equal one.
    """

    def __init__(self, cache: Cache, ledger: LedgerReader) -> None:
        self._cache = cache
        self._ledger = ledger
        self._packed: set[bytes] = set()  # in boxes that are being filled
        self.waiting = 0

    async def begin(self) -> None:
        """A pass over the rows begins."""
        self.waiting = 0
        self._packed.clear()
        await asyncio.to_thread(self._ledger.index_asked)
        if not self._cache.keeps:
            await asyncio.to_thread(self._ledger.index_answered)

    async def answers(self, rows: Sequence[Row]) -> list[Reply | None]:
        """The kept answers to rows."""
        found = await asyncio.gather(*(self._cache.find(row.call, patient=True) for row in rows))
        if self._cache.keeps or None not in found:
            return found
        return await asyncio.to_thread(self._with_equal_rows, rows, found)

    async def answer(self, call: Call) -> Reply | None:
        """The kept answer to one call."""
        return await self._cache.find(call)

    async def under_way(self, fingerprint: bytes) -> bool:
        """Whether an equal row is being asked."""
        return fingerprint in self._packed or await asyncio.to_thread(self._ledger.is_asked, fingerprint)

    def packs(self, fingerprint: bytes) -> None:
        """A row is about to stand in a batch."""
        self._packed.add(fingerprint)

    async def submits(self, box: Box) -> None:
        """The rows of a box are in the ledger."""
        made = [row.placed.fingerprint for row in box.rows]
        self._packed.difference_update(made)
        await asyncio.to_thread(self._ledger.note_asked, made)

    def _with_equal_rows(self, rows: Sequence[Row], found: Sequence[Reply | None]) -> list[Reply | None]:
        """Add the answers to equal rows of this run."""
        return [reply or self._of_equal(row) for row, reply in zip(rows, found, strict=True)]

    def _of_equal(self, row: Row) -> Reply | None:
        item = self._ledger.answered(row.fingerprint)
        kept = None if item is None else kept_of(item, row.call)
        return None if kept is None else self._cache.fitting(row.call, kept)


def is_fresh(known: BatchRow | None) -> bool:
    """Whether a row is to be asked for the first time, or has not been answered so far."""
    return known is None or (known.state not in ("sent", "kept") and not known.told)
