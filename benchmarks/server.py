"""The other end of the benchmarks: a server in its own process that answers every POST with the same completion.

It speaks just enough HTTP/1.1 to keep connections alive, so that what is measured is the client.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing as mp
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START = 60.0
"""Seconds that a server may take to listen."""

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 100}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200},
    }
).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)


class Answering(asyncio.Protocol):
    """Answers each request on its connection after ``delay`` seconds."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        self._transport.write(HEAD + ANSWER)


async def _serve(ready: Connection, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(delay), "127.0.0.1", 0, backlog=8192)
    ready.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _main(ready: Connection, delay: float) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(ready, delay))
    else:
        uvloop.run(_serve(ready, delay))


@contextmanager
def in_own_process(serve: Callable[..., None], *args: Any) -> Iterator[Any]:
    """Run ``serve(ready, *args)`` in a process of its own; yields what it sends to ``ready`` when it listens.

    Raises:
        TimeoutError: it does not listen within `START` seconds.
    """
    here, there = mp.Pipe()
    process = mp.get_context("spawn").Process(target=serve, args=(there, *args), daemon=True)
    process.start()
    try:
        if not here.poll(START):
            raise TimeoutError("the server did not start")
        yield here.recv()
    finally:
        process.terminate()
        process.join()


@contextmanager
def serving(delay: float = 0.0) -> Iterator[str]:
    """Run the server in a process of its own; yields its base URL."""
    with in_own_process(_main, delay) as port:
        yield f"http://127.0.0.1:{port}/v1"
