"""What a piece of a streamed answer costs: ``python -m benchmarks.streams``.

A server in a process of its own streams answers, a piece at a time, on many connections. ``bare`` is an aiohttp session
that reads the pieces and decodes their JSON; ``flatout`` is `Client.stream`. CPU is this process' own, from the first
piece to the last, per piece. Rounds alternate; the figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import cast

import aiohttp

from flatout import Client, Limits
from flatout.tasks.loop import loop_factory

from .server import in_own_process

STREAMS = 200
PIECES = 200
PAUSE = 0.05
"""Seconds between two pieces of one answer."""

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "bench", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


PIECE = _chunk(_event({"content": "word "}))
END = _chunk(_event({}, "stop")) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Streaming(asyncio.Protocol):
    """Answers each request with `PIECES` pieces, one every `PAUSE` seconds."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(HEAD)
        self._left = PIECES
        self._next()

    def _next(self) -> None:
        if not self._left:
            self._transport.write(END)
            return
        self._left -= 1
        self._transport.write(PIECE)
        asyncio.get_running_loop().call_later(PAUSE, self._next)


def _main(ready: Connection) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Streaming, "127.0.0.1", 0, backlog=1_024)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())


async def bare(url: str) -> int:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one() -> int:
            body = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": "x"}]}
            texts = 0
            async with session.post(f"{url}/chat/completions", json=body) as answer:
                async for line in answer.content:
                    if line.startswith(b"data: {"):
                        texts += "content" in json.loads(line[6:])["choices"][0]["delta"]
            return texts

        return sum(await asyncio.gather(*(one() for _ in range(STREAMS))))


async def flat(url: str) -> int:
    async with Client("bench", base_url=url, api_key="x", limits=Limits(concurrency=STREAMS)) as client:

        async def one() -> int:
            texts = 0
            async with client.stream("x") as stream:
                async for _ in stream:
                    texts += 1
            return texts

        return sum(await asyncio.gather(*(one() for _ in range(STREAMS))))


async def silent(url: str) -> int:
    """Streamed for the sake of the timeouts alone: nobody reads the text as it comes."""
    limits = Limits(concurrency=STREAMS)
    async with Client("bench", base_url=url, api_key="x", limits=limits, first_byte=60.0) as client:
        return sum(len(result.text.split()) for result in await client.gather(["x"] * STREAMS) if result.ok)


def measure(run: Callable[[str], Awaitable[int]], url: str, *, fast: bool) -> float:
    """Microseconds of CPU a piece."""

    async def main() -> int:
        return await run(url)

    with asyncio.Runner(loop_factory=loop_factory() if fast else asyncio.SelectorEventLoop) as runner:
        before = resource.getrusage(resource.RUSAGE_SELF)
        pieces = runner.run(main())
        after = resource.getrusage(resource.RUSAGE_SELF)
    assert pieces == STREAMS * PIECES, pieces
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / pieces * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    runs = {"bare": bare, "flatout": flat, "flatout, not read": silent}
    with in_own_process(_main) as port:
        url = f"http://127.0.0.1:{port}/v1"
        for loop, fast in (("asyncio", False), ("uvloop", True)):
            used: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(options.rounds):
                for name, run in runs.items():
                    used[name].append(measure(run, url, fast=fast))
            print(f"\n{loop}: {STREAMS} streams of {PIECES} pieces, one every {PAUSE:g} s")
            for name, values in used.items():
                mine = statistics.median(values)
                print(f"{name:20}{mine:8.1f} µs of CPU a piece{mine / statistics.median(used['bare']):8.2f} × bare")


if __name__ == "__main__":
    main()
