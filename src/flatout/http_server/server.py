"""A small HTTP/1.1 server: asyncio carries the bytes, `RequestReader` finds the requests in them.

It costs less than a framework, and does what a framework hides: it can break off an answer, or close a connection
without one. A connection's requests are answered one after the other, in a task that lives while there are any. The
task is cancelled when the client hangs up.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

from .answer import JSON, Answer, error_body
from .incoming import ROOM, Incoming
from .requests import MAX_BODY, Refusal, Request, RequestReader

__all__ = ["Answer", "Handler", "HttpServer"]

BACKLOG = 4096  # pending connections; a client that starts up opens thousands at once
LINGER = 2.0  # seconds in which a refused client may send nothing until it is cut off

MOST_LINGER = 30.0
"""Seconds that a refused client may go on sending: a reset would take its answer away. Many clients read none before
they have sent a large request whole."""

UNSENT = 128 * 1024
"""Bytes of answers that the system takes from the server before it has sent them. What is on its way to the client does
not count, so a long line is still filled."""

MAX_AHEAD = 1024 * 1024
"""The most bytes that a client may send while it waits for an answer."""

_log = logging.getLogger("flatout")

Handler = Callable[[Request, "Answer"], Awaitable[None]]
"""Answers a request. It is cancelled when the client hangs up."""


class Connection(asyncio.Protocol):
    """One client's connection.

    Args:
        server: the server that accepted it.
    """

    __slots__ = (
        *("_ahead", "_begun", "_drained", "_got", "_loop", "_paused", "_reader", "_refused", "_seen", "_server"),
        *("_task", "_timer", "_transport", "_until", "_waiting"),
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(server.max_body, server.streamed)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # asyncio gives it before all else
        self._waiting: deque[Request] = deque()
        self._ahead = 0  # bytes received while the task works
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._seen = 0.0  # the loop time of the last byte received, or of the end of the last answer
        self._timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._until = 0.0  # the loop time until which it may go on sending after that
        self._begun: float | None = None  # the loop time of the first byte of a request that is not whole yet, or of
        # the latest byte of a body that is read as it comes
        self._got = 0  # bytes that are held of that request
        self._paused = False  # whether nothing is read, because a handler has not taken what came

    @property
    def idle_since(self) -> float | None:
        """The loop time of the last byte received, or of the end of the last answer; None while it works."""
        return self._seen if self._task is None else None

    @property
    def leaves(self) -> bool:
        """Whether the server is closing: then each connection closes after its present answer."""
        return self._server.closing

    @property
    def peer(self) -> tuple[str, int] | None:
        """The client's address and port; None if it is gone."""
        found = self._transport.get_extra_info("peername")
        return (str(found[0]), int(found[1])) if found else None

    def write(self, data: bytes) -> None:
        """Send bytes, unless the connection is closed."""
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait while the client does not read; if it does not for long, close the connection."""
        if self._drained is None:
            return
        done, _ = await asyncio.wait([self._drained], timeout=self._server.patience)
        if not done:
            self.abort()
            await self._drained  # for ever: the loss of the connection cancels the task

    def abort(self) -> None:
        """Close the connection now. Whatever was not yet sent is dropped."""
        self._transport.abort()

    def leave(self) -> asyncio.Task[None] | None:
        """Close the connection at once if it is idle. Otherwise returns the task that works; it `leaves` by itself."""
        if self._task is None:
            self._transport.close()
        return self._task

    async def _work(self) -> None:
        """Answer the requests that have arrived, until none waits."""
        keeps = True
        while keeps and self._waiting:
            keeps = await self._answer(self._waiting.popleft())
            await self.drained()
        self._task = None
        self._ahead = 0
        if keeps:
            self._rest()
        elif self._reader.incoming is not None:  # it was answered before its body had come
            self._see_off()
        else:
            self._transport.close()

    async def _answer(self, request: Request) -> bool:
        """Answer a request. Returns whether the connection can carry another one."""
        answer = Answer(self, request)
        if request.incoming is not None:
            request.incoming.wanted = self._go_on
        try:
            await self._server.handler(request, answer)
        except Refusal:  # of the rest of the body: `_rest` says it
            return True
        except Exception as error:
            _log.error("the answer to %s failed: %r", request, error, exc_info=error)
            answer.fail()
        else:
            answer.end()
        return answer.keeps and not self.leaves

    def _rest(self) -> None:
        """Wait for bytes: everything before them has been answered."""
        self._seen = self._loop.time()
        if self._reader.refusal is not None:
            self._refuse(self._reader.refusal)
        else:
            self._invite()

    def _invite(self) -> None:
        """Let a client send the body that it holds back until it is told to."""
        if self._reader.expects:
            self._reader.expects = False
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _pause(self, incoming: Incoming) -> None:
        """Let the client wait, if it sends faster than the handler takes it."""
        if incoming.size >= ROOM and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _go_on(self) -> None:
        """Let the rest of a body come: its handler has taken what there was."""
        self._hold(0)
        self._read_on()
        self._invite()

    def _read_on(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _refuse(self, refusal: Refusal) -> None:
        """Say so, and see the client off."""
        answer = Answer(self, Request("", "", {}, "1.1", keeps=False))
        answer.send(refusal.status, JSON, error_body(str(refusal)))
        self._see_off()

    def _see_off(self) -> None:
        """Close the connection once the client has, or when it has sent nothing for `LINGER` seconds."""
        self._refused = True
        self._hold(0)
        self._begun = None
        self._until = self._loop.time() + MOST_LINGER
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        self._read_on()
        self._linger()

    def _linger(self) -> None:
        """Let the client go on sending: nobody looks at it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(self._loop.time() + LINGER, self._until), self.abort)

    def _look(self) -> None:
        """Close the connection if it has been idle for long."""
        now = self._loop.time()
        due = self._server.keepalive + (self._seen if self._task is None else now)
        patience = self._server.patience
        if due <= now or (patience is not None and self._begun is not None and self._begun + patience <= now):
            self._transport.close()
        else:
            self._timer = self._loop.call_at(due, self._look)

    # -- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        _keep_little(transport)
        self._server.opened(self)
        self._rest()
        self._look()

    def data_received(self, data: bytes) -> None:
        """Take bytes of requests."""
        if self._refused:
            self._linger()
            return
        reader = self._reader
        if self._task is not None and reader.incoming is None:
            self._ahead += len(data)
            if self._ahead > MAX_AHEAD:
                reader.refuse(503, f"more than {MAX_AHEAD:,} bytes came before their turn")
        before = reader.incoming
        found = reader.feed(data)
        self._waiting.extend(found)
        if reader.incoming is not None:
            self._begun = self._loop.time()
            self._hold(reader.incoming.size)
            self._pause(reader.incoming)
        elif found or before is not None or reader.refusal is not None:
            self._begun = None
            self._hold(0)
        else:
            self._begun = self._loop.time() if self._begun is None else self._begun
            self._hold(self._got + len(data))
        if self._task is not None:
            return
        if self._waiting:
            self._task = self._loop.create_task(self._work())
        else:
            self._rest()

    def _hold(self, size: int) -> None:
        """Count the bytes that are held of a request that is not whole yet."""
        server = self._server
        server.held += size - self._got
        self._got = size
        if size and server.most_held is not None and server.held > server.most_held:
            self._reader.refuse(503, "the server has no room for the request")

    def pause_writing(self) -> None:
        """Hold back the rest of an answer."""
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """Send the rest of an answer."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the work for a client that is gone."""
        self._reader.close()
        self._hold(0)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._server.lost(self)


def _keep_little(transport: asyncio.BaseTransport) -> None:
    """Let the system take `UNSENT` bytes for a client that does not read. It takes up to 4 MB otherwise."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Windows has none
    sock = transport.get_extra_info("socket")
    if option is not None and sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, UNSENT)


class HttpServer:
    """Listens, and knows its connections.

    Args:
        handler: answers each request.
        keepalive: seconds after which an idle connection is closed.
        max_body: the most bytes of a request's body.
        most: the most connections. For a further one, the one is closed that has been idle for longest, and sends or
            awaits nothing; without such a one, it is closed itself.
        patience: seconds in which a request must arrive whole, and for which a client need not read its answer; None
            for no bound.
        most_held: the most bytes of all requests that are not whole yet; None for no bound.
        streamed: says which requests are handed over when their heads have come, and how many bytes their bodies may
            have; see `RequestReader`. Of such a body the next byte must come within ``patience``.

    Attributes:
        closing: whether it has begun to close.
        held: bytes of requests that are not whole yet, apart from those that a handler has taken.
    """

    def __init__(
        self,
        handler: Handler,
        keepalive: float,
        *,
        max_body: int = MAX_BODY,
        most: int | None = None,
        patience: float | None = None,
        most_held: int | None = None,
        streamed: Callable[[Request], int] | None = None,
    ) -> None:
        self.handler = handler
        self.keepalive = keepalive
        self.max_body = max_body
        self.patience = patience
        self.most_held = most_held
        self.streamed = streamed
        self.held = 0
        self._most = most
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.closing = False
        self._listening: asyncio.Server | None = None

    def opened(self, connection: Connection) -> None:
        """Know a connection. One that was accepted while the server closed is closed, too."""
        self._connections.add(connection)
        self._empty.clear()
        if self.closing:
            connection.abort()
        elif self._most is not None and len(self._connections) > self._most:
            self._longest_idle(connection).abort()

    def _longest_idle(self, new: Connection) -> Connection:
        """The connection that can best be spared: one that is new, if all others are being answered."""
        idle = [(since, id(each), each) for each in self._connections if (since := each.idle_since) is not None]
        others = [entry for entry in idle if entry[2] is not new]
        return min(others)[2] if others else new

    def lost(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def __repr__(self) -> str:
        return f"HttpServer({len(self._connections)} connections{', closing' if self.closing else ''})"

    async def listen(self, host: str, port: int) -> int:
        """Accept connections. Returns the port.

        Raises:
            OSError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(lambda: Connection(self), host, port, backlog=BACKLOG)
        return cast("int", self._listening.sockets[0].getsockname()[1])

    async def wait_empty(self) -> None:
        """Return when no connection is open."""
        await self._empty.wait()

    async def close(self, grace: float) -> None:
        """Stop listening, close idle connections, and end all others.

        Args:
            grace: seconds that open requests get until they are cancelled.
        """
        self.closing = True
        if self._listening is not None:
            self._listening.close()
        tasks = [task for connection in tuple(self._connections) if (task := connection.leave()) is not None]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=grace)
        finally:
            for connection in tuple(self._connections):
                connection.abort()
        await self.wait_empty()
        if tasks:
            await asyncio.wait(tasks)
