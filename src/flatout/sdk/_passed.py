"""Requests that are no calls: they go through our HTTP client as they are, and wait for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Self

from flatout.errors import AttemptTimeout
from flatout.layer import Request, Streamed

if TYPE_CHECKING:
    from flatout.engine import Engine


class Passed:
    """An answer that is passed on as it arrives. Use it as an async context manager, as a `RelayedStream`.

    Args:
        engine: the client's engine.
        request: the request.
        timeout: seconds for the answer's beginning, and for each piece of it; None for no bound.

    Attributes:
        status: the HTTP status.
        headers: the headers of the answer, with lower-case names.
    """

    def __init__(self, engine: Engine, request: Request, timeout: float | None) -> None:
        engine.bind()
        transport: Any = engine.transport
        stream = getattr(transport, "download", transport.stream)  # files may be of any size
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._timeout = timeout
        self._exchange: AbstractAsyncContextManager[Streamed] = stream(request)
        self._answer: Streamed | None = None

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._timeout):
                answer = self._answer = await self._exchange.__aenter__()
        except TimeoutError:
            raise self._too_late() from None
        self.status, self.headers = answer.status, answer.headers
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._answer is not None:
            self._answer = None
            await self._exchange.__aexit__(None, None, None)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the answer as they arrive.

        Raises:
            TransportError: the answer broke off.
        """
        assert self._answer is not None, "it is entered first"
        chunks = self._answer.chunks()
        while True:
            try:
                async with asyncio.timeout(self._timeout):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                raise self._too_late() from None
            if chunk is None:
                return
            yield chunk

    def _too_late(self) -> AttemptTimeout:
        return AttemptTimeout(f"no byte of the answer within {self._timeout:g} s")
