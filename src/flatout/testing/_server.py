"""A provider model over real HTTP, for `flatout simulate` and benchmarks.

It speaks OpenAI's chat completions at any path that ends in ``/chat/completions``, its Responses at ``/responses`` and
Anthropic's Messages at ``/messages``, all also streamed, embeddings at ``/embeddings``, the vendors' batch endpoints,
and ``GET /v1/models``, ``GET /__stats`` and ``POST /__reset``. By default it listens on this machine only.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType

import msgspec

from flatout.http_server.requests import Request
from flatout.http_server.server import Answer, HttpServer
from flatout.tasks.loop import loop_factory

from ._batches._desk import about_batches
from ._batches._request import Ask
from ._exchange import SimulatedExchange, begin, begin_about_batches
from ._provider import ProviderModel
from ._settings import ProviderSettings
from ._transport import JSON, MODELLED, MODELS, bearer, kind_of

KEEPALIVE = 75.0
GRACE = 0.2  # seconds that open requests get at shutdown; hanging ones would never end


class SimulatedServer:
    """A running server. Use it as ``async with await serve(model) as server``, or `close` it.

    Attributes:
        model: the provider behind it.
        host, port: the address it listens on.
        url: the base URL for clients, which ends in ``/v1``.
    """

    def __init__(self, model: ProviderModel, host: str, port: int, end: Callable[[], Awaitable[None]]) -> None:
        self.model = model
        self.host = host
        self.port = port
        self._end = end

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/v1"

    def __repr__(self) -> str:
        return f"SimulatedServer({self.url}, {self.model!r})"

    async def close(self) -> None:
        """Stop listening, and end every open request and connection."""
        await self._end()

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
    server = HttpServer(_Provider(model), keepalive)
    return SimulatedServer(model, host, await server.listen(host, port), partial(server.close, GRACE))


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


class _Provider:
    """Answers the requests. A plain function of the path, because a router would cost more than the model does."""

    def __init__(self, model: ProviderModel) -> None:
        self._model = model

    async def __call__(self, request: Request, answer: Answer) -> None:
        path = request.path
        if path.endswith(MODELLED) and request.method == "POST":
            await self._exchange(request, answer)
        elif about_batches(path):
            await self._about_batches(request, answer)
        elif path.endswith(MODELS) and request.method == "GET":
            answer.send(200, JSON, self._model.model_list())
        elif path == "/__stats" and request.method == "GET":
            answer.send(200, JSON, msgspec.json.encode(self._model.stats()))
        elif path == "/__reset" and request.method == "POST":
            self._model.reset()
            self._model.start(asyncio.get_running_loop().time())
            answer.send(204)
        else:
            answer.send(404, JSON, b'{"error":{"message":"no such path"}}')

    async def _exchange(self, request: Request, answer: Answer) -> None:
        key = _header(request, b"authorization") or bearer(_header(request, b"x-api-key"))
        with await begin(self._model, request.body, key, **kind_of(request.path)) as exchange:
            await _send(answer, exchange)

    async def _about_batches(self, request: Request, answer: Answer) -> None:
        headers = {name.decode("latin-1"): _header(request, name) for name in request.headers}
        url = f"http://{headers.get('host', '')}{request.target}"
        ask = Ask.of(request.method, url, headers, request.body)
        with await begin_about_batches(self._model, ask) as exchange:
            await _send(answer, exchange)


async def _send(answer: Answer, exchange: SimulatedExchange) -> None:
    outcome = exchange.outcome
    if outcome.pieces is not None or outcome.wire in ("truncated", "stall"):
        await _in_pieces(answer, exchange)
    elif outcome.wire in ("reset", "refused"):
        # A listening server cannot refuse a connection; the client sees it closed instead.
        answer.abort()
    else:
        answer.send(outcome.status, outcome.headers, outcome.body)


def _header(request: Request, name: bytes) -> str:
    return request.headers.get(name, b"").decode("utf-8", "surrogateescape")


async def _in_pieces(answer: Answer, exchange: SimulatedExchange) -> None:
    """Send an answer piece by piece. An answer in one piece promises its whole length and breaks off in the middle."""
    outcome = exchange.outcome
    answer.begin(outcome.status, outcome.headers, length=len(outcome.body) if outcome.pieces is None else None)
    async for chunk in exchange.chunks():
        await answer.write(chunk)
