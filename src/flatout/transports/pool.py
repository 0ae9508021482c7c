"""The connections to one origin. They are used again, the most recently used first.

flatout's limiter admits requests, so the pool has no limit of its own. It opens a bounded number of connections at a
time: a TLS handshake costs about a millisecond of CPU, and thousands at once starve everything else. If the process may
open no more files, the pool waits. It never hands out a connection that the server has closed.
"""

from __future__ import annotations

import asyncio
import errno
import select

from flatout.errors import ConnectError
from flatout.policies.pacing.way import OPENING
from flatout.tasks.patience import Patience

from .descriptors import NONE_LEFT
from .dial import Dialer
from .failures import Unreached
from .http1 import Connection

FILES_WAIT = 60.0
"""Seconds that a new connection waits for a free file descriptor."""

FILES_PAUSE = 0.05
"""Seconds between two checks for a free file descriptor."""

MARGIN = 1.0
"""Seconds before the end that the server announced at which an idle connection is closed."""


class Pool:
    """Connections to one origin.

    Args:
        dialer: opens them.
        connect_timeout: seconds for a connection to be opened, look-up and TLS included.
        keepalive: seconds that an idle connection is kept.
    """

    def __init__(self, dialer: Dialer, *, connect_timeout: float, keepalive: float) -> None:
        self._dialer = dialer
        self._connect_timeout = connect_timeout
        self._keepalive = keepalive
        self._loop = asyncio.get_running_loop()
        self._gate = asyncio.Semaphore(OPENING)
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # the most recently used last
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"Pool({self._dialer.origin}: {self.in_use} connections in use, {self.idle} idle)"

    @property
    def absolute(self) -> bool:
        """Whether request lines name the whole address: a proxy reads them."""
        return self._dialer.proxy is not None and not self._dialer.tunnels

    @property
    def headers(self) -> dict[str, str]:
        """Headers that a proxy wants with every request."""
        authorization = self._dialer.proxy.authorization if self.absolute and self._dialer.proxy else None
        return {} if authorization is None else {"proxy-authorization": authorization}

    @property
    def in_use(self) -> int:
        """How many connections carry an exchange."""
        return len(self._open) - len(self._idle)

    @property
    def idle(self) -> int:
        """How many connections wait for the next exchange."""
        return len(self._idle)

    def take(self) -> Connection | None:
        """An idle connection that its server has not closed; None if there is none.

        The server may have read a request before it closed the connection. So a request that was written to a closed
        connection cannot be sent again safely. Checking before the write takes two microseconds.
        """
        now = self._loop.time()
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.idle_since + self._patience(connection) > now and _is_silent(connection):
                return connection
            connection.abort()
        return None

    async def open(self) -> Connection:
        """A new connection, once a file descriptor is free.

        Raises:
            Unreached: no connection.
            ConnectError: a proxy refused, or the pool is closed.
        """
        give_up = self._loop.time() + FILES_WAIT
        while True:
            try:  # one gate per origin: a host that does not answer must not hold up the others
                async with self._gate:
                    with Patience(self._loop.time() + self._connect_timeout):
                        return await self._dial()
            except OSError as error:
                if error.errno not in NONE_LEFT or self._loop.time() >= give_up:
                    raise Unreached(self._dialer.origin, self._dialer.first_hop, error) from None
            self._drop_idle()
            await asyncio.sleep(FILES_PAUSE)

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._open):
            connection.abort()
        for _ in range(_TURNS):
            if not self._open:
                return
            await asyncio.sleep(0)

    async def _dial(self) -> Connection:
        connection = await self._dialer.dial(lambda: Connection(self._freed, self._lost))
        if self._closed:
            connection.abort()
            raise ConnectError("the client is closed", should_retry=False)
        if not connection.is_open:
            raise ConnectionResetError(errno.ECONNRESET, "the server closed the connection at once")
        self._open.add(connection)
        return connection

    def _freed(self, connection: Connection) -> None:
        if self._closed:
            connection.abort()
            return
        self._idle[connection] = None
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keepalive, self._close_old)

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _patience(self, connection: Connection) -> float:
        keeps = connection.keeps
        return self._keepalive if keeps is None else min(self._keepalive, keeps - MARGIN)

    def _close_old(self) -> None:
        now = self._loop.time()
        for connection in [idle for idle in self._idle if idle.idle_since + self._patience(idle) <= now]:
            del self._idle[connection]
            connection.abort()
        self._sweep = self._loop.call_later(self._keepalive / 2, self._close_old) if self._idle else None

    def _drop_idle(self) -> None:
        """Close all idle connections: each holds a file descriptor."""
        while self._idle:
            self._idle.popitem()[0].abort()


_TURNS = 16
"""Turns of the event loop within which closed connections are gone. A plain one needs one, TLS up to three."""


def _is_silent(connection: Connection) -> bool:
    """Whether an idle connection is open, and has nothing to read. Its end, or unrequested data, make it useless."""
    return connection.is_open and not _is_readable(connection.fileno())


def _is_readable(fileno: int) -> bool:
    if fileno < 0:
        return True
    if not hasattr(select, "poll"):  # on Windows, where select takes any descriptor number
        return bool(select.select([fileno], [], [], 0)[0])
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(0))
