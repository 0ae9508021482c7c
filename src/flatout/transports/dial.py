"""Opens connections to one origin: look-up, TCP or a Unix socket, a proxy's tunnel, TLS.

Whatever fails here fails before anything of a request was sent.
"""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401 - otherwise the first connection would load it from the disk
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiohappyeyeballs

from .address import UNIX, Origin
from .http1 import Connection
from .proxy import Proxy, open_tunnel

if TYPE_CHECKING:
    from .tls import Tls

REMEMBER = 60.0
"""Seconds for which the addresses of a host are remembered."""

SECOND_TRY = 0.25
"""Seconds after which the next address of a host is tried beside the first: the delay of RFC 8305, section 5."""

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""One address of a host, as getaddrinfo gives it."""


class Dialer:
    """Opens connections to one origin.

    Args:
        origin: where to.
        proxy: the proxy on the way; None for none.
        tls: makes connections speak TLS; None for plain HTTP.
    """

    def __init__(self, origin: Origin, proxy: Proxy | None, tls: Tls | None) -> None:
        self.origin = origin
        self.proxy = proxy
        self._tls = tls
        self._addresses: list[AddressInfo] = []
        self._known_until = 0.0
        self._looking_up: asyncio.Task[list[AddressInfo]] | None = None

    @property
    def tunnels(self) -> bool:
        """Whether a proxy must pass bytes on unread."""
        return self._tls is not None

    @property
    def first_hop(self) -> str:
        """What the socket is connected to."""
        return str(self.origin) if self.proxy is None else f"the proxy {self.proxy.host}:{self.proxy.port}"

    async def dial(self, make: Callable[[], Connection]) -> Connection:
        """Open a connection.

        Raises:
            OSError: no connection. Look-up failures are socket.gaierror, TLS failures ssl.SSLError.
            ConnectError: a proxy is in the way.
        """
        sock = await self._socket()
        connection = make()
        try:
            if self.proxy is not None and self.tunnels:
                await open_tunnel(sock, self.proxy, self.origin.host, self.origin.port)
            if self._tls is not None:
                await self._tls.connect(sock, self.origin.host, connection)
            else:
                await asyncio.get_running_loop().create_connection(lambda: connection, sock=sock)
        except BaseException:
            sock.close()
            raise
        return connection

    async def _socket(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        if self.origin.scheme == UNIX:
            return await _unix_socket(self.origin.host)
        addresses = await self._look_up()
        self._addresses = [*addresses[1:], addresses[0]]  # the next connection begins with the next address
        try:
            return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=SECOND_TRY, loop=loop)
        except OSError:
            self._known_until = 0.0  # the host may have moved
            raise

    async def _look_up(self) -> list[AddressInfo]:
        """The host's addresses. Many connections at once share one look-up."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._known_until:
            return self._addresses
        if self._looking_up is None:
            self._looking_up = loop.create_task(self._ask())
            self._looking_up.add_done_callback(self._looked_up)
        return await asyncio.shield(self._looking_up)

    async def _ask(self) -> list[AddressInfo]:
        host, port = (self.origin.host, self.origin.port) if self.proxy is None else self.proxy[:2]
        loop = asyncio.get_running_loop()
        known = literal(host, port)
        self._addresses = known or [*await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        self._known_until = loop.time() + REMEMBER
        return self._addresses

    def _looked_up(self, task: asyncio.Task[list[AddressInfo]]) -> None:
        self._looking_up = None
        if not task.cancelled():
            task.exception()  # each that waits raises it; if all were cancelled, nobody asks for it


def literal(host: str, port: int) -> list[AddressInfo] | None:
    """The address of a host that is an IP address itself; None for a name, which must be looked up in a thread."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    return None


async def _unix_socket(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, path)
    except BaseException:
        sock.close()
        raise
    return sock
