"""The pool of connections, which also reports how long connecting took.

flatout's limiter admits requests, so the pool has no limit of its own. It opens a bounded number of connections at a
time: a TLS handshake costs about a millisecond of CPU, and thousands at once starve everything else. If the process may
open no more files, the pool waits. It never hands out a connection that the server has closed.
"""

from __future__ import annotations

import asyncio
import select
import time
from contextvars import ContextVar
from typing import Any

import aiohttp

from flatout.journey import current_journey
from flatout.policies.pacing.way import OPENING
from flatout.tasks.patience import Patience
from flatout.transports.descriptors import NONE_LEFT

FILES_WAIT = 60.0
"""Seconds that a new connection waits for a free file descriptor."""

FILES_PAUSE = 0.05
"""Seconds between two checks for a free file descriptor."""


class Exchange:
    """What the pool reports about one request: whether it opened a connection, and how long that took."""

    __slots__ = ("connect_seconds", "opened")

    def __init__(self) -> None:
        self.opened = False
        self.connect_seconds = 0.0


exchange: ContextVar[Exchange] = ContextVar("flatout_exchange")
"""Where the pool reports. aiohttp's own tracing could do the same, at 40 µs a request."""


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
        """A connection for a request: an idle one if its server has not closed it, otherwise a new one.

        The server may have read a request before it closed the connection. So a request that was written to a closed
        connection cannot be sent again safely. Checking before the write takes two microseconds.
        """
        timing = exchange.get()
        while True:
            connection = await super().connect(req, *args, **kwargs)
            if timing.opened or not _hung_up(connection):
                return connection
            connection.close()

    async def _create_connection(self, req: aiohttp.ClientRequest, *args: Any, **kwargs: Any) -> Any:
        timing = exchange.get()
        timing.opened = True
        # One gate per host: a host that does not answer must not hold up the others.
        host = (req.url.host, req.url.port)
        gate = self._opening.get(host) or self._opening.setdefault(host, asyncio.Semaphore(OPENING))
        started = time.monotonic()
        journey = current_journey(None)
        opens = journey.attempt.opens if journey is not None else None
        if opens is not None:
            opens(1)
        try:
            async with gate:
                connection = await self._opened(req, *args, **kwargs)
        finally:
            if opens is not None:
                opens(-1)
        timing.connect_seconds = time.monotonic() - started
        return connection

    async def _opened(self, req: aiohttp.ClientRequest, *args: Any, **kwargs: Any) -> Any:
        """A new connection, once a file descriptor is free."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + FILES_WAIT
        while True:
            try:
                with Patience(loop.time() + self._connect_timeout):
                    return await super()._create_connection(req, *args, **kwargs)
            except OSError as error:
                if error.errno not in NONE_LEFT or loop.time() >= give_up:
                    raise
            self._drop_idle()
            await asyncio.sleep(FILES_PAUSE)

    def _drop_idle(self) -> None:
        """Close all idle connections: each holds a file descriptor."""
        for idle in self._conns.values():
            while idle:
                idle.popleft()[0].close()


def _hung_up(connection: Any) -> bool:
    """Whether an idle connection has something to read: its end, or unrequested data. Both make it useless."""
    transport = connection.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    return sock is None or _is_readable(sock.fileno())


def _is_readable(fileno: int) -> bool:
    if not hasattr(select, "poll"):  # on Windows, where select takes any descriptor number
        return bool(select.select([fileno], [], [], 0)[0])
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(0))
