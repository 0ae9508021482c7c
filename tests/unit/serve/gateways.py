"""A gateway without sockets: requests go straight to its handler, and answers are read from what it writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from msgspec import Struct

from flatout import Client
from flatout.http_server.requests import Request
from flatout.http_server.server import Answer
from flatout.serve.keys import Keyring
from flatout.serve.listen import Asked, Gateway
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

CHAT = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Spam or ham?"}]}
MESSAGES = {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Spam or ham?"}]}
RESPONSES = {"model": "gpt-5-mini", "input": "Spam or ham?"}

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "openai-responses": "/v1/responses"}


class Got(Struct):
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool
    at: float

    @property
    def data(self) -> Any:
        return json.loads(self.body)


class Wire:
    """Stands for a connection: it keeps what is written."""

    leaves = False
    peer = ("127.0.0.1", 1)

    def __init__(self) -> None:
        self.written = bytearray()
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    async def drained(self) -> None:
        await asyncio.sleep(0)

    def abort(self) -> None:
        self.aborted = True


class World:
    """A gateway, its provider and its clients, on the virtual clock."""

    def __init__(
        self,
        settings: ProviderSettings | None = None,
        *,
        models: tuple[str, ...] = (),
        keys: Path | None = None,
        host: str = "127.0.0.1",
        provider: ProviderModel | None = None,
        **options: Any,
    ) -> None:
        self.provider = provider or ProviderModel(settings or ProviderSettings(latency=1.0), seed=1)
        self.client = Client(**{"transport": SimulatedTransport(self.provider), **options})
        ring = Keyring(keys or Path("/nonexistent/keys.json"))
        self.gateway = Gateway(self.client, Asked(models=models, host=host), ring)

    def run(self, main: Callable[[World], Coroutine[Any, Any, Any]]) -> Any:
        async def body() -> Any:
            async with self.client:
                try:
                    return await main(self)
                finally:
                    await self.gateway.batches.close()
                    await self.gateway.loans.close()

        return run_virtual(body())

    async def ask(self, path: str, data: Any = None, *, method: str = "POST", **headers: str) -> Got:
        raw = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        plain = path.partition("?")[0]
        request = Request(method, plain, {b"host": b"127.0.0.1:8700", **raw}, "1.1", keeps=True, url=path.encode())
        request.body = data if isinstance(data, bytes) else json.dumps(data).encode()
        wire = Wire()
        answer = Answer(wire, request)  # type: ignore[arg-type]
        await self.gateway.site(request, answer)
        answer.end()
        return _read(bytes(wire.written), keeps=answer.keeps)

    async def get(self, path: str, **headers: str) -> Got:
        return await self.ask(path, b"", method="GET", **headers)


def _read(written: bytes, *, keeps: bool) -> Got:
    head, _, body = written.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunked(body)
    return Got(int(first.split()[1]), headers, body, keeps, asyncio.get_running_loop().time())


def _unchunked(data: bytes) -> bytes:
    found = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        found += data[:length]
        data = data[length + 2 :]
    return found
