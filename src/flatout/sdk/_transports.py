"""The transports beneath httpx's clients, in place of its own: one for event loops, one for threads.

A package's clients ask little of a transport, but want its bodies to be of their own class.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any, Self

from flatout.errors import CallError
from flatout.layer import Response

from ._door import Door, Stream
from ._failures import in_its_words
from ._home import Home


class AsyncTransport:
    """Hands requests to the flatout client of the same event loop (an ``AsyncBaseTransport``).

    Args:
        door: where they come in.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._body: Any = type("Body", (AsyncBody, door.package.AsyncByteStream), {})

    async def handle_async_request(self, request: Any) -> Any:
        """Answer a request."""
        await request.aread()
        answer = await self._door.ask(request)
        if isinstance(answer, Response):
            return self._door.response(answer, content=answer.body)
        return self._door.response(answer, stream=self._body(answer, self._door.package))

    async def aclose(self) -> None:
        """Close nothing: the flatout client has other users."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncBody:
    """A body as it arrives."""

    def __init__(self, stream: Stream, package: Any) -> None:
        self._stream = stream
        self._package = package

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in self._stream.pieces():
                yield piece
        except CallError as error:
            failure = error
        else:
            return
        raise in_its_words(failure, self._package)

    async def aclose(self) -> None:
        """End the exchange, if it has not ended."""
        await self._stream.__aexit__()


class Transport:
    """Hands requests of any thread to the flatout client, in the loop where that is at home (a ``BaseTransport``).

    Args:
        door: where they come in.
        home: the flatout client's event loop.
    """

    def __init__(self, door: Door, home: Home) -> None:
        self._door = door
        self._home = home
        self._body: Any = type("Body", (Body, door.package.SyncByteStream), {})
        home.enter()

    def handle_request(self, request: Any) -> Any:
        """Answer a request."""
        request.read()
        answer = self._home.wait(partial(self._ask, request))
        if isinstance(answer, Response):
            return self._door.response(answer, content=answer.body)
        return self._door.response(answer.stream, stream=self._body(answer, self._home))

    async def _ask(self, request: Any) -> Response | _Poured:
        answer = await self._door.ask(request)
        return answer if isinstance(answer, Response) else _Poured(answer, self._door.package)

    def close(self) -> None:
        """Close the flatout client, if it is at home in a thread of its own, and nobody else uses it."""
        self._home.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Poured:
    """Pours a body that arrives in the event loop out for another thread."""

    def __init__(self, stream: Stream, package: Any) -> None:
        self.stream = stream
        self.pieces: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._package = package
        self._task = asyncio.ensure_future(self._pour())

    async def _pour(self) -> None:
        end: BaseException | None = None
        try:
            async for piece in self.stream.pieces():
                self.pieces.put(piece)
        except CallError as error:
            end = in_its_words(error, self._package)
        except asyncio.CancelledError:
            end = self._package.ReadError("the flatout client was closed")
            raise
        except BaseException as error:
            end = error
        finally:
            self.pieces.put(end)
            await self.stream.__aexit__()

    def leave(self) -> None:
        """End the exchange, if it has not ended."""
        self._task.cancel()


class Body:
    """A body as it arrives."""

    def __init__(self, poured: _Poured, home: Home) -> None:
        self._poured = poured
        self._home = home

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._poured.pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def close(self) -> None:
        """End the exchange, if it has not ended."""
        self._home.soon(self._poured.leave)
