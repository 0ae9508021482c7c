"""Reading the ledger beside the input."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from flatout.lanes.batch.known import AHEAD_BYTES, Known
from flatout.store.ledger import BatchRow


def test_large_results_are_not_read_ahead_by_the_hundred() -> None:
    """Two hundred answers of 50 MB each would need 10 GB of memory."""
    taken = []
    body = bytes(AHEAD_BYTES // 2)

    def rows() -> Iterator[BatchRow]:
        for index in range(50):
            taken.append(index)
            yield BatchRow(index, 1, "answered", 1, None, b"", None, 200, body)

    async def read() -> None:
        known = Known(rows())
        for index in range(50):
            assert (found := await known.at(index)) is not None
            assert found.index == index
            assert len(taken) <= index + 2
        assert await known.at(50) is None

    asyncio.run(read())
