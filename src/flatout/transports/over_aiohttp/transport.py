"""The HTTP client: one aiohttp session, shared by every target of one Client.

Only this folder imports aiohttp's client. This module sends requests and reads answers. `flatout.transports.pool` has
the connections, `flatout.transports.failures` the errors.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - otherwise the first host look-up would load it from the disk
import io
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache

import aiohttp
from yarl import URL

from flatout.errors import ConnectError, ProtocolError
from flatout.layer import Request, Response, Streamed
from flatout.transports import descriptors
from flatout.transports.failures import redirected
from flatout.transports.http import record_wait
from flatout.transports.room import Room, Share

from .failures import FAILED, named
from .pool import Exchange, Pool, exchange

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

LARGE = 256 * 1024
"""Bytes from which a body is sent or read in chunks. A connection buffers this much of an answer that is not read."""

MAX_LINE = 64 * 1024
"""The most bytes of the status line, or of one header."""

MAX_HEADERS = 1_000
"""The most headers of one answer."""


class AiohttpTransport:
    """Sends requests over shared keep-alive connections. Belongs to the event loop of its first request.

    A request is sent once. The layers above decide whether another attempt is worth its price.

    Args:
        connect_timeout: seconds for a connection to be made, TLS included.
        keepalive: seconds that an idle connection is kept.
        max_body: the most bytes of an answer, after decompression.
        max_held: the most bytes of all answers that are being read. Beyond it, answers wait for each other.
        trust_env: whether to use ``HTTPS_PROXY`` and similar variables.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        keepalive: float = KEEPALIVE,
        max_body: int = MAX_BODY,
        max_held: int = MAX_HELD,
        trust_env: bool = False,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._keepalive = keepalive
        self._max_body = max_body
        self._room = Room(max_held)
        self._trust_env = trust_env
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}
        self._closed = False

    def __repr__(self) -> str:
        connector = self._session.connector if self._session is not None else None
        return f"AiohttpTransport({connector!r})"

    def capacity(self) -> int | None:
        """How many requests can run at once, by the number of files this process may open; None for no bound."""
        return descriptors.free()

    async def send(self, request: Request) -> Response:
        """Send a request and return the complete answer.

        Raises:
            ConnectError: no connection; nothing was sent.
            ProtocolError: no complete, well-formed answer arrived.
        """
        try:
            return await self._exchange(request)
        except FAILED as error:
            failure = named(error, request, trust_env=self._trust_env)
        raise failure  # outside the except: it must not refer to the original error, whose frames hold the key

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[Streamed, None]:
        """Send a request, and yield its answer as soon as the headers arrive.

        Raises:
            ConnectError: no connection; nothing was sent.
            ProtocolError: the answer's start is not well-formed.
        """
        failure = None
        try:
            answer = await self._begin(request)
        except FAILED as error:
            failure = named(error, request, trust_env=self._trust_env)
        if failure is not None:
            raise failure
        began = time.monotonic()
        with self._room.share() as share:
            try:
                yield _StreamedAnswer(request, answer, self._max_body, share)
            finally:
                answer.close()
                record_wait("body", time.monotonic() - began)

    async def close(self) -> None:
        """Close every connection, and refuse further requests."""
        self._closed = True
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _exchange(self, request: Request) -> Response:
        answer = await self._begin(request)
        began = time.monotonic()
        try:
            content = await self._body(answer)
        finally:
            answer.close()  # harmless after a complete read: the connection is back in the pool by then
        record_wait("body", time.monotonic() - began)
        return Response(answer.status, _plain(answer.headers), content)

    async def _begin(self, request: Request) -> aiohttp.ClientResponse:
        """Send the request, and return its answer once the headers have arrived."""
        if self._closed:
            raise ConnectError("the client is closed", should_retry=False)
        session = self._session
        if session is None:
            session = self._session = self._open()
        url = self._urls.get(request.url)
        if url is None:
            url = self._urls[request.url] = URL(request.url)
        timing = Exchange()
        exchange.set(timing)
        began = time.monotonic()
        body: bytes | io.BytesIO = request.body
        if len(request.body) > LARGE:
            body = io.BytesIO(request.body)  # sent in chunks, so that a large prompt does not hold up other calls
        answer = await session.request(request.method, url, data=body, headers=request.headers, allow_redirects=False)
        record_wait("connect", timing.connect_seconds)
        record_wait("first_byte", time.monotonic() - began - timing.connect_seconds)
        if 300 <= answer.status < 400:
            answer.close()
            raise redirected(request, answer.status, answer.headers.get("location", "nowhere"))
        return answer

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        length = answer.content_length
        if length is not None and length <= min(LARGE, self._max_body) and "content-encoding" not in answer.headers:
            return await answer.read()
        with self._room.share() as share:
            return b"".join([chunk async for chunk in _chunks(answer, self._max_body, share)])

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=Pool(connect_timeout=self._connect_timeout, keepalive=self._keepalive),
            timeout=aiohttp.ClientTimeout(),  # none: the pool and the layers above have their own
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent",),
            headers={"Accept-Encoding": "identity"},
            trust_env=self._trust_env,
            read_bufsize=LARGE,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
        )


class _StreamedAnswer:
    """An answer that is still arriving (a `flatout.layer.Streamed`)."""

    def __init__(self, request: Request, answer: aiohttp.ClientResponse, max_body: int, share: Share) -> None:
        self.status = answer.status
        self.headers = _plain(answer.headers)
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
            async for chunk in _chunks(self._answer, self._max_body, self._share):
                yield chunk
        except FAILED as error:
            failure = named(error, self._request)
        else:
            return
        raise failure


async def _chunks(answer: aiohttp.ClientResponse, most: int, share: Share) -> AsyncIterator[bytes]:
    size = 0
    refused = answer.status >= 300
    async for chunk in answer.content.iter_any():
        size += len(chunk)
        if refused and size > MAX_REFUSAL:
            yield chunk[: len(chunk) - (size - MAX_REFUSAL)]
            return
        if size > most:
            raise ProtocolError(f"the answer is larger than {most:,} bytes", should_retry=False)
        yield chunk
        if not share.add(len(chunk)):
            await share.turn()


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers under lower-case names, as a plain dict. Of headers with the same name it keeps the first.

    A reply keeps the headers. The garbage collector need not scan a plain dict of strings, unlike aiohttp's type.
    """
    plain: dict[str, str] = {}
    for name, value in headers.items():
        plain.setdefault(_lower(name), value)
    return plain


@lru_cache(maxsize=1024)
def _lower(name: str) -> str:
    """The lower-case name, as one string shared by all answers."""
    return name.lower()
