"""Reads the ledger beside the input, row by row."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from flatout.store.ledger import BatchRow

AHEAD, AHEAD_BYTES = 1_000, 4 * 1024 * 1024
"""Rows of the ledger that are read at once, and the bytes of the results that some have with them."""


class Known:
    """The rows of the ledger, beside the rows of the input.

    Args:
        rows: in order; reading them may wait for the disk.
    """

    def __init__(self, rows: Iterator[BatchRow]) -> None:
        self._rows = rows
        self._ahead: deque[BatchRow] = deque()
        self._at_end = False

    async def at(self, index: int) -> BatchRow | None:
        """What the ledger has of a row. Ask in order; rows may be left out."""
        while True:
            if not self._ahead and not self._at_end:
                await asyncio.to_thread(self._read)
            while self._ahead and self._ahead[0].index < index:
                self._ahead.popleft()
            if self._ahead:
                return self._ahead.popleft() if self._ahead[0].index == index else None
            if self._at_end:
                return None

    def _read(self) -> None:
        size = 0
        for row in self._rows:
            self._ahead.append(row)
            size += len(row.body or b"") + len(row.earlier or b"")
            if len(self._ahead) == AHEAD or size >= AHEAD_BYTES:
                return
        self._at_end = True
