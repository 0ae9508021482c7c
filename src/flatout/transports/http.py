"""The HTTP client: sends requests over connections that every target of one Client shares.

`flatout.transports.http1` is one connection, `.answer` one answer, `flatout.transports.pool` keeps those to one origin,
`flatout.transports.dial` opens them, and `flatout.transports.failures` names what fails.
"""

from __future__ import annotations

import re
import ssl
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from flatout.errors import CallError, ConnectError, ProtocolError
from flatout.journey import current_journey
from flatout.layer import Reader, Request, Response, Streamed
from flatout.values.secret import OneTime, Veiled

from . import descriptors
from .address import Address, Origin, address_of
from .answer import Answer, Sink
from .dial import Dialer
from .failures import FAILED, named, redirected
from .http1 import Connection
from .pool import Pool
from .proxy import proxy_for
from .room import Room, Share
from .unpack import unpacker

if TYPE_CHECKING:
    from .tls import Tls

CONNECT_TIMEOUT = 10.0
"""Seconds."""

KEEPALIVE = 4.0
"""Seconds. Below the 5 s of common servers (Node, uvicorn), so that flatout closes idle connections before they do."""

MAX_BODY = 64 * 1024 * 1024
"""The largest answer body, in bytes."""

MAX_REFUSAL = 1024 * 1024
"""Bytes that are read of an unsuccessful answer's body. Its start says what is wrong."""

MAX_HELD = 1024 * 1024 * 1024
"""The most bytes that all bodies together may hold; see `flatout.transports.room`."""

_MOST_ROUTES = 1_024
"""Beginnings of requests that are remembered."""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f]")

_ALWAYS = {"accept": "*/*", "accept-encoding": "identity"}
"""Headers of every request, unless it has its own."""


class HttpTransport:
    """Sends requests over shared keep-alive connections. Belongs to the event loop of its first request.

    A request is sent once. The layers above decide whether another attempt is worth its price.

    Args:
        connect_timeout: seconds for a connection to be made, TLS included.
        keepalive: seconds that an idle connection is kept.
        max_body: the most bytes of an answer, after decompression.
        max_held: the most bytes of all answers that are being read. Beyond it, answers wait for each other.
        trust_env: whether to use ``HTTPS_PROXY`` and similar variables.
        tls: decides whom to trust. By default the system's authorities, ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        keepalive: float = KEEPALIVE,
        max_body: int = MAX_BODY,
        max_held: int = MAX_HELD,
        trust_env: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._keepalive = keepalive
        self._max_body = max_body
        self._room = Room(max_held)
        self._trust_env = trust_env
        self._context = tls
        self._tls: Tls | None = None
        self._pools: dict[Origin, Pool] = {}
        self._routes: dict[tuple[str, int], _Route] = {}
        self._closed = False

    def __repr__(self) -> str:
        in_use = sum(pool.in_use for pool in self._pools.values())
        idle = sum(pool.idle for pool in self._pools.values())
        return f"HttpTransport({in_use} connections in use, {idle} idle)"

    def capacity(self) -> int | None:
        """How many requests can run at once, by the number of files this process may open; None for no bound."""
        return descriptors.free()

    async def send(self, request: Request) -> Response:
        """Send a request and return the complete answer.

        Raises:
            ConnectError: no connection; nothing was sent.
            ProtocolError: no complete, well-formed answer arrived.
        """
        answer: Answer | None = None
        try:
            answer = await self._ask(request, whole=True)
            body = answer.body() if answer.is_whole(self._max_body) else await self._rest(answer)
            return Response(answer.status, answer.headers, body)
        except FAILED as error:
            failure = named(error, request, trust_env=self._trust_env)
        finally:
            if answer is not None:
                _end(answer)
        raise failure  # outside the except: it must not refer to the original error, whose frames hold the key

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[Streamed, None]:
        """Send a request, and yield its answer as soon as the headers arrive.

        Raises:
            ConnectError: no connection; nothing was sent.
            ProtocolError: the answer's start is not well-formed.
        """
        with self._room.share() as share:
            async with self._streamed(request, self._max_body, share) as answer:
                yield answer

    @asynccontextmanager
    async def download(self, request: Request) -> AsyncGenerator[Streamed, None]:
        """`stream` for a body of any size, of which the reader keeps only a piece at a time.

        Raises:
            ConnectError, ProtocolError: as for `stream`.
        """
        with Room(sys.maxsize).share() as share:
            async with self._streamed(request, sys.maxsize, share) as answer:
                yield answer

    @asynccontextmanager
    async def _streamed(self, request: Request, most: int, share: Share) -> AsyncGenerator[Streamed, None]:
        failure = None
        try:
            answer = await self._ask(request, whole=False)
        except FAILED as error:
            failure = named(error, request, trust_env=self._trust_env)
        if failure is not None:
            raise failure
        try:
            yield _StreamedAnswer(request, answer, most, share)
        finally:
            _end(answer)

    async def close(self) -> None:
        """Close every connection, and refuse further requests."""
        self._closed = True
        for pool in self._pools.values():
            await pool.close()

    async def _rest(self, answer: Answer) -> bytes:
        """The body of an answer that is large, or compressed."""
        with self._room.share() as share:
            return b"".join([piece async for piece in _Body(answer, self._max_body, share).pieces()])

    async def _ask(self, request: Request, *, whole: bool) -> Answer:
        """Send the request, and return its answer once the head has arrived."""
        if self._closed:
            raise ConnectError("the client is closed", should_retry=False)
        route = self._routes.get((request.url, id(request.headers)))
        if route is None:
            route = self._route(request)
        connection = route.pool.take() or await _opened(route.pool)
        sent_at = connection.time()
        answer = await connection.ask(route.head(len(request.body)), request.body, whole=whole)
        record_wait("first_byte", answer.headed_at - sent_at)
        if 300 <= answer.status < 400:
            answer.end()
            raise redirected(request, answer.status, answer.headers.get("location", "nowhere"))
        return answer

    def _route(self, request: Request) -> _Route:
        """The route of a request. It is remembered if the headers cannot change."""
        address = address_of(request.url)
        pool = self._pools.get(address.origin)
        if pool is None:
            pool = self._pools[address.origin] = self._pool(address.origin)
        route = _Route(pool, request, address)
        if isinstance(request.headers, Veiled) and not isinstance(request.headers, OneTime):
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            self._routes[request.url, id(request.headers)] = route
        return route

    def _pool(self, origin: Origin) -> Pool:
        proxy = proxy_for(origin.scheme, origin.host, origin.port) if self._trust_env else None
        dialer = Dialer(origin, proxy, self._shared_tls() if origin.scheme == "https" else None)
        return Pool(dialer, connect_timeout=self._connect_timeout, keepalive=self._keepalive)

    def _shared_tls(self) -> Tls:
        if self._tls is None:
            from .tls import Tls

            self._tls = Tls(self._context)
        return self._tls


class _Route:
    """Where requests with the same URL and headers go, and how they begin."""

    __slots__ = ("_head", "_headers", "pool")

    def __init__(self, pool: Pool, request: Request, address: Address) -> None:
        self.pool = pool
        self._headers = request.headers  # kept, so that no other headers can have the same id
        self._head = _head(request, address, pool)

    def head(self, size: int) -> bytes:
        """The request line and all headers, for a body of some bytes."""
        return b"%bcontent-length: %d\r\n\r\n" % (self._head, size)


def _head(request: Request, address: Address, pool: Pool) -> bytes:
    path = f"{address.origin.scheme}://{address.authority}{address.path}" if pool.absolute else address.path
    given = {name.lower(): value for name, value in request.headers.items()}
    headers = {"host": address.authority, **_ALWAYS, **pool.headers, **given}
    lines = [f"{request.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), ""]
    if any(map(_CONTROL.search, lines)):
        raise ConnectError("a header contains a line break or another control character", should_retry=False)
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


async def _opened(pool: Pool) -> Connection:
    """A new connection. The attempt's limiter hears of it, since attempts that wait for one are not sent yet."""
    journey = current_journey(None)
    opens = journey.attempt.opens if journey is not None else None
    started = time.monotonic()
    if opens is not None:
        opens(1)
    try:
        return await pool.open()
    finally:
        if opens is not None:
            opens(-1)
        record_wait("connect", time.monotonic() - started)


def _end(answer: Answer) -> None:
    record_wait("body", answer.seconds_since_head())
    answer.end()


class _Body:
    """A body with its caps: unpacked, counted, and read no faster than there is room for it."""

    def __init__(self, answer: Answer, most: int, share: Share) -> None:
        self._answer = answer
        self._most = MAX_REFUSAL if answer.status >= 300 else most
        self._share = share
        self._size = 0
        self._begun = False  # whether there is a body at all; a refusal may have none, and say how it is packed
        coding = answer.headers.get("content-encoding")
        self._packed = unpacker(coding) if coding is not None else None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives.

        Raises:
            ProtocolError: the answer broke off, or is too large.
        """
        async for data in self._answer.chunks():
            for piece in self._unpacked(data):
                kept = self._counted(piece)
                if kept:
                    yield kept
                if len(kept) < len(piece):
                    return
                if not self._share.add(len(piece)):
                    await self._share.turn()
        self._check_end()

    async def pour(self, sink: Sink, reader: Reader | None) -> None:
        """Hand the pieces to a function as they arrive, until the body ends or the function returns False.

        Raises:
            ProtocolError: the answer broke off, or is too large.
        """
        wanted = True

        def take(data: bytes) -> bool:
            nonlocal wanted
            has_place = True
            for piece in self._unpacked(data):
                kept = self._counted(piece)
                wanted = sink(kept) and len(kept) == len(piece)
                has_place = self._share.add(len(piece))
                if not wanted:
                    return False
            return has_place and (reader is None or not reader.behind)

        await self._answer.pour(take)
        while wanted and not self._answer.is_read():
            if reader is not None and reader.behind:
                with self._share.resting():
                    await reader.turn()
            await self._share.turn()
            await self._answer.pour(take)
        if wanted:
            self._check_end()

    def _unpacked(self, data: bytes) -> Iterable[bytes]:
        self._begun = True
        return (data,) if self._packed is None else self._packed.feed(data)

    def _counted(self, piece: bytes) -> bytes:
        """The part of a piece that is wanted. Of a refusal, only the beginning is."""
        self._size += len(piece)
        beyond = self._size - self._most
        if beyond <= 0:
            return piece
        if self._answer.status >= 300:
            return piece[: len(piece) - beyond]
        raise ProtocolError(f"the answer is larger than {self._most:,} bytes", should_retry=False)

    def _check_end(self) -> None:
        if self._packed is not None and self._begun:
            self._packed.check_end()


class _StreamedAnswer:
    """An answer that is still arriving (a `flatout.layer.Streamed`)."""

    def __init__(self, request: Request, answer: Answer, max_body: int, share: Share) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self._request = request
        self._answer = answer
        self._max_body = max_body
        self._share = share

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive.

        Raises:
            ProtocolError: the answer broke off, or is too large.
        """
        try:
            async for piece in _Body(self._answer, self._max_body, self._share).pieces():
                yield piece
        except FAILED as error:
            failure = named(error, self._request)
        else:
            return
        raise failure

    async def pour(self, sink: Sink, reader: Reader | None = None) -> None:
        """Hand the body's bytes to a function as they arrive, until they end or the function returns False. While the
        reader is behind, nothing is read.

        Raises:
            ProtocolError: the answer broke off, or is too large.
        """
        try:
            await _Body(self._answer, self._max_body, self._share).pour(sink, reader)
        except (CallError, OSError) as error:
            failure = named(error, self._request)
        else:
            return
        raise failure


def record_wait(cause: str, seconds: float) -> None:
    """Book seconds of the present call under a cause; see `flatout.events.WAITS`."""
    journey = current_journey(None)
    if journey is not None:
        journey.account.waited(cause, seconds)
