"""Carries the batch lane's requests, and reads its large answers piece by piece."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from flatout.errors import AttemptTimeout, CallError, TransportError
from flatout.layer import Request, Response, Streamed, Transport
from flatout.policies.failures.backoff import overload_delay
from flatout.providers.failures.naming import error_of
from flatout.values import Endpoint
from flatout.values.secret import forget

from .format import BatchFormat

UPLOAD_SECONDS = 900.0
"""The most for a request that carries rows."""

SECONDS = 60.0
"""The most for any other request, and between two pieces of a file of results."""

TRIES = 6
"""How often a request is tried while the provider is in trouble, where nobody waits for hours."""

FOR_NOW = frozenset({"again", "full"})
"""Refusals that pass. Gemini's 429 means a full queue to create, and too many requests to anything else."""

_log = logging.getLogger("flatout")


class Unreadable(TransportError):
    """A file of results is not there, or is none. The connection is not to blame."""


class Wire:
    """Sends requests of one target.

    Args:
        transport: carries them.
        format: tells a refusal.
        endpoint: for the words of errors.
    """

    def __init__(self, transport: Transport, format: BatchFormat, endpoint: Endpoint) -> None:
        self._transport = transport
        self._format = format
        self._endpoint = endpoint

    async def once(self, request: Request, *, seconds: float = SECONDS) -> Response:
        """Send a request once.

        Raises:
            ConnectError: it was not sent.
            TransportError: it may have arrived; its answer did not.
            CallError: the provider refuses the key, or everything that it asks for.
        """
        try:
            async with asyncio.timeout(seconds):
                response = await self._transport.send(request)
        except TimeoutError:
            raise AttemptTimeout(f"{self._endpoint.name} did not answer within {seconds:.0f} s") from None
        except CallError as error:
            forget(error)
            raise
        refused = self._format.refused(response)
        if refused is not None and refused[0] == "denied" and not (request.method != "POST" and _is_gone(response)):
            raise self.error(response)
        return response

    async def patiently(
        self,
        request: Request,
        *,
        seconds: float = SECONDS,
        tries: int = TRIES,
        read: Callable[[Response], object] | None = None,
    ) -> Response:
        """Send a request until it is answered. Sending it twice must do no harm.

        Args:
            request: the request.
            seconds: the most for each try.
            tries: how often it is tried.
            read: reads an answer that accepts the request. One that it cannot read is the provider's trouble, too.

        Returns:
            The answer. It is a refusal for the provider's trouble only if the tries are used up.

        Raises:
            TransportError: the provider was not reached.
            CallError: as for `once`.
        """
        for tried in range(1, tries):
            try:
                response = await self.once(request, seconds=seconds)
                refused = self._format.refused(response)
                if refused is None and read is not None:
                    read(response)
                if refused is None or refused[0] not in FOR_NOW:
                    return response
                why = refused[1]
            except TransportError as error:
                why = str(error)
            wait = overload_delay(tried, random.random())
            _log.info("%s is in trouble (%s): asked again in %.0f s", self._endpoint.name, why, wait)
            await asyncio.sleep(wait)
        return await self.once(request, seconds=seconds)

    async def pieces(self, request: Request) -> AsyncGenerator[bytes, None]:
        """The body of an answer of any size, piece by piece.

        Raises:
            Unreadable: the provider has no such file.
            TransportError: it broke off, or stopped, or the provider is in trouble.
            CallError: the provider refuses the key.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SECONDS) as timeout, self._opened(request) as answer:
                if not 200 <= answer.status < 300:
                    body = b"".join([piece async for piece in answer.chunks()])
                    raise self._no_file(Response(answer.status, answer.headers, body))
                async for piece in answer.chunks():
                    timeout.reschedule(None)  # the reader may take its time
                    yield piece
                    timeout.reschedule(loop.time() + SECONDS)
        except TimeoutError:
            raise AttemptTimeout(f"the results from {self._endpoint.name} stopped for {SECONDS:.0f} s") from None

    def error(self, response: Response) -> CallError:
        """The error that a refusal is."""
        return error_of(response.status, response.headers, response.body, self._endpoint)

    def _no_file(self, response: Response) -> CallError:
        """The error for a file of results that is refused."""
        why, reason = self._format.refused(response) or ("again", "")
        if why == "denied" and not _is_gone(response):
            return self.error(response)
        return TransportError(reason) if why in ("again", "full") else Unreadable(reason)

    def _opened(self, request: Request) -> AbstractAsyncContextManager[Streamed]:
        download: Any = getattr(self._transport, "download", self._transport.stream)
        opened: AbstractAsyncContextManager[Streamed] = download(request)
        return opened


def _is_gone(response: Response) -> bool:
    """Whether there is nothing under an address, whatever the answer's words. It need not mean the whole endpoint."""
    return response.status in (404, 410)
