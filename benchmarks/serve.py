"""What the gateway costs a call: ``python -m benchmarks.serve``; beside LiteLLM's proxy with ``--litellm PYTHON``.

A provider that answers at once runs in a process of its own, and so does each gateway, on one core. This process sends
calls on a schedule (an open loop) over 64 connections, straight to the provider and through the gateways, in one run.
The overhead is the difference of the medians. Then as many calls as go are sent, from 64 connections that never wait.
LiteLLM's proxy cannot keep up with 500 calls a second: with ``--rate 20`` its latency is not that of its queue. It has
an environment of its own (``pip install 'litellm[proxy]'``), beside whose interpreter its command is.

Last figures: see docs/serve.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flatout.http_server.requests import Request
from flatout.http_server.server import Answer, HttpServer
from flatout.tasks.loop import loop_factory

CONNECTIONS = 64
GATEWAY_CORE, OTHER_CORE = "0", "1"
BODY = json.dumps(
    {"model": "any", "messages": [{"role": "user", "content": "Explain the CAP theorem. " * 16}]}
).encode()
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "any",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "It says that. " * 32}}
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200},
    }
).encode()


class Connection:
    """One connection of the load: a request, and then its answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer none\r\n"
        self._request = f"{head}Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY

    async def open(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def ask(self) -> None:
        self._writer.write(self._request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        await self._reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))

    def close(self) -> None:
        self._writer.close()


async def scheduled(port: int, rate: float, seconds: float) -> list[float]:
    """The latencies of calls that are sent at a rate, whatever becomes of those before them."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    connections = [await Connection(port).open() for _ in range(CONNECTIONS)]
    for each in connections:
        free.put_nowait(each)
    latencies: list[float] = []

    async def one() -> None:
        began = time.perf_counter()
        connection = await free.get()
        await connection.ask()
        latencies.append(time.perf_counter() - began)
        free.put_nowait(connection)

    began, tasks = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        if (wait := began + number / rate - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.ensure_future(one()))
    await asyncio.gather(*tasks)
    for each in connections:
        each.close()
    return latencies


async def flat_out(port: int, seconds: float) -> float:
    """Calls a second, from connections that never wait."""
    ends = time.perf_counter() + seconds

    async def many() -> int:
        connection, count = await Connection(port).open(), 0
        while time.perf_counter() < ends:
            await connection.ask()
            count += 1
        connection.close()
        return count

    return sum(await asyncio.gather(*(many() for _ in range(CONNECTIONS)))) / seconds


def provide() -> None:
    """Be the provider."""

    async def answered(request: Request, answer: Answer) -> None:
        answer.send(200, {"content-type": "application/json"}, ANSWER)

    async def main() -> None:
        port = await HttpServer(answered, 75.0).listen("127.0.0.1", 0)
        print(port, flush=True)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())


@contextmanager
def process(*command: str, core: str, quiet: bool = False, **environment: str) -> Iterator[subprocess.Popen[str]]:
    pinned = ["taskset", "-c", core, *command]
    said = subprocess.DEVNULL if quiet else subprocess.PIPE  # nobody reads the logs of LiteLLM's proxy
    with subprocess.Popen(pinned, stdout=said, stderr=said, text=True, env={**os.environ, **environment}) as started:
        try:
            yield started
        finally:
            started.kill()


@contextmanager
def flatout(provider: int, folder: str) -> Iterator[int]:
    command = [str(Path(sys.executable).with_name("flatout")), "serve", "--port", "0", "-m", "any"]
    options = ["--base-url", f"http://127.0.0.1:{provider}/v1", "--rpm", "10M"]
    with process(*command, *options, core=GATEWAY_CORE, XDG_STATE_HOME=folder, XDG_CACHE_HOME=folder) as started:
        assert started.stderr is not None
        yield int(started.stderr.readline().split("127.0.0.1:")[1].split("/")[0])


@contextmanager
def litellm(python: str, provider: int, folder: str) -> Iterator[int]:
    config = Path(folder, "litellm.yaml")
    base = f"http://127.0.0.1:{provider}/v1"
    entry = {"model": "openai/any", "api_base": base, "api_key": "none"}
    config.write_text(json.dumps({"model_list": [{"model_name": "any", "litellm_params": entry}]}))
    port = 8_791
    command = [str(Path(python).with_name("litellm")), "--config", str(config), "--port", str(port)]
    free = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true", "NO_DOCS": "True"}
    free["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise it downloads its price list
    with process(*command, "--host", "127.0.0.1", core=GATEWAY_CORE, quiet=True, **free) as started:
        for _ in range(60):
            try:
                asyncio.run(asyncio.wait_for(_once(port), 20))
                break
            except (OSError, TimeoutError, asyncio.IncompleteReadError, AssertionError):
                assert started.poll() is None, "LiteLLM's proxy has ended"
                time.sleep(0.5)
        yield port


async def _once(port: int) -> None:
    connection = await Connection(port).open()
    await connection.ask()
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--litellm", metavar="PYTHON", help="the interpreter beside which LiteLLM's proxy is installed")
    parser.add_argument("--provide", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.provide:
        provide()
        return
    os.sched_setaffinity(0, {int(OTHER_CORE)})
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        own = [sys.executable, "-m", "benchmarks.serve", "--provide"]
        started = stack.enter_context(process(*own, core=OTHER_CORE))
        assert started.stdout is not None
        provider = int(started.stdout.readline())
        print(f"{asked.rate:g} calls a second for {asked.seconds:g} s; then as many as go")
        base = measure("the provider itself", provider, asked, None)
        with flatout(provider, folder) as port:
            measure("flatout serve", port, asked, base)
        if asked.litellm:
            with litellm(asked.litellm, provider, folder) as port:
                measure("LiteLLM's proxy", port, asked, base)


def measure(name: str, port: int, asked: argparse.Namespace, base: float | None) -> float:
    """Measure one server, and print a line. Returns the median latency."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(scheduled(port, asked.rate, 2.0))
        latencies = sorted(runner.run(scheduled(port, asked.rate, asked.seconds)))
        most = runner.run(flat_out(port, asked.seconds))
    p50, p99 = statistics.median(latencies), latencies[int(len(latencies) * 0.99)]
    more = "" if base is None else f", {(p50 - base) * 1e3:+.2f} ms over the provider"
    print(
        f"{name}: p50 {p50 * 1e3:.2f} ms{more}; p99 {p99 * 1e3:.1f} ms; at most {most:,.0f} calls a second", flush=True
    )
    return p50


if __name__ == "__main__":
    main()
