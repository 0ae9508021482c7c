"""A connection without a socket: what flatout writes is kept, and what a server sends is fed to it, however cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import pairwise

TURNS = 20
"""Turns of the event loop in which everything that a piece sets off has happened."""


class Wire(asyncio.Transport):
    """A transport of asyncio's that leads nowhere.

    Args:
        protocol: what is connected.
        takes: bytes that are buffered before the writer is told to wait; None if each is sent at once.
    """

    def __init__(self, protocol: asyncio.Protocol, takes: int | None = None) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = bytearray()
        self.paused = False
        self.closed = False
        self._takes = takes
        self._buffered = 0
        self._lost = False
        self._loop = asyncio.get_running_loop()
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        if self._takes is not None:
            self._buffered += len(data)
            if self._buffered > self._takes:
                self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._buffered

    async def drain(self) -> None:
        """Send what was written."""
        self._buffered = 0
        self.protocol.resume_writing()
        await turns()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        """Close it once what was written has been sent, as asyncio does."""
        self.closed = True
        if not self._buffered:
            self.abort()

    def abort(self) -> None:
        self.closed = True
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self.protocol.connection_lost, None)

    async def send(self, pieces: Iterable[bytes]) -> None:
        """What the server sends. Like a socket, it gives nothing while nobody reads."""
        for piece in pieces:
            await self._until_read()
            if self.closed:
                return
            if piece:
                self.protocol.data_received(piece)

    async def end(self) -> None:
        """The server's end of the connection."""
        await self._until_read()
        if not self.closed and not self.protocol.eof_received():
            self.close()
        await turns()

    async def _until_read(self) -> None:
        await turns(2)
        for _ in range(TURNS):
            if self.paused:
                await turns(1)


async def turns(number: int = TURNS) -> None:
    """Let everything that is due happen."""
    for _ in range(number):
        await asyncio.sleep(0)


def cut(data: bytes, at: Iterable[int]) -> Iterator[bytes]:
    """The pieces of some bytes, cut at some places."""
    places = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    return (data[begin:end] for begin, end in pairwise(places))
