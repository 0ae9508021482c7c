"""One end of the socket between the parent and a worker."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from .messages import Incoming, Order, Report, encode


class Channel(asyncio.Protocol):
    """Sends and receives messages.

    There is no flow control: the parent gives a worker a bounded number of rows, and so bounds what either can have to
    say.

    Args:
        hear: called with each message.
        lost: called once when the other side has closed, or is dead.
    """

    def __init__(self, hear: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._hear = hear
        self._lost = lost
        self._incoming = Incoming()
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def over(cls, end: socket.socket, hear: Callable[[bytes], None], lost: Callable[[], None]) -> Channel:
        """The channel over a connected socket, which it owns from now on."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: cls(hear, lost), sock=end)
        return channel

    def send(self, message: Order | Report) -> None:
        """Send a message. Once the other side is lost, nothing happens."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(message))

    async def close(self) -> None:
        """Send what is left, and close."""
        if self._transport is not None:
            self._transport.close()
        await self._closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand on the messages that are complete."""
        for body in self._incoming.take(data):
            self._hear(body)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the owner."""
        self._closed.set_result(None)
        self._lost()
