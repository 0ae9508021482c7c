"""A transport that stays in the process: requests go to a provider model, on virtual or on real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager

from flatout.errors import ConnectError, ProtocolError
from flatout.journey import current_journey
from flatout.layer import Request, Response

from ._batches._desk import about_batches
from ._batches._request import Ask
from ._exchange import SimulatedExchange, begin, begin_about_batches
from ._provider import ProviderModel

CHAT = "/chat/completions"
EMBEDDINGS = "/embeddings"
MODELS = "/models"
MESSAGES = "/messages"
RESPONSES = "/responses"
MODELLED = (CHAT, EMBEDDINGS, MESSAGES, RESPONSES)
JSON = {"content-type": "application/json"}


def modelled(path: str) -> bool:
    """Whether the model answers requests with this path."""
    return path.endswith(MODELLED) or about_batches(path)


def kind_of(path: str) -> dict[str, bool]:
    """What a request with this path asks; see `ProviderModel.receive`."""
    return {
        "embeddings": path.endswith(EMBEDDINGS),
        "messages": path.endswith(MESSAGES),
        "responses": path.endswith(RESPONSES),
    }


class SimulatedTransport:
    """Carries requests to a provider model, and fails as the HTTP transport fails.

    Several transports may share one model; they then act as several clients of one provider.

    Args:
        model: the provider.
    """

    def __init__(self, model: ProviderModel) -> None:
        self.model = model
        self._closed = False

    def __repr__(self) -> str:
        return f"SimulatedTransport({self.model!r})"

    async def send(self, request: Request) -> Response:
        """Exchange one request for a whole response.

        Raises:
            ConnectError: the provider refuses connections, or the transport is closed.
            ProtocolError: the connection ended before the answer did.
        """
        path = request.url.partition("?")[0]
        if self._closed or not modelled(path):
            return self._unmodelled(request, path)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with await self._begin(request, path) as exchange:
            headed = loop.time()
            outcome = exchange.outcome
            body = outcome.body
            if outcome.pieces is not None or outcome.wire != "whole":
                body = b"".join([chunk async for chunk in _pieces(exchange)])
        journey = current_journey(None)
        if journey is not None:
            journey.account.waited("first_byte", headed - began)
            journey.account.waited("body", loop.time() - headed)
        return Response(outcome.status, outcome.headers, body)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[SimulatedStream]:
        """Send a request, and yield its answer as soon as it begins. Leaving early ends the exchange.

        Raises:
            ConnectError: the provider refuses connections, or the transport is closed.
            ProtocolError: the connection ended before an answer began.
        """
        path = request.url.partition("?")[0]
        if self._closed or not modelled(path):
            known = self._unmodelled(request, path)
            yield SimulatedStream(known.status, known.headers, _whole(known.body))
            return
        journey = current_journey(None)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with await self._begin(request, path) as exchange:
            headed = loop.time()
            outcome = exchange.outcome
            _check(outcome.wire)
            if journey is not None:
                journey.account.waited("first_byte", headed - began)
            try:
                yield SimulatedStream(outcome.status, outcome.headers, _pieces(exchange))
            finally:
                if journey is not None:
                    journey.account.waited("body", loop.time() - headed)

    def _begin(self, request: Request, path: str) -> Awaitable[SimulatedExchange]:
        if not path.endswith(MODELLED):
            ask = Ask.of(request.method, request.url, request.headers, request.body)
            return begin_about_batches(self.model, ask)
        return begin(self.model, request.body, _authorization(request.headers), **kind_of(path))

    async def close(self) -> None:
        """Accept no more requests."""
        self._closed = True

    def _unmodelled(self, request: Request, path: str) -> Response:
        """The answer to a request that uses no time and no limit."""
        if self._closed:
            raise ConnectError("the transport is closed")
        if path.endswith(MODELS) and request.method == "GET":
            return Response(200, dict(JSON), self.model.model_list())
        return Response(404, dict(JSON), b'{"error":{"message":"no such path","type":"invalid_request_error"}}')


class SimulatedStream:
    """An answer of a provider model whose body is still on its way (a `flatout.layer.Streamed`)."""

    def __init__(self, status: int, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self._chunks = chunks

    def __repr__(self) -> str:
        return f"SimulatedStream({self.status})"

    def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive. Iterate once.

        Raises:
            ProtocolError: the answer broke off.
        """
        return self._chunks


def _check(wire: str) -> None:
    """Raise the error of a connection that gave no answer."""
    if wire == "refused":
        raise ConnectError("no connection to the simulated provider: connection refused")
    if wire == "reset":
        raise ProtocolError("the server closed the connection without an answer")


async def _pieces(exchange: SimulatedExchange) -> AsyncIterator[bytes]:
    _check(exchange.outcome.wire)
    async for chunk in exchange.chunks():
        yield chunk
    if exchange.outcome.wire == "truncated":
        raise ProtocolError("the answer was cut off")


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _authorization(headers: Mapping[str, str]) -> str:
    if (key := headers.get("Authorization")) is not None:
        return key
    lower = {name.lower(): value for name, value in headers.items()}
    return lower.get("authorization") or bearer(lower.get("x-api-key", ""))


def bearer(key: str) -> str:
    """A key of Anthropic's own header as an Authorization header has it."""
    return f"Bearer {key}" if key else ""
