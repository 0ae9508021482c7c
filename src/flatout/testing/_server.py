"""A provider model over real HTTP, for `flatout simulate` and benchmarks.

It speaks OpenAI's chat completions at any path that ends in ``/chat/completions``, also streamed, embeddings at
``/embeddings``, and ``GET /v1/models``, ``GET /__stats`` and ``POST /__reset``. By default it listens on this machine
only.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec
from aiohttp import web

from flatout.tasks.loop import loop_factory

from ._exchange import SimulatedExchange, begin
from ._provider import ProviderModel
from ._settings import ProviderSettings
from ._transport import CHAT, EMBEDDINGS, JSON, MODELS

KEEPALIVE = 75.0
BACKLOG = 4096  # pending connections; a client that starts up opens thousands at once
MAX_BODY = 64 * 1024 * 1024
GRACE = 0.2  # seconds that open requests get at shutdown; hanging ones would never end


class SimulatedServer:
    """A running server. Use it as ``async with await serve(model) as server``, or `close` it.

    Attributes:
        model: the provider behind it.
        host, port: the address it listens on.
        url: the base URL for clients, which ends in ``/v1``.
    """

    def __init__(self, model: ProviderModel, runner: web.ServerRunner, host: str, port: int) -> None:
        self.model = model
        self.host = host
        self.port = port
        self._runner = runner

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/v1"

    def __repr__(self) -> str:
        return f"SimulatedServer({self.url}, {self.model!r})"

    async def close(self) -> None:
        """Stop listening, and end every open request and connection."""
        await self._runner.cleanup()

    async def __aenter__(self) -> SimulatedServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def serve(
    model: ProviderModel, host: str = "127.0.0.1", port: int = 0, *, keepalive: float = KEEPALIVE
) -> SimulatedServer:
    """Start a server in the running event loop.

    Args:
        model: the provider. Its time begins now.
        host: the address to listen on; this machine only by default.
        port: the port; 0 for any free one.
        keepalive: seconds after which an idle connection is closed. A short time provokes the race between a client
            that sends on a connection and the server that closes it.

    Raises:
        OSError: the port is taken.
    """
    model.start(asyncio.get_running_loop().time())
    runner = web.ServerRunner(
        web.Server(
            _Handler(model),
            request_factory=_request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=keepalive,
        ),
        shutdown_timeout=GRACE,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    except BaseException:
        await runner.cleanup()
        raise
    return SimulatedServer(model, runner, host, runner.addresses[0][1])


def simulate(
    settings: ProviderSettings,
    *,
    port: int,
    host: str = "127.0.0.1",
    seed: int = 0,
    keepalive: float = KEEPALIVE,
    announce: Callable[[str], None] = lambda _url: None,
) -> None:
    """Serve until SIGINT or SIGTERM arrives. Blocks; runs on uvloop if that is installed.

    Args:
        settings: how the provider behaves.
        port: the port; 0 for any free one.
        host: the address to listen on; this machine only by default.
        keepalive: seconds after which an idle connection is closed.
        seed: makes the provider's random choices reproducible.
        announce: called once, with the base URL, when the server listens.

    Raises:
        OSError: the port is taken.
    """
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve_until_signalled(ProviderModel(settings, seed), host, port, keepalive, announce))


async def _serve_until_signalled(
    model: ProviderModel, host: str, port: int, keepalive: float, announce: Callable[[str], None]
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with await serve(model, host, port, keepalive=keepalive) as server:
        announce(server.url)
        await stopped.wait()


class _Handler:
    """Answers one HTTP request. A plain function of the path, because a router would cost more than the model does."""

    def __init__(self, model: ProviderModel) -> None:
        self._model = model

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path.endswith(CHAT) and request.method == "POST":
            return await self._answer(request, embeddings=False)
        if path.endswith(EMBEDDINGS) and request.method == "POST":
            return await self._answer(request, embeddings=True)
        if path.endswith(MODELS) and request.method == "GET":
            return web.Response(body=self._model.model_list(), headers=JSON)
        if path == "/__stats" and request.method == "GET":
            return web.Response(body=msgspec.json.encode(self._model.stats()), headers=JSON)
        if path == "/__reset" and request.method == "POST":
            self._model.reset()
            self._model.start(asyncio.get_running_loop().time())
            return web.Response(status=204)
        return web.Response(status=404, body=b'{"error":{"message":"no such path"}}', headers=JSON)

    async def _answer(self, request: web.BaseRequest, *, embeddings: bool) -> web.StreamResponse:
        body = await request.read()
        key = request.headers.get("Authorization", "")
        with await begin(self._model, body, key, embeddings=embeddings) as exchange:
            outcome = exchange.outcome
            if outcome.pieces is not None or outcome.wire in ("truncated", "stall"):
                return await _in_pieces(request, exchange)
        if outcome.wire in ("reset", "refused") and request.transport is not None:
            # A listening server cannot refuse a connection; the client sees it closed instead.
            request.transport.abort()
        return web.Response(status=outcome.status or 503, body=outcome.body, headers=outcome.headers)


async def _in_pieces(request: web.BaseRequest, exchange: SimulatedExchange) -> web.StreamResponse:
    """Send an answer piece by piece. An answer in one piece promises its whole length and breaks off in the middle."""
    outcome = exchange.outcome
    response = web.StreamResponse(status=outcome.status, headers=outcome.headers)
    if outcome.pieces is None:
        response.content_length = len(outcome.body)
    await response.prepare(request)
    async for chunk in exchange.chunks():
        await response.write(chunk)
    if outcome.pieces is None and request.transport is not None:
        request.transport.close()
    return response


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)
