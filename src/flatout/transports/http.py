"""The HTTP client: one aiohttp session, shared by every target of one Client.

The only file that imports aiohttp's client. Admission is flatout's own, so the pool has no limit; what is bounded
here is the number of connections being opened at one moment (a TLS handshake costs about a millisecond of CPU, and
thousands at once starve everything else), the size of an answer, and the age of an idle connection.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import aiohttp
from yarl import URL

from flatout.closing import close_all
from flatout.errors import CallError, ConnectError, ProtocolError
from flatout.layer import Request, Response, Streamed, journey

CONNECT_TIMEOUT = 10.0
KEEPALIVE = 4.0  # below the 5 s of common servers (Node, uvicorn): an idle connection is ours to close, not theirs
CONNECTING = 64
MAX_BODY = 64 * 1024 * 1024
LARGE = 256 * 1024
STALE_WITHIN = 2.0  # a connection that the server closed while idle shows itself within a round trip


class _Exchange:
    """What the connector tells of one request: whether it opened a connection for it, and how long that took."""

    __slots__ = ("connect_seconds", "opened")

    def __init__(self) -> None:
        self.opened = False
        self.connect_seconds = 0.0


_exchange: ContextVar[_Exchange] = ContextVar("flatout_exchange")


class _Connector(aiohttp.TCPConnector):
    """A pool that opens a bounded number of connections to a host at a time, and tells the request that waits for one.

    aiohttp's own tracing could tell the same, at 40 µs a request.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(limit=0, ttl_dns_cache=60, **options)
        self._opening: dict[tuple[str | None, int | None], asyncio.Semaphore] = {}

    async def _create_connection(self, req: aiohttp.ClientRequest, *args: Any, **kwargs: Any) -> Any:
        exchange = _exchange.get()
        exchange.opened = True
        # A gate for each host: one that does not answer must not hold up the others.
        host = (req.url.host, req.url.port)
        gate = self._opening.get(host) or self._opening.setdefault(host, asyncio.Semaphore(CONNECTING))
        started = time.monotonic()
        async with gate:
            connection = await super()._create_connection(req, *args, **kwargs)
        exchange.connect_seconds = time.monotonic() - started
        return connection


class HttpTransport:
    """Sends requests over shared keep-alive connections. Belongs to the event loop of its first request.

    Args:
        connect_timeout: seconds for a connection to be made, TLS included.
        keepalive: seconds that an idle connection is kept.
        max_body: the most bytes of an answer, after decompression.
        trust_env: whether ``HTTPS_PROXY`` and its like are obeyed.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        keepalive: float = KEEPALIVE,
        max_body: int = MAX_BODY,
        trust_env: bool = False,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._keepalive = keepalive
        self._max_body = max_body
        self._trust_env = trust_env
        self._shared: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}
        self._closed = False

    def __repr__(self) -> str:
        connector = self._shared.connector if self._shared is not None else None
        return f"HttpTransport({connector!r})"

    async def send(self, request: Request) -> Response:
        """Exchange one request for a whole response.

        A request that met a connection which the server had closed while it was idle is sent once more, on a fresh
        connection: not a byte of an answer had arrived, and the pool, not the provider, was at fault.

        Raises:
            ConnectError: no connection; nothing was sent.
            ProtocolError: no whole, well-formed answer.
        """
        answer, headed = await self._headed(request)
        try:
            content = await self._body(answer)
        except _FAILED as error:
            raise _translate(error) from None
        finally:
            answer.close()  # harmless when the body was read to its end: the connection is back in the pool by then
        _waited("body", time.monotonic() - headed)
        return Response(answer.status, _plain(answer.headers), content)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[Streamed, None]:
        """Send a request, and give its answer as soon as its headers are there.

        A connection that the server had closed while it was idle is made up for as in `send`.

        Raises:
            ConnectError: no connection; nothing was sent.
            ProtocolError: no well-formed beginning of an answer.
        """
        answer, headed = await self._headed(request)
        try:
            yield _Answer(answer, self._max_body)
        finally:
            answer.close()
            _waited("body", time.monotonic() - headed)

    async def close(self) -> None:
        """Close every connection, and take no more requests."""
        self._closed = True
        sessions = [session for session in (self._shared, self._fresh) if session is not None]
        self._shared = self._fresh = None
        await close_all(*(session.close for session in sessions))

    async def _headed(self, request: Request) -> tuple[aiohttp.ClientResponse, float]:
        """The answer as of its headers, and when these were there; on a fresh connection where the pool's was stale."""
        if self._closed:
            raise ConnectError("the client is closed", should_retry=False)
        if self._shared is None:
            self._shared = self._session(force_close=False)
        exchange = _Exchange()
        started = time.monotonic()
        try:
            return await self._begin(self._shared, request, exchange)
        except _CLOSED as error:
            if exchange.opened or time.monotonic() - started > STALE_WITHIN or self._closed:
                raise _translate(error) from None
        except _FAILED as error:
            raise _translate(error) from None
        if self._fresh is None:
            self._fresh = self._session(force_close=True)
        try:
            return await self._begin(self._fresh, request, _Exchange())
        except _FAILED as error:
            raise _translate(error) from None

    async def _begin(
        self, session: aiohttp.ClientSession, request: Request, exchange: _Exchange
    ) -> tuple[aiohttp.ClientResponse, float]:
        url = self._urls.get(request.url)
        if url is None:
            url = self._urls[request.url] = URL(request.url)
        _exchange.set(exchange)
        began = time.monotonic()
        body: bytes | io.BytesIO = request.body
        if len(request.body) > LARGE:
            body = io.BytesIO(request.body)  # written in pieces, so that a large prompt does not hold up other calls
        answer = await session.request(request.method, url, data=body, headers=request.headers, allow_redirects=False)
        headed = time.monotonic()
        _waited("connect", exchange.connect_seconds)
        _waited("first_byte", headed - began - exchange.connect_seconds)
        if 300 <= answer.status < 400:
            answer.close()
            where = answer.headers.get("location", "nowhere").split("?")[0][:200]
            raise ProtocolError(
                f"the server answered with a redirect to {where}; redirects are not followed: give that as base URL",
                status=answer.status,
                should_retry=False,
            )
        return answer, headed

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        length = answer.content_length
        if length is not None and length <= self._max_body and "content-encoding" not in answer.headers:
            return await answer.read()
        return b"".join([chunk async for chunk in _chunks(answer, self._max_body)])

    def _session(self, *, force_close: bool) -> aiohttp.ClientSession:
        keep: dict[str, Any] = {"force_close": True} if force_close else {"keepalive_timeout": self._keepalive}
        return aiohttp.ClientSession(
            connector=_Connector(**keep),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent",),
            headers={"Accept-Encoding": "identity"},
            trust_env=self._trust_env,
        )


class _Answer:
    """An answer on its way in (a `flatout.layer.Streamed`)."""

    def __init__(self, answer: aiohttp.ClientResponse, max_body: int) -> None:
        self.status = answer.status
        self.headers = _plain(answer.headers)
        self._answer = answer
        self._max_body = max_body

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they come.

        Raises:
            ProtocolError: the answer broke off, or is larger than any answer.
        """
        try:
            async for chunk in _chunks(self._answer, self._max_body):
                yield chunk
        except _FAILED as error:
            raise _translate(error) from None


async def _chunks(answer: aiohttp.ClientResponse, max_body: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in answer.content.iter_any():
        size += len(chunk)
        if size > max_body:
            raise ProtocolError(f"the answer is larger than {max_body:,} bytes", should_retry=False)
        yield chunk


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers under lower-case names, of several alike the first. A reply keeps them, and a plain dict of texts is
    nothing that the garbage collector need look at, unlike aiohttp's.
    """
    plain: dict[str, str] = {}
    for name, value in headers.items():
        plain.setdefault(_lower(name), value)
    return plain


@lru_cache(maxsize=1024)
def _lower(name: str) -> str:
    """One copy of each name for all answers."""
    return name.lower()


def _waited(cause: str, seconds: float) -> None:
    trip = journey(None)
    if trip is not None:
        trip.waited(cause, seconds)


_CLOSED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientConnectionResetError)
_FAILED = (aiohttp.ClientError, OSError, ValueError)


def _translate(error: Exception) -> CallError:
    """The named error for one of the HTTP client's. Every aiohttp error has one; a test holds us to it.

    Raise it ``from None``: the frames of aiohttp's own error hold the request's headers, and so the key.
    """
    if isinstance(error, CallError):
        return error
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ConnectError(f"the host {error.host} is not known: {_reason(error)}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return ConnectError(f"no connection to {error.host}:{error.port}: {_reason(error)}")
    if isinstance(error, aiohttp.ClientConnectionResetError | aiohttp.ServerDisconnectedError):
        return ProtocolError("the server closed the connection without an answer")
    if isinstance(error, aiohttp.ServerTimeoutError):
        return ConnectError("no connection within the connect timeout")
    if isinstance(error, aiohttp.NonHttpUrlClientError | ValueError):  # InvalidURL is a ValueError
        return ConnectError(f"no usable URL: {_reason(error)}", should_retry=False)
    if isinstance(error, aiohttp.ClientPayloadError):
        return ProtocolError("the answer was cut off")
    if isinstance(error, aiohttp.ClientResponseError):
        return ProtocolError(f"the answer is not valid HTTP: {' '.join(error.message.split())[:200]}")
    return ProtocolError(f"the connection failed: {_reason(error)}")


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)[:200] or type(error).__name__
    if "Connect call failed" in text and isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()  # asyncio's text is the address once more, and not the reason
    return text
