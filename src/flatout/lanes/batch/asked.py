"""Finds rows that need no place in a batch: their answers are kept, or an equal row is being asked already.

It is for runs with a cache. Which questions are under way is looked up in the run file, so memory stays constant, and
the next process of the run knows them, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flatout.layers.cache import Cache
from flatout.store.ledger import BatchRow, LedgerReader
from flatout.values import Call, Reply

from .box import Box

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

    async def answers(self, calls: Sequence[Call]) -> list[Reply | None]:
        """The kept answers to calls."""
        return await asyncio.gather(*map(self._cache.find, calls))

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


def is_fresh(known: BatchRow | None) -> bool:
    """Whether a row is to be asked for the first time, or has not been answered so far."""
    return known is None or (known.state not in ("sent", "kept") and not known.told)
