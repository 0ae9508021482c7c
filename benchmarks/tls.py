"""Memory of TLS connections with calls in flight, ours and aiohttp's: ``python -m benchmarks.tls``.

A server takes requests over TLS, and answers none of them until all are there. Each client runs in a process of its
own. KB are the growth of its memory, divided by the connections: as the system counts the pages that were touched, and
as Python counts what was allocated (asyncio's receive buffers are touched as far as answers have been large). The
certificate is made with openssl.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing as mp
import resource
import ssl
import subprocess
import tempfile
import tracemalloc
from collections.abc import Callable
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from flatout.layer import Request
from flatout.tasks.loop import loop_factory

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve(ready: Connection, folder: Path, number: int) -> None:
    """Answer once so many requests are there. The first, which warms the client up, is answered at once."""
    allow_many_files()
    waiting: list[asyncio.StreamWriter] = []
    begun = False

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal begun
        while await reader.read(65_536):
            waiting.append(writer)
            if len(waiting) == number or not begun:
                begun = True
                for each in waiting:
                    each.write(ANSWER)
                waiting.clear()

    async def main() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context, backlog=number)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def memory() -> int:
    """Bytes that were allocated, where that is traced; otherwise bytes of this process that it shares with none."""
    if tracemalloc.is_tracing():
        return tracemalloc.get_traced_memory()[0]
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1_024 for line in lines if line.startswith("Private_"))


def ours(found: Connection, url: str, folder: Path, number: int, loop: str) -> None:
    async def main() -> None:
        from flatout.transports.http import HttpTransport

        transport = HttpTransport(tls=ssl.create_default_context(cafile=folder / "cert.pem"), keepalive=600.0)
        await grown(found, lambda: transport.send(Request("POST", url, {}, b"{}")), number)
        await transport.close()

    run(main, loop)


def aiohttp(found: Connection, url: str, folder: Path, number: int, loop: str) -> None:
    async def main() -> None:
        import aiohttp

        context = ssl.create_default_context(cafile=folder / "cert.pem")
        connector = aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=600.0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def ask() -> object:
                async with session.post(url, data=b"{}") as answer:
                    return await answer.read()

            await grown(found, ask, number)

    run(main, loop)


def run(main: Callable[[], object], loop: str) -> None:
    allow_many_files()
    with asyncio.Runner(loop_factory=loop_factory() if loop == "uvloop" else None) as runner:
        runner.run(main())  # type: ignore[arg-type]


async def grown(found: Connection, ask: Callable[[], object], number: int) -> None:
    """Tell by how much memory grows, for each of many calls that are in flight at the same time."""
    await ask()  # type: ignore[misc]
    gc.collect()
    before = memory()
    await asyncio.gather(*(ask() for _ in range(number)))  # type: ignore[arg-type]
    gc.collect()
    found.send((memory() - before) / number)


def traced(client: Callable[..., None], *arguments: object) -> None:
    tracemalloc.start()
    client(*arguments)


def measured(client: Callable[..., None], folder: Path, number: int, loop: str, *, trace: bool) -> float:
    context = mp.get_context("spawn")
    ready, tells = context.Pipe(duplex=False)
    found, says = context.Pipe(duplex=False)
    server = context.Process(target=serve, args=(tells, folder, number), daemon=True)
    server.start()
    url = f"https://127.0.0.1:{ready.recv()}/v1"
    target, first = (traced, [client]) if trace else (client, [])
    process = context.Process(target=target, args=(*first, says, url, folder, number, loop))
    process.start()
    size = cast("float", found.recv())
    process.join()
    server.kill()
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2_000)
    number = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        names = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        files = ["-out", str(folder / "cert.pem"), "-keyout", str(folder / "key.pem")]
        subprocess.run([*made, *names, *files], check=True, capture_output=True)
        print(f"{number:,} calls in flight over TLS, KB a connection")
        for loop, trace in product(("asyncio", "uvloop"), (False, True)):
            sizes = (measured(client, folder, number, loop, trace=trace) / 1_000 for client in (ours, aiohttp))
            mine, theirs = sizes
            how = "allocated, as Python counts" if trace else "touched, as the system counts"
            print(f"{loop:8} {how:30} ours {mine:4.0f}   aiohttp {theirs:4.0f}   {mine / theirs:.2f} x", flush=True)


if __name__ == "__main__":
    main()
