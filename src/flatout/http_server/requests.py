"""The requests in the bytes of an HTTP/1.1 connection. llhttp, through httptools, takes the bytes apart.

A request is gathered whole before anybody sees it, apart from the bodies that a handler reads as they come. So all that
a client can make the server hold is bounded here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from urllib.parse import unquote

import httptools

from .incoming import Incoming

MAX_HEAD = 64 * 1024
"""The most bytes of a request's head, and of what may stand between two pieces of a chunked body."""

MAX_BODY = 256 * 1024 * 1024
"""The most bytes of a request's body: a batch of Anthropic's may have as many."""

_LARGE_HEAD = f"the request's head is larger than {MAX_HEAD:,} bytes"
_WISHES = frozenset({b"connection", b"upgrade"})
_VERSIONS = frozenset({"1.0", "1.1"})


class Request:
    """A request that has arrived whole, or whose body its handler reads as it comes.

    Attributes:
        method: such as ``POST``.
        path: the path, without a query, its percent signs decoded.
        headers: by lower-case names; of headers with the same name, the first.
        body: the body; empty if it comes as ``incoming``.
        incoming: the body that is read as it comes; None if it has arrived.
        version: ``1.0`` or ``1.1``.
        keeps: whether the client lets the connection be used again.
    """

    __slots__ = ("_url", "body", "headers", "incoming", "keeps", "method", "path", "version")

    def __init__(
        self, method: str, path: str, headers: dict[bytes, bytes], version: str, *, keeps: bool, url: bytes = b""
    ) -> None:
        self.method = method
        self.path = path
        self._url = url
        self.headers = headers
        self.version = version
        self.body = b""
        self.incoming: Incoming | None = None
        self.keeps = keeps

    @property
    def target(self) -> str:
        """The path and the query, as they were sent."""
        whole = self._url.decode("utf-8", "surrogateescape")
        return whole if whole.startswith("/") else f"/{whole.partition('://')[2].partition('/')[2]}"

    @property
    def is_whole(self) -> bool:
        """Whether all of the body has come."""
        return self.incoming is None or self.incoming.whole

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body in pieces, as they come. Iterate once.

        Raises:
            Refusal: the rest of it will not come.
        """
        if self.incoming is None:
            yield self.body
            return
        async for piece in self.incoming.pieces():
            yield piece

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path}, {len(self.body):,} bytes)"


class Refusal(Exception):
    """The bytes are not a request that the server takes.

    Attributes:
        status: the HTTP status that says so.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class RequestReader:
    """Finds the requests in the bytes of one connection.

    Args:
        most: the most bytes of a request's body.
        streamed: says of a request's head how many bytes its body may have that is then read as it comes; 0 for a
            body that is gathered whole.

    Attributes:
        incoming: the body that is read as it comes, while it does; else None.
        expects: whether the client waits for ``100 Continue`` before it sends the body of a request.
        refusal: why no further byte is read; None as long as requests may come.
    """

    __slots__ = (
        *("_body", "_found", "_headers", "_last", "_most", "_parser", "_quiet", "_request", "_size", "_streamed"),
        *("_url", "expects", "incoming", "refusal"),
    )

    def __init__(self, most: int = MAX_BODY, streamed: Callable[[Request], int] | None = None) -> None:
        self._most = most
        self._streamed = streamed
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._found: list[Request] = []
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._request: Request | None = None
        self._body = bytearray()  # a list of its pieces would be larger than a body in chunks of a byte
        self._size = 0  # bytes of the head
        self._quiet = 0  # bytes since the request began, or since the last piece of its body
        self._last = False  # whether the client lets the connection be used no longer
        self.incoming: Incoming | None = None
        self.expects = False
        self.refusal: Refusal | None = None

    def feed(self, data: bytes) -> list[Request]:
        """Take bytes, and return the requests that they complete. What comes after a refusal or the last request is not
        looked at.
        """
        if self._last or self.refusal is not None:
            return []
        self._quiet += len(data)
        while data and self._parser is not None and not self._last:
            data = self._feed(self._parser, data)
        if self._quiet > MAX_HEAD and self.refusal is None:
            self.refuse(431, _LARGE_HEAD)
        found, self._found = self._found, []
        return found

    def refuse(self, status: int, why: str) -> Refusal:
        """Read no further byte, and let go of what was read. Returns the reason: the first one."""
        self._body = bytearray()
        self.refusal = self.refusal or Refusal(status, why)
        if self.incoming is not None:
            self.incoming.fail(self.refusal)
            self.incoming = None
        return self.refusal

    def close(self) -> None:
        """Let go of the parser. It refers to this reader, and the garbage collector need not look for such circles."""
        self._parser = None

    def _feed(self, parser: httptools.HttpRequestParser, data: bytes) -> bytes:
        """Take bytes. Returns those that are still to be taken."""
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as end:
            self._parser = httptools.HttpRequestParser(self)
            return self._plain_head() + data[end.args[0] :]
        except httptools.HttpParserError as error:
            if self.refusal is None and not self._last:
                self.refuse(400, f"not a request of HTTP/1.1: {error}")
        return b""

    def _plain_head(self) -> bytes:
        """The head of the request that has begun, without its wish for another protocol. Java's client sends one with
        every first request (``Upgrade: h2c``). httptools ends such a request at its head; but the wish may be ignored.
        """
        request = self._request
        assert request is not None, "it is a request's head that has a wish"
        lines = [request.method.encode() + b" " + self._url + b" HTTP/" + request.version.encode()]
        lines += [name + b": " + value for name, value in request.headers.items() if name not in _WISHES]
        if not request.keeps:
            lines.append(b"connection: close")
        return b"\r\n".join([*lines, b"", b""])

    # -- called by llhttp. An exception stops it.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url = b""
        self._headers = {}
        self._size = self._quiet = 0
        self._request = None

    def on_url(self, url: bytes) -> None:
        """Keep a piece of the request's target."""
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. Those behind the body are not kept."""
        if self._request is not None:
            return
        lower = name.lower()
        if lower == b"host" and lower in self._headers:
            raise self.refuse(400, "a request has one Host header")
        self._headers.setdefault(lower, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Look whether the body can be taken."""
        parser, headers = self._parser, self._headers
        assert parser is not None, "it is the parser that calls"
        method, version = parser.get_method().decode("ascii"), parser.get_http_version()
        if method == "CONNECT":
            raise self.refuse(405, "this is no proxy")
        if version not in _VERSIONS:
            raise self.refuse(505, f"HTTP/{version} is not spoken here")
        if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise self.refuse(501, "no transfer coding but chunked is known here")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise self.refuse(415, "compressed requests are not taken")
        if headers.get(b"expect", b"100-continue").lower() != b"100-continue":
            raise self.refuse(417, "nothing can be expected here but 100-continue")
        request = self._request = Request(
            method, _path(self._url), headers, version, keeps=parser.should_keep_alive(), url=self._url
        )
        allowed = self._streamed(request) if self._streamed is not None else 0
        self._check_size(int(headers.get(b"content-length", 0)), allowed or self._most)
        self._quiet = 0
        self.expects = b"expect" in headers and version == "1.1"  # RFC 9110, 10.1.1: of HTTP/1.0 it means nothing

        if allowed and not parser.should_upgrade():
            self.incoming = request.incoming = Incoming(allowed)
            self._found.append(request)

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self._quiet = 0
        if self.incoming is None:
            self._body += data
            self._check_size(len(self._body), self._most)
        else:
            self._check_size(self.incoming.come + len(data), self.incoming.most)
            self.incoming.add(data)

    def on_message_complete(self) -> None:
        """Keep the request."""
        request, parser = self._request, self._parser
        assert request is not None, "a request's head comes before its end"
        assert parser is not None, "it is the parser that calls"
        if parser.should_upgrade():
            return
        if self.incoming is None:
            request.body = bytes(self._body)
            self._body = bytearray()
            self._found.append(request)
        else:
            self.incoming.end()
            self.incoming = None
        self._request = None
        self._quiet = 0
        self._last = not request.keeps
        self.expects = False

    def _count(self, more: int) -> None:
        self._size += more
        if self._size > MAX_HEAD:
            raise self.refuse(431, _LARGE_HEAD)

    def _check_size(self, size: int, most: int) -> None:
        if size > most:
            raise self.refuse(413, f"the request's body is larger than {most:,} bytes")


@lru_cache(maxsize=256)
def _path(url: bytes) -> str:
    """The path of a request's target."""
    try:
        path = httptools.parse_url(url).path or b"/"
    except httptools.HttpParserInvalidURLError:
        path = url
    return unquote(path.decode("utf-8", "surrogateescape"))
