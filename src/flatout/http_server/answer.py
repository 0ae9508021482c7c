"""The answer to one request of a connection."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from .requests import Request

if TYPE_CHECKING:
    from .server import Connection

JSON = {"content-type": "application/json"}

_NOTHING: Mapping[str, str] = {}


class Answer:
    """The answer to one request: `send` it whole, or `begin` it and `write` its pieces.

    Attributes:
        keeps: whether the connection can carry another request after it.
    """

    __slots__ = ("_begun", "_bodiless", "_chunked", "_connection", "_left", "_request", "keeps")

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._request = request
        self._bodiless = request.method == "HEAD"
        self._begun = False
        self._chunked = False
        self._left = 0  # bytes of the body that the head promises and nobody has written
        self.keeps = request.keeps

    @property
    def peer(self) -> tuple[str, int] | None:
        """The client's address and port; None if it is gone."""
        return self._connection.peer

    def send(self, status: int, headers: Mapping[str, str] = _NOTHING, body: bytes = b"") -> None:
        """Send a whole answer."""
        head = self._head(status, headers, len(body))
        self._left = 0
        self._connection.write(head if self._bodiless else head + body)

    def begin(self, status: int, headers: Mapping[str, str] = _NOTHING, *, length: int | None = None) -> None:
        """Send the head of an answer.

        Args:
            status: the HTTP status.
            headers: the headers.
            length: the bytes of the body. If others are written, the connection is closed after them, as if the server
                had died. None if nobody knows it: the body is chunked.
        """
        self._connection.write(self._head(status, headers, length))

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body, and wait while the client does not read."""
        if piece and not self._bodiless:
            self._left -= len(piece)
            self._connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)
        await self._connection.drained()

    def abort(self) -> None:
        """Close the connection without a further byte."""
        self._begun = True
        self.keeps = False
        self._connection.abort()

    def break_off(self) -> None:
        """Close the connection after what has been written: the client sees that the rest is missing."""
        self.keeps = self._chunked = False
        self._left = 0

    def end(self) -> None:
        """End the answer. A handler that has sent none has failed."""
        if not self._begun:
            self.keeps = False
            self.send(500, JSON, error_body("the server failed"))
        elif self._chunked:
            self._connection.write(b"0\r\n\r\n")
        elif self._left:
            self.keeps = False

    def fail(self) -> None:
        """End the answer of a handler that raised."""
        self.keeps = False
        if not self._begun:
            self.end()

    def _head(self, status: int, headers: Mapping[str, str], length: int | None) -> bytes:
        self._begun = True
        self.keeps = self.keeps and self._request.is_whole and not self._connection.leaves
        lines = [_status_line(status), f"date: {_date(int(time.time()))}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        lines += self._framing(status, length)
        if not self.keeps:
            lines.append("connection: close\r\n")
        elif self._request.version == "1.0":
            lines.append("connection: keep-alive\r\n")
        lines.append("\r\n")
        return "".join(lines).encode("utf-8", "surrogateescape")

    def _framing(self, status: int, length: int | None) -> Sequence[str]:
        """Say how the body ends."""
        if status == HTTPStatus.NO_CONTENT:
            self._bodiless = True
            return ()
        if length is not None:
            self._left = 0 if self._bodiless else length
            return (f"content-length: {length}\r\n",)
        if self._request.version == "1.0":  # the end of the connection is the end of the body
            self.keeps = False
            return ()
        self._chunked = not self._bodiless
        return ("transfer-encoding: chunked\r\n",)


def error_body(message: str) -> bytes:
    """An answer's body that reports a failure."""
    return msgspec.json.encode({"error": {"message": message}})


@lru_cache(maxsize=64)
def _status_line(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:  # such as 529
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\nserver: flatout\r\n"


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
