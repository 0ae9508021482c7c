"""The pool of connections, and what it tells of each request.

Admission is flatout's own, so the pool has no limit of its own. It opens a bounded number of connections at a time (a
TLS handshake costs about a millisecond of CPU, and thousands at once starve everything else), waits where the process
may open no more files, and never hands out a connection that the server has closed.
"""

from __future__ import annotations

import asyncio
import select
import time
from contextvars import ContextVar
from typing import Any

import aiohttp

from flatout.tasks.patience import Patience

from .descriptors import NONE_LEFT

CONNECTING = 64
"""Connections to one host that are being opened at a time."""

FILES_WAIT = 60.0
"""Seconds that a connection waits for a file that it may open."""

FILES_PAUSE = 0.05
"""Seconds between two looks whether there is one."""


class Exchange:
    """What the pool tells of one request: whether it opened a connection for it, and how long that took."""

    __slots__ = ("connect_seconds", "opened")

    def __init__(self) -> None:
        self.opened = False
        self.connect_seconds = 0.0


exchange: ContextVar[Exchange] = ContextVar("flatout_exchange")
"""Where the pool writes it. aiohttp's own tracing could tell the same, at 40 µs a request."""


class Pool(aiohttp.TCPConnector):
    """Connections to any number of hosts.

    Args:
        connect_timeout: seconds for a connection to be made, look-up and TLS included.
        keepalive: seconds that an idle connection is kept.
    """

    def __init__(self, *, connect_timeout: float, keepalive: float) -> None:
        super().__init__(limit=0, ttl_dns_cache=60, keepalive_timeout=keepalive)
        self._connect_timeout = connect_timeout
        self._opening: dict[tuple[str | None, int | None], asyncio.Semaphore] = {}

    def __repr__(self) -> str:
        idle = sum(map(len, self._conns.values()))
        return f"Pool({len(self._acquired)} connections in use, {idle} idle)"

    async def connect(self, req: aiohttp.ClientRequest, *args: Any, **kwargs: Any) -> Any:
        """A connection for a request: an idle one, if its server has not closed it, or a new one.

        A request that is written to a closed connection may have been read before it was closed, so nobody may send
        it again as if nothing had happened. Looking before it is written costs two microseconds.
        """
        noted = exchange.get()
        while True:
            connection = await super().connect(req, *args, **kwargs)
            if noted.opened or not _hung_up(connection):
                return connection
            connection.close()

    async def _create_connection(self, req: aiohttp.ClientRequest, *args: Any, **kwargs: Any) -> Any:
        noted = exchange.get()
        noted.opened = True
        # A gate for each host: one that does not answer must not hold up the others.
        host = (req.url.host, req.url.port)
        gate = self._opening.get(host) or self._opening.setdefault(host, asyncio.Semaphore(CONNECTING))
        started = time.monotonic()
        async with gate:
            connection = await self._opened(req, *args, **kwargs)
        noted.connect_seconds = time.monotonic() - started
        return connection

    async def _opened(self, req: aiohttp.ClientRequest, *args: Any, **kwargs: Any) -> Any:
        """A new connection, once there is a file for it."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + FILES_WAIT
        while True:
            try:
                async with Patience(loop.time() + self._connect_timeout):
                    return await super()._create_connection(req, *args, **kwargs)
            except OSError as error:
                if error.errno not in NONE_LEFT or loop.time() >= give_up:
                    raise
            self._drop_idle()
            await asyncio.sleep(FILES_PAUSE)

    def _drop_idle(self) -> None:
        """Close the connections that nobody uses: each is a file."""
        for idle in self._conns.values():
            while idle:
                idle.popleft()[0].close()


def _hung_up(connection: Any) -> bool:
    """Whether an idle connection has something to read: its end, or what nobody asked for. Both make it useless."""
    transport = connection.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    return sock is None or _is_readable(sock.fileno())


def _is_readable(fileno: int) -> bool:
    if not hasattr(select, "poll"):  # Windows, where select takes any number
        return bool(select.select([fileno], [], [], 0)[0])
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(0))
