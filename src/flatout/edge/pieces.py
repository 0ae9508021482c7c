"""The pieces of a streamed answer, between its provider and whoever reads them."""

from __future__ import annotations

import asyncio


class Pieces:
    """Pieces that wait for their reader (a `flatout.layer.Reader`).

    Args:
        ahead: bytes that may wait; None for no bound.
    """

    __slots__ = ("_ahead", "_held", "_queue", "_taken")

    def __init__(self, ahead: int | None = None) -> None:
        self._ahead = ahead
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._held = 0
        self._taken = asyncio.Event()

    @property
    def behind(self) -> bool:
        """Whether more wait than may."""
        return self._ahead is not None and self._held > self._ahead

    async def turn(self) -> None:
        """Wait until the reader has taken enough."""
        while self.behind:
            self._taken.clear()
            await self._taken.wait()

    def put(self, piece: bytes | None) -> None:
        """Add a piece; None is the end."""
        self._held += len(piece or b"")
        self._queue.put_nowait(piece)

    async def get(self) -> bytes | None:
        """The next piece."""
        piece = await self._queue.get()
        self._held -= len(piece or b"")
        self._taken.set()
        return piece
