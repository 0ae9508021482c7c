"""What a request costs the simulator, against a bare aiohttp server: ``python -m benchmarks.simulator``.

The simulator reads each request, and makes up the answer. The other server sends the bytes of one such answer again and
again, as a tutorial's handler would. Each runs in a process of its own, and CPU is that process'. Rounds alternate; the
figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing as mp
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import cast

from flatout.tasks.loop import loop_factory

from .rounds import medians, ratio
from .server import in_own_process

PROMPT = "Explain the CAP theorem in three sentences. " * 9
PIECES = 73  # of a streamed answer; as many as the simulator's answers have
GAP = 0.001  # seconds between them
PIECE = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'

Serve = Callable[[Connection, Connection], None]


def simulator(ready: Connection, asked: Connection) -> None:
    from flatout.testing import ProviderModel, ProviderSettings, serve

    async def main() -> None:
        server = await serve(ProviderModel(ProviderSettings(latency=0.0, word_gap=GAP)))
        await _tell_cpu(ready, asked, server.port)

    _run(main)


def aiohttp(ready: Connection, asked: Connection) -> None:
    from aiohttp import web

    answer = json.dumps({"choices": [{"message": {"content": "word " * 60}}]}).encode()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if not json.loads(await request.read())["stream"]:
            return web.Response(body=answer, content_type="application/json")
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(PIECES):
            await asyncio.sleep(GAP)
            await response.write(PIECE)
        return response

    async def main() -> None:
        runner = web.ServerRunner(web.Server(handler, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await _tell_cpu(ready, asked, runner.addresses[0][1])

    _run(main)


def _run(main: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())  # type: ignore[arg-type]


async def _tell_cpu(ready: Connection, asked: Connection, port: int) -> None:
    """Tell where the server listens, and its CPU seconds whenever the other side asks."""

    def tell() -> None:
        asked.recv()
        asked.send(time.process_time())

    asyncio.get_running_loop().add_reader(asked.fileno(), tell)
    ready.send(port)
    await asyncio.Event().wait()


class Asking(asyncio.Protocol):
    """Asks on one connection, again as soon as an answer is whole, until ``more`` says no."""

    def __init__(self, request: bytes, more: Callable[[], bool], over: Callable[[], None]) -> None:
        self._request = request
        self._more = more
        self._over = over
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if _is_whole(self._answer):
            assert self._answer.startswith(b"HTTP/1.1 200"), self._answer[:200]
            self._answer = b""
            self._ask()

    def _ask(self) -> None:
        if self._more():
            self._transport.write(self._request)
        else:
            self._transport.close()
            self._over()


def _is_whole(answer: bytes) -> bool:
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = answer[:end].lower().find(b"content-length:")
    if at < 0:
        return answer.endswith(b"0\r\n\r\n")
    return len(answer) >= end + 4 + int(answer[at + 15 : end].split(b"\r\n", 1)[0])


async def ask(port: int, request: bytes, count: int, connections: int) -> None:
    """Send a request ``count`` times."""
    left = count
    loop = asyncio.get_running_loop()
    open_ = connections
    done = loop.create_future()

    def more() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    def over() -> None:
        nonlocal open_
        open_ -= 1
        if not open_:
            done.set_result(None)

    for _ in range(connections):
        await loop.create_connection(lambda: Asking(request, more, over), "127.0.0.1", port)
    await done


def request(*, stream: bool) -> bytes:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": PROMPT}], "stream": stream}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer x\r\n"
        f"content-type: application/json\r\naccept-encoding: identity\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@contextmanager
def measured(serve: Serve) -> Iterator[Callable[[bytes, int, int], tuple[float, float]]]:
    """A server in its process; yields what measures the CPU and wall seconds of some requests."""
    here, there = mp.Pipe()
    with in_own_process(serve, there) as port:

        def cpu() -> float:
            here.send(None)
            return cast("float", here.recv())

        def measure(request: bytes, count: int, connections: int) -> tuple[float, float]:
            before, began = cpu(), time.perf_counter()
            asyncio.run(ask(port, request, count, connections))
            return cpu() - before, time.perf_counter() - began

        yield measure


def table(title: str, body: bytes, count: int, connections: int, rounds: int, base: Serve, other: Serve) -> None:
    found: dict[str, list[tuple[float, float]]] = {base.__name__: [], other.__name__: []}
    with measured(base) as first, measured(other) as second:
        for measure in (first, second):
            measure(body, max(connections, count // 10), connections)
        for _ in range(rounds):
            found[base.__name__].append(first(body, count, connections))
            found[other.__name__].append(second(body, count, connections))
    print(f"\n{title}: {count:,} requests on {connections:,} connections, {rounds} rounds")
    print(f"{'':12}{'CPU µs/request':>15}{'requests/s':>12}{'× CPU':>8}")
    for name, runs in found.items():
        used, took = medians(runs)
        share = ratio([mine for mine, _ in runs], [theirs for theirs, _ in found[base.__name__]])
        print(f"{name:12}{used / count * 1e6:>15.0f}{count / took:>12,.0f}{share:>8.2f}")


def main(base: Serve = aiohttp, other: Serve = simulator) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    table("Whole answers", request(stream=False), 10_000, 64, rounds, base, other)
    table("Wide", request(stream=False), 10_000, 1_000, rounds, base, other)
    table("Streams", request(stream=True), 1_000, 64, rounds, base, other)


if __name__ == "__main__":
    main()
