"""TLS for connections: the usual context, and less memory per connection than asyncio takes."""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401 - otherwise the first certificate's check would load it from the disk
import socket
import ssl
from asyncio import selector_events, sslproto
from typing import Any

from .http1 import Connection

BUFFER = 256 * 1024
"""Bytes of the receive buffer: as many as asyncio reads at once."""


def default_context() -> ssl.SSLContext:
    """A context that verifies certificates by the system's authorities, ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Tls:
    """Makes connections speak TLS. Belongs to one event loop.

    Args:
        context: decides whom to trust; by default `default_context`.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context or default_context()
        self._buffer = bytearray(BUFFER)

    async def connect(self, sock: socket.socket, host: str, connection: Connection) -> None:
        """Shake hands over a connected socket. The socket belongs to the connection from here on.

        Raises:
            OSError: the handshake failed (ssl.SSLError), or the server closed the connection.
        """
        loop = asyncio.get_running_loop()
        if not _can_share(loop):
            await loop.create_connection(lambda: connection, sock=sock, ssl=self._context, server_hostname=host)
            return
        shaken: asyncio.Future[None] = loop.create_future()
        protocol = _SharedBuffer(self._buffer, loop, connection, self._context, shaken, server_hostname=host)
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
        try:
            await shaken
        except BaseException:
            transport.abort()
            raise


class _SharedBuffer(sslproto.SSLProtocol):
    """asyncio's TLS protocol with one receive buffer for all connections of a loop, instead of 256 KB for each.

    A selector loop calls ``get_buffer``, receives into the buffer, and calls ``buffer_updated``, all within one
    callback; ``buffer_updated`` copies the bytes into OpenSSL. So no two connections use the buffer at the same time.
    """

    max_size = 1  # asyncio allocates this much in __init__

    def __init__(self, buffer: bytearray, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.max_size = len(buffer)  # type: ignore[misc]  # asyncio declares it as a constant, and reads it as an attribute
        self._ssl_buffer = buffer
        self._ssl_buffer_view = memoryview(buffer)


def _can_share(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this loop and this Python work as `_SharedBuffer` needs; if not, asyncio's own way is taken."""
    return isinstance(loop, selector_events.BaseSelectorEventLoop) and _USES_THE_BUFFER


_USES_THE_BUFFER = hasattr(sslproto.SSLProtocol, "max_size") and all(
    "_ssl_buffer_view" in method.__code__.co_names
    for method in (sslproto.SSLProtocol.get_buffer, sslproto.SSLProtocol.buffer_updated)
)
"""Whether asyncio's TLS protocol receives into the buffer that `_SharedBuffer` replaces."""
