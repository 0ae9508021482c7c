"""The server of a live page: it listens on this machine only, and holds what clients can cost within bounds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from flatout.http_server.requests import Request
from flatout.http_server.server import Answer, HttpServer

from .feed import Feed
from .guard import user_of
from .listing import Listing
from .live import LiveRun
from .site import Response, Site

HOST = "127.0.0.1"
KEEPALIVE = 20.0  # seconds
GRACE = 0.2  # seconds that open requests get at the end
MOST_CONNECTIONS = 500

PATIENCE = 20.0
"""Seconds for which a client may not read what it is sent."""

_PIECE = 256 * 1024
_ROOT = 0


@asynccontextmanager
async def served(run: LiveRun, port: int = 0) -> AsyncIterator[str]:
    """Serve the page of a run; gives its address.

    Args:
        run: the run.
        port: the port; 0 for any free one.

    Raises:
        OSError: the port is taken.
    """
    desk = _Desk(Feed(run), Listing(lambda: run.place))
    server = HttpServer(desk, KEEPALIVE, max_body=0, most=MOST_CONNECTIONS)
    port = await server.listen(HOST, port)
    desk.open(port)
    looks = asyncio.create_task(desk.feed.run())
    try:
        yield f"http://{HOST}:{port}/"
    finally:
        looks.cancel()
        await server.close(GRACE)
        await asyncio.gather(looks, return_exceptions=True)


class _Desk:
    """Takes requests from the server to the site, and answers back."""

    def __init__(self, feed: Feed, listing: Listing) -> None:
        self.feed = feed
        self._listing = listing
        self._port = 0
        self._site = Site(feed, listing, 0)

    def open(self, port: int) -> None:
        """Learn the port before the first request comes."""
        self._port = port
        self._site = Site(self.feed, self._listing, port)

    async def __call__(self, request: Request, answer: Answer) -> None:
        """Answer a request."""
        if not await self._is_of_this_user(answer):
            answer.abort()
            return
        response = await self._site.respond(request.method, request.target, request.headers)
        try:
            await _send(answer, response)
        except TimeoutError:
            answer.abort()

    async def _is_of_this_user(self, answer: Answer) -> bool:
        user = await asyncio.to_thread(user_of, answer.peer, self._port) if answer.peer is not None else None
        return user is None or user in (_ROOT, os.geteuid())


async def _send(answer: Answer, response: Response) -> None:
    """Send an answer, as fast as the client reads, but not more slowly than it must."""
    if response.events is None:
        answer.begin(response.status, response.headers, length=len(response.body))
        for at in range(0, len(response.body), _PIECE):
            async with asyncio.timeout(PATIENCE):
                await answer.write(response.body[at : at + _PIECE])
        return
    answer.begin(response.status, response.headers)
    async with aclosing(response.events) as events:
        async for event in events:
            async with asyncio.timeout(PATIENCE):
                await answer.write(event)
