"""`flatout simulate` that also speaks Gemini's generateContent, which a vendor's SDK asks for.

Run it as a program, with settings of the simulator as JSON: it prints its address, and ends with its input.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from flatout.http_server.requests import Request
from flatout.http_server.server import Answer, HttpServer
from flatout.testing import ProviderModel, ProviderSettings
from flatout.testing._batches import _gemini_rows
from flatout.testing._exchange import SimulatedExchange, begin
from flatout.testing._server import _Provider

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}
GEMINI = re.compile(r".*/models/([^/:]+):(generateContent|streamGenerateContent)$")


class Provider(_Provider):
    """Answers the requests."""

    async def __call__(self, request: Request, answer: Answer) -> None:
        path = request.path
        if (gemini := GEMINI.match(path)) is not None:
            chat = _gemini_rows.as_chat(gemini[1], _small(msgspec.json.decode(request.body)))
            with await self._begun(request, chat) as exchange:
                await _answer(answer, exchange, _content, _contents if "stream" in gemini[2] else None)
        else:
            await super().__call__(request, answer)

    async def _begun(self, request: Request, chat: bytes) -> SimulatedExchange:
        key = request.headers.get(b"x-goog-api-key", b"").decode()
        return await begin(self._model, chat, f"Bearer {key}" if key else _header(request))


def _small(value: Any) -> Any:
    """A request whose schema names its types as JSON Schema does: Gemini takes capitals as well."""
    if isinstance(value, list):
        return [_small(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: each.lower() if name == "type" and isinstance(each, str) else _small(each) for name, each in value.items()
    }


def _header(request: Request) -> str:
    return request.headers.get(b"authorization", b"").decode()


async def _answer(answer: Answer, exchange: SimulatedExchange, whole: Any, events: Any) -> None:
    outcome = exchange.outcome
    if outcome.wire in ("reset", "refused"):
        answer.abort()
    elif outcome.status != 200:
        answer.send(outcome.status, outcome.headers, outcome.body)
    elif events is None:
        answer.send(200, {**outcome.headers, **JSON}, whole(outcome.body))
    else:
        answer.begin(200, {**outcome.headers, **EVENTS}, length=None)
        for event in events(outcome.body):
            await answer.write(event)


def _content(body: bytes) -> bytes:
    return msgspec.json.encode(_gemini_rows.as_content(body))


def _contents(body: bytes) -> Iterator[bytes]:
    yield b"data: " + _content(body) + b"\r\n\r\n"


async def main(settings: Mapping[str, Any]) -> None:
    """Serve until the input ends."""
    model = ProviderModel(msgspec.convert(settings, ProviderSettings), seed=1)
    model.start(asyncio.get_running_loop().time())
    server = HttpServer(Provider(model), 75.0)
    port = await server.listen("127.0.0.1", 0)
    print(f"http://127.0.0.1:{port}/v1", flush=True)  # noqa: T201 - a program
    await asyncio.to_thread(sys.stdin.read)
    await server.close(0.1)


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1])))
