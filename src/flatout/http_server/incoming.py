"""The body of a request whose handler reads it as it comes, so that it may be larger than memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

ROOM = 256 * 1024
"""Bytes that may wait for the handler. With more, nothing is read from the client until the handler has taken them."""


class Incoming:
    """A body on its way.

    Args:
        most: the most bytes that it may have.

    Attributes:
        come: the bytes that have come.
        whole: whether all of them have.
        wanted: called when the handler waits for more.
    """

    __slots__ = ("_changed", "_failure", "_waiting", "come", "most", "wanted", "whole")

    def __init__(self, most: int) -> None:
        self._waiting = bytearray()
        self._changed = asyncio.Event()
        self._failure: Exception | None = None
        self.most = most
        self.come = 0
        self.whole = False
        self.wanted: Callable[[], object] = int

    @property
    def size(self) -> int:
        """Bytes that have come, and nobody has taken."""
        return len(self._waiting)

    def add(self, piece: bytes) -> None:
        """Take a piece from the client."""
        self._waiting += piece
        self.come += len(piece)
        self._changed.set()

    def end(self) -> None:
        """All of it has come."""
        self.whole = True
        self._changed.set()

    def fail(self, why: Exception) -> None:
        """The rest will not come. What nobody has taken is dropped."""
        self._failure = why
        self._waiting = bytearray()
        self._changed.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        """What has come, again and again until all of it has. Iterate once.

        Raises:
            Refusal: the rest will not come: its bytes are no HTTP, or too many.
        """
        while True:
            self._changed.clear()
            if self._failure is not None:
                raise self._failure
            if self._waiting:
                taken, self._waiting = bytes(self._waiting), bytearray()
                yield taken
            elif self.whole:
                return
            else:
                self.wanted()
                await self._changed.wait()
