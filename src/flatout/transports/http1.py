"""One HTTP/1.1 connection: writes a request, and hands the bytes that arrive to its answer.

`Connection` is an asyncio protocol: it owns the socket's transport and the flow of bytes. What the bytes mean is in
`flatout.transports.answer`.

A ProtocolError means that the request may have been sent. What fails before that is a ConnectError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from flatout.errors import ConnectError

from .answer import LARGE, Answer


class Connection(asyncio.Protocol):
    """One connection to a server. It carries one exchange at a time.

    Args:
        on_free: called when it can carry another exchange.
        on_lost: called once, when it was closed by either side.

    Attributes:
        idle_since: the loop time at which its last answer was complete.
        keeps: seconds that the server keeps it open without a request, if it said so; None if it did not.
        used: whether it has carried an exchange.
    """

    __slots__ = (
        *("_answer", "_drained", "_ended", "_loop", "_on_free", "_on_lost", "_sent", "_transport"),
        *("idle_since", "keeps", "used"),
    )

    def __init__(self, on_free: Callable[[Connection], None], on_lost: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_free = on_free
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._drained: asyncio.Future[None] | None = None
        self._sent = True  # the whole request
        self._ended = False  # the server sends no more
        self.idle_since = 0.0
        self.keeps: float | None = None
        self.used = False

    async def ask(self, head: bytes, body: bytes, *, whole: bool) -> Answer:
        """Send a request, and return its answer once its head has arrived. `Answer.end` ends the exchange.

        Args:
            head: the request line and headers, up to and including the empty line.
            body: the request's body.
            whole: whether to wait for the body as well, up to `LARGE` bytes of it.

        Raises:
            ConnectError: the connection was closed before anything was sent.
            ProtocolError: no well-formed answer arrived.
        """
        answer = self._answer = Answer(self, self._loop, whole=whole)
        try:
            if len(body) <= LARGE:
                self._opened().write(head + body)
            else:
                await self._write(head, body, answer)
            await answer.arrived
            answer.check()
        except BaseException:
            self._answer = None
            self.abort()
            raise
        self.used = True
        return answer

    def release(self) -> None:
        """End the exchange. The connection is free for another one, or it is closed."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if answer.reusable and self._is_clear():
            self.idle_since = self._loop.time()
            self.keeps = answer.keeps
            self._on_free(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close the connection now. Whatever was not yet sent is dropped."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_open(self) -> bool:
        """Whether it can carry an exchange, as far as is known here. The server may have closed it unnoticed."""
        return self._transport is not None and not self._ended and not self._transport.is_closing()

    def time(self) -> float:
        """The event loop's clock."""
        return self._loop.time()

    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is closed."""
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        return -1 if sock is None else cast("int", sock.fileno())

    def pause_reading(self) -> None:
        """Stop reading the socket, so that the server stops sending."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read the socket again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _is_clear(self) -> bool:
        """Whether the connection is open, and the whole request has been sent."""
        transport = self._transport
        return self.is_open and self._sent and transport is not None and not transport.get_write_buffer_size()

    def _opened(self) -> asyncio.Transport:
        transport = self._transport
        if transport is None or not self.is_open:
            raise ConnectError("the server closed the connection as soon as it was open")
        return transport

    async def _write(self, head: bytes, body: bytes, answer: Answer) -> None:
        """Write a large request, no faster than the server reads it."""
        transport = self._opened()
        self._sent = False
        transport.write(head)
        rest = memoryview(body)
        while rest and not answer.ends_request:
            transport.write(rest[:LARGE])
            rest = rest[LARGE:]
            if self._drained is not None:
                await self._drained
        self._sent = not rest

    def _unblock_write(self) -> None:
        if self._drained is not None:
            drained, self._drained = self._drained, None
            if not drained.done():
                drained.set_result(None)

    # -- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the answer. Bytes that no request asked for make the connection useless."""
        answer = self._answer
        if answer is None or not answer.feed(data):
            self.abort()
        if self._drained is not None and answer is not None and answer.ends_request:
            self._unblock_write()

    def eof_received(self) -> None:
        """Note that the server sends no more. The rest of a request is not worth sending then."""
        self._ended = True
        if self._answer is not None:
            self._answer.ended()
        self.abort()

    def pause_writing(self) -> None:
        """Hold back the rest of a large request."""
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """Send the rest of a large request."""
        self._unblock_write()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection."""
        self._transport = None
        if self._answer is not None:
            self._answer.lost()
        self._unblock_write()
        self._on_lost(self)
