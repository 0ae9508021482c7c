"""A scripted server for requests of other programs, and events as providers send them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from flatout import Client
from flatout.edge.relay import RelayedStream, relayed, whole
from flatout.errors import ProtocolError
from flatout.layer import Request, Response
from flatout.providers.relay import Wire, inbound_for
from flatout.providers.relay.inbound import read_object
from flatout.testing import run_virtual

CUT = b"(the connection breaks)"
"""A piece that stands for the end of the connection."""

Answer = Response | list[bytes | float]
"""A whole answer, or the pieces of a streamed one and the seconds between them."""

ASKED = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Spam or ham?"}]}
CLAUDE = {"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Spam or ham?"}]}
RESPONSE = {"model": "gpt-5-mini", "input": "Spam or ham?"}
OPENAI, ANTHROPIC = "openai/gpt-5-mini", "anthropic/claude-sonnet-4-5"


class _Streaming:
    def __init__(self, status: int, headers: Mapping[str, str], pieces: Iterable[bytes | float]) -> None:
        self.status, self.headers = status, headers
        self._pieces = pieces

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if piece == CUT:
                raise ProtocolError("the connection broke")
            if isinstance(piece, bytes):
                yield piece
            else:
                await asyncio.sleep(piece)


class Server:
    """Answers one request after the other; the last answer again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []

    def _next(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def send(self, request: Request) -> Response:
        answer = self._next(request)
        await asyncio.sleep(1.0)
        assert isinstance(answer, Response), "a stream where none was asked"
        return answer

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[_Streaming]:
        answer = self._next(request)
        await asyncio.sleep(1.0)
        if isinstance(answer, Response):
            yield _Streaming(answer.status, answer.headers, [answer.body])
        else:
            yield _Streaming(200, {"content-type": "text/event-stream"}, answer)

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def sent(self) -> list[Any]:
        return [json.loads(request.body) for request in self.requests]


def call(dialect: str, data: dict[str, Any] | bytes, model: str, **options: Any) -> Any:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    asked = inbound_for(dialect).read(read_object(body))
    return relayed(asked, Wire(dialect, body, asked.streams), model, **options)


def run(
    server: Server, main: Callable[[Client], Coroutine[Any, Any, Any]], *, routes: Any = None, **options: Any
) -> Any:
    async def body() -> Any:
        async with Client(transport=server, config={"routes": routes or {}}, seed=1, **options) as client:
            return await main(client)

    return run_virtual(body())


async def answered(client: Client, asked: Any) -> Response:
    """The answer to a call, whole or streamed as it asks."""
    if not asked.wire.streams:
        return await whole(client._engine, asked)
    async with RelayedStream(client._engine, asked) as stream:
        return Response(stream.status, stream.headers, b"".join([piece async for piece in stream.pieces()]))


def event(data: Mapping[str, Any], name: str = "") -> bytes:
    lead = f"event: {name}\n" if name else ""
    return f"{lead}data: {json.dumps(data)}\n\n".encode()


def events(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream, without its end mark."""
    lines = (line[6:] for line in body.decode().splitlines() if line.startswith("data: "))
    return [json.loads(line) for line in lines if line != "[DONE]"]


def chat(message: Mapping[str, Any], finish: str = "stop", **more: Any) -> Response:
    """A chat completion."""
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    choices = [{"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}]
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    body = json.dumps({**head, "choices": choices, "usage": usage, **more}).encode()
    return Response(200, {"content-type": "application/json", "x-request-id": "r"}, body)


def message(content: list[dict[str, Any]], stop: str = "end_turn", **usage: int) -> Response:
    """An Anthropic message."""
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    counts = {"input_tokens": 5, "output_tokens": 3, **usage}
    body = json.dumps({**head, "content": content, "stop_reason": stop, "usage": counts}).encode()
    return Response(200, {"content-type": "application/json"}, body)


def chunks(*deltas: Mapping[str, Any], finish: str = "stop") -> list[bytes | float]:
    """A streamed chat completion."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    every = [event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas]
    end = event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return [*every, end, b"data: [DONE]\n\n"]
