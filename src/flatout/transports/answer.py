"""One HTTP/1.1 answer on its way in: llhttp takes the bytes apart, and the answer keeps them.

A small answer is gathered whole before anybody is woken. A large or streamed one is read piece by piece, and the socket
is not read while nobody reads the pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import httptools

from flatout.errors import ProtocolError
from flatout.policies.failures.decision import CONNECTION_LOST

LARGE = 256 * 1024
"""Bytes from which a body is sent or read in pieces."""

AHEAD = 64 * 1024
"""Bytes of a body that is read in pieces after which the socket is not read until somebody has taken them."""

MAX_HEAD = 64 * 1024
"""The most bytes of an answer's head, interim answers (1xx) included. Also the most that follow the head without a byte
of the body."""

MAX_HEADERS = 1_000
"""The most headers of one answer, under different names."""

_READ_TOGETHER = frozenset({"content-encoding", "transfer-encoding"})
"""Headers that say how to read the body. Given twice, both count (RFC 9110, section 5.3)."""

_DIGITS = len(str(LARGE))

_MOST_NAMES = 1_024
"""Header names that are remembered in lower case."""

_names: dict[bytes, str] = {}

Sink = Callable[[bytes], bool]
"""Takes the pieces of a body. It returns False if it wants no more for now."""


class Source(Protocol):
    """The connection that an answer comes over."""

    def pause_reading(self) -> None:
        """Read no more, so that the server stops sending."""
        ...

    def resume_reading(self) -> None:
        """Read again."""
        ...

    def release(self) -> None:
        """End the exchange."""
        ...


class Answer:
    """One answer on its way in.

    Attributes:
        status: the HTTP status; 0 until the head has arrived.
        headers: by lower-case names; of headers with the same name, the first. `_READ_TOGETHER` names the exceptions.
        arrived: done once the head has arrived, and if the answer is wanted whole also its body, up to `LARGE` bytes;
            or once it has failed.
        headed_at: the loop time at which the head arrived.
        complete: whether the whole answer has arrived.
        reusable: whether the connection can carry another exchange after this one.
    """

    __slots__ = (
        *(
            "_bare",
            "_chunks",
            "_connection",
            "_error",
            "_framed",
            "_held",
            "_loop",
            "_parser",
            "_paused",
            "_sink",
        ),
        *("_wake", "_whole", "arrived", "complete", "headed_at", "headers", "reusable", "status"),
    )

    def __init__(self, connection: Source, loop: asyncio.AbstractEventLoop, *, whole: bool) -> None:
        self._connection = connection
        self._loop = loop
        self._whole = whole
        self._parser: httptools.HttpResponseParser | None = None  # from the first byte on: most time passes before that
        self._chunks: list[bytes] = []
        self._held = 0  # bytes in _chunks
        self._bare = 0  # bytes that have arrived before the head was complete, and then since the last of the body
        self._framed = False  # whether the head says where the body ends; otherwise the connection's end is its end
        self._paused = False
        self._error: Exception | None = None
        self._wake: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self.arrived: asyncio.Future[None] = loop.create_future()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.headed_at = 0.0
        self.complete = False
        self.reusable = False

    @property
    def ends_request(self) -> bool:
        """Whether the rest of the request need not be sent: the server refuses it, or has answered all the same."""
        return self.complete or self._error is not None or self.status >= 300

    def check(self) -> None:
        """Check that nothing has gone wrong so far.

        Raises:
            ProtocolError: the answer broke off, or is not valid HTTP.
        """
        if self._error is not None:
            raise self._error

    @property
    def keeps(self) -> float | None:
        """Seconds that the server keeps the connection open, by its ``Keep-Alive`` header; None if it does not say."""
        said = self.headers.get("keep-alive")
        if said is None:
            return None
        seconds = said.lower().partition("timeout=")[2].partition(",")[0].strip()
        return float(seconds) if seconds.isdecimal() else None

    def body(self) -> bytes:
        """The body of a complete answer."""
        chunks = self._chunks
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def is_whole(self, most: int) -> bool:
        """Whether the body has arrived, is not compressed, and has no more than some bytes."""
        return self.complete and self._held <= most and not self.is_packed

    def is_read(self) -> bool:
        """Whether the whole body has arrived, and was read."""
        return self.complete and not self._chunks

    def _is_large(self) -> bool:
        length = self.headers.get("content-length", "")
        return len(length) > _DIGITS or (len(length) == _DIGITS and int(length) > LARGE)

    @property
    def is_packed(self) -> bool:
        """Whether the body is compressed."""
        return "content-encoding" in self.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. While nobody asks for the next piece, the socket is not read for long.

        Raises:
            ProtocolError: the answer broke off, or is not valid HTTP.
        """
        while True:
            if self._chunks:
                yield self._take()
            elif self._error is not None:
                raise self._error
            elif self.complete:
                return
            else:
                self._resume()  # a `pour` may have paused it
                self._wake = self._loop.create_future()
                await self._wake

    async def pour(self, sink: Sink) -> None:
        """Hand each piece of the body to a function as it arrives, until the body ends or the function returns False.
        What arrives after that waits for another `pour`, or for `chunks`.

        The function is called from the event loop, while this task sleeps. To wake a task for each piece costs as much
        as to decode it.

        Raises:
            ProtocolError: the answer broke off, or is not valid HTTP.
            Exception: whatever the function raised.
        """
        if self._chunks and not sink(self._take()):
            return
        self._resume()
        self._sink = sink
        while not self._is_poured():
            self._wake = self._loop.create_future()
            await self._wake
        self._sink = None
        if self._error is not None:
            raise self._error

    def feed(self, data: bytes) -> bool:
        """Take bytes apart. Returns False if the connection must not be used any longer."""
        if self.complete or self._error is not None:
            self.reusable = False
            return False
        room = MAX_HEAD - self._bare
        if self.status < 200 and len(data) > room:
            self._parse(data[:room])
            data = data[room:]
            if self.status < 200 and self._error is None:
                self._fail(_too_large("head"))
        if self._error is None:
            self._parse(data)
        return self._is_sound()

    def seconds_since_head(self) -> float:
        """Seconds since the head arrived."""
        return self._loop.time() - self.headed_at

    def end(self) -> None:
        """End the exchange. Whatever of the answer has not arrived is not wanted."""
        self._parser = None  # it refers to this answer: the garbage collector need not look for such circles
        self._resume()
        self._connection.release()

    def ended(self) -> None:
        """Note that the server sends no more."""
        if self.status >= 200 and not self._framed and self._error is None:
            self.on_message_complete()
            self.reusable = False
        else:
            self.lost()

    def lost(self) -> None:
        """Note that the connection is gone."""
        if self.complete or self._error is not None:
            return
        text = "the answer was cut off" if self.status else "the server closed the connection without an answer"
        self._fail(ProtocolError(text, code=CONNECTION_LOST))

    def _parse(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpResponseParser(self)
        self._bare += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._invalid(error)
        if self._bare > MAX_HEAD and not self.complete and self._error is None:
            self._fail(_too_large("trailer"))

    def _take(self) -> bytes:
        data = self.body()
        self._chunks = []
        self._held = 0
        self._resume()
        return data

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._connection.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._connection.resume_reading()

    def _is_poured(self) -> bool:
        return self._sink is None or self.complete or self._error is not None

    def _pour(self, sink: Sink, data: bytes) -> None:
        try:
            if sink(data):
                return
        except Exception as error:
            self._error = error
        self._sink = None
        self._wake_reader()
        if self._error is not None:
            raise _StopParsing
        self._pause()

    def _is_sound(self) -> bool:
        """Whether what has arrived leaves the connection usable."""
        return self._error is None and (self.reusable or not self.complete)

    def _invalid(self, error: Exception) -> None:
        if self.complete:  # more bytes than the answer has: the answer stands, the connection is useless
            self.reusable = False
        elif self._error is None:
            self._fail(ProtocolError(f"the answer is not valid HTTP: {error}"))

    def _fail(self, error: ProtocolError) -> None:
        self._error = error
        self._arrive()
        self._wake_reader()

    def _wake_reader(self) -> None:
        if self._wake is not None:
            wake, self._wake = self._wake, None
            if not wake.done():
                wake.set_result(None)

    def _arrive(self) -> None:
        if not self.arrived.done():
            self.arrived.set_result(None)

    # -- called by llhttp. An exception stops it.

    def on_message_begin(self) -> None:
        """Begin an answer; the one after an interim answer (1xx) takes its place."""
        if self.complete:
            raise _StopParsing

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. Those behind the body are not kept."""
        headers = self.headers
        if self.status >= 200:
            return
        key = _names.get(name) or _lower(name)
        text = value.decode("utf-8", "surrogateescape").strip(" \t")
        if key not in headers:
            headers[key] = text
        elif key in _READ_TOGETHER:
            headers[key] += f", {text}"
        if len(headers) > MAX_HEADERS:
            self._fail(_too_large("head"))
            raise _StopParsing

    def on_headers_complete(self) -> None:
        """Note the status, and how the body ends."""
        status = self._parser.get_status_code()  # type: ignore[union-attr]  # it is the parser that calls
        headers = self.headers
        if status < 200:
            if status == 101 or status < 100:
                why = "it switches to another protocol" if status == 101 else f"there is no status {status}"
                self._fail(ProtocolError(f"the answer is not valid HTTP: {why}"))
                raise _StopParsing
            headers.clear()
            return
        self.status = status
        self._bare = 0
        self.headed_at = self._loop.time()
        coding = headers.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            self._fail(ProtocolError("the answer is not valid HTTP: its transfer coding was not asked for"))
            raise _StopParsing
        self._framed = coding is not None or "content-length" in headers or status in {204, 304}
        if not self._whole or self.is_packed or self._is_large():
            self._whole = False
            self._arrive()

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body, or hand it on."""
        self._bare = 0
        if self._sink is not None:
            self._pour(self._sink, data)
            return
        self._chunks.append(data)
        self._held += len(data)
        if self._held > (LARGE if self._whole else AHEAD):
            self._whole = False
            self._arrive()
            self._pause()
        if self._wake is not None:
            self._wake_reader()

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if self.status < 200:
            return
        self.complete = True
        parser = self._parser
        self.reusable = parser is not None and parser.should_keep_alive()
        self._arrive()
        self._wake_reader()


class _StopParsing(Exception):
    """Stops llhttp. The reason is in the answer."""


def _too_large(part: str) -> ProtocolError:
    return ProtocolError(f"the answer is not valid HTTP: its {part} is too large")


def _lower(name: bytes) -> str:
    """A header's name in lower case, as one string that all answers share."""
    lower = name.decode("latin-1").lower()
    if len(_names) < _MOST_NAMES:
        _names[name] = lower
    return lower
