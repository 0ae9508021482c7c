"""Answers the requests of browsers: the page, its news, and its rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

from flatout.errors import FlatoutError
from flatout.look.report.page import page
from flatout.text.halves import to_json

from .feed import Feed
from .guard import refusal
from .listing import Listing, Query

MOST_LISTENERS = 200
"""The most pages that receive what is new. The server asks further ones to come again."""

MOST_WAITING = 32
"""The most questions about rows at once."""

_PLAIN = "text/plain; charset=utf-8"
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Response(Struct, frozen=True):
    """What is answered.

    Attributes:
        status: the HTTP status.
        headers: all headers.
        body: the body.
        events: comes instead of a body, piece by piece.
    """

    status: HTTPStatus
    headers: Mapping[str, str]
    body: bytes = b""
    events: AsyncGenerator[bytes, None] | None = None


class Site:
    """The page of one run.

    Args:
        feed: knows what is new.
        listing: knows the rows.
        port: where the server listens.
    """

    def __init__(self, feed: Feed, listing: Listing, port: int) -> None:
        self._feed = feed
        self._listing = listing
        self._port = port
        self._waiting = 0
        self._asking = asyncio.Lock()

    async def respond(self, method: str, target: str, headers: Mapping[bytes, bytes]) -> Response:
        """Answer one request.

        Args:
            method: its method.
            target: its path and query.
            headers: its headers, by lower-case names.
        """
        path, query = urlsplit(target)[2:4]
        if (refused := refusal(method, path, headers, self._port)) is not None:
            return _said(*refused)
        match path:
            case "/":
                text = await asyncio.to_thread(page, await self._feed.latest())
                return Response(HTTPStatus.OK, _HEADERS | {"content-type": "text/html; charset=utf-8"}, text.encode())
            case "/events":
                return self._news(method)
            case "/rows" | "/row":
                return await self._about_rows(path, dict(parse_qsl(query, max_num_fields=20)))
        return _said(HTTPStatus.NOT_FOUND, "there is only one page here: /")

    def _news(self, method: str) -> Response:
        if self._feed.listeners >= MOST_LISTENERS:
            return _said(HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open")
        headers = _HEADERS | {"content-type": "text/event-stream"}
        return Response(HTTPStatus.OK, headers, events=None if method == "HEAD" else self._events())

    async def _events(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._feed.listen()) as reports:
            async for news in reports:
                yield b"data: " + news + b"\n\n" if news else b":\n\n"

    async def _about_rows(self, path: str, given: dict[str, str]) -> Response:
        """Answer a question about rows. One is looked up at a time."""
        if self._waiting >= MOST_WAITING:
            return _said(HTTPStatus.SERVICE_UNAVAILABLE, "too much is asked at once")
        self._waiting += 1
        try:
            async with self._asking:
                found = await asyncio.to_thread(self._row if path == "/row" else self._rows, given)
        except ValueError as error:
            return _said(HTTPStatus.BAD_REQUEST, str(error))
        except FlatoutError as error:
            return _said(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        finally:
            self._waiting -= 1
        if found is None:
            return _said(HTTPStatus.NOT_FOUND, "nothing is known of this row")
        return Response(HTTPStatus.OK, _HEADERS | {"content-type": "application/json"}, to_json(found))

    def _rows(self, given: dict[str, str]) -> object:
        return self._listing.some(Query.of(given), _number(given, "begin"), _number(given, "most"))

    def _row(self, given: dict[str, str]) -> object:
        return self._listing.one(_number(given, "index"))


def _number(given: dict[str, str], name: str) -> int:
    text = given.get(name, "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise ValueError(f"{name} is a number")
    return int(text)


def _said(status: HTTPStatus, words: str) -> Response:
    return Response(status, _HEADERS | {"content-type": _PLAIN}, f"flatout: {words}\n".encode())
