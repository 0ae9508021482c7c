"""Servers of a few lines, which send whatever a test wants, and a run of a test that notices what is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import shutil
import socket
import ssl
import stat
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from flatout.layer import Request, Response
from flatout.transports.http import HttpTransport

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine"

LONG = 120.0
"""Seconds after which a test hangs."""


class Server:
    """A server that is listening.

    Attributes:
        url: its base URL.
        port: its port; 0 for a Unix socket.
        connections: how many it has had.
        open: how many it has now.
        requests: the requests that `Server.read` has read, head and body.
    """

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.connections = 0
        self.open = 0
        self.requests: list[bytes] = []

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """One request, head and body."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        size = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), 0)
        self.requests.append(head + await reader.readexactly(size))
        return self.requests[-1]

    async def has_open(self, number: int) -> None:
        """Wait until so many connections are open, as the server sees it."""
        assert await becomes(lambda: self.open == number), f"{self.open} connections are open"


@asynccontextmanager
async def serving(
    handler: Callable[[Server, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    host: str = "127.0.0.1",
    path: str | None = None,
    **options: Any,
) -> AsyncIterator[Server]:
    """A server that handles each connection with a function, and closes it then.

    Args:
        handler: gets the server and the two ends of a connection.
        host: where it listens.
        path: a Unix socket to listen at instead.
        options: for asyncio, such as ``ssl``.
    """
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.open += 1
        try:
            await handler(server, reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.LimitOverrunError):
            pass
        finally:
            server.open -= 1
            writer.close()
            with suppress(OSError, TimeoutError):
                await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if path is not None:
        listening = await asyncio.start_unix_server(begin, path, **options)
        server.url = f"http+unix://{quote(path, safe='')}/v1"
    else:
        listening = await asyncio.start_server(begin, host, 0, **options)
        server.port = listening.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        server.url = f"{'https' if options.get('ssl') else 'http'}://{shown}:{server.port}/v1"
    try:
        yield server
    finally:
        listening.close()
        for task in [*tasks]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def saying(data: bytes, *, times: int = 1_000_000) -> Any:
    """A handler that answers each request with the same bytes."""

    async def handler(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            await server.read(reader)
            writer.write(data)
            await writer.drain()

    return handler


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a reset instead of an end."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def ends_arrive(port: int) -> None:
    """Block until this process has received the ends of all its open connections to a port, unread as they may be."""
    for descriptor in [int(each.name) for each in Path("/dev/fd").iterdir()]:
        with suppress(OSError):  # one of them has listed the others
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as end:
                if end.family == socket.AF_INET and end.getpeername()[1] == port:
                    assert select.select([end], [], [], LONG)[0]


async def send(transport: HttpTransport, url: str, body: bytes = b"{}", seconds: float = LONG) -> Response:
    """One exchange, which must not hang."""
    async with asyncio.timeout(seconds):
        return await transport.send(Request("POST", f"{url}/chat", {"content-type": "application/json"}, body))


async def becomes(holds: Callable[[], bool]) -> bool:
    """Whether something comes true within three seconds as the loop has them: what holds it up holds them up, too."""
    for _ in range(1_500):
        if holds():
            return True
        await asyncio.sleep(0.002)
    return holds()


def run(main: Callable[[], Awaitable[Any]], loop: str = "asyncio", *, debug: bool = True) -> None:
    """Run a test on an event loop, and see to it that no socket, task or complaint is left."""
    complaints: list[str] = []

    def complained(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "incoming connection" not in context["message"]:  # a server's own, whose client did not like it
            complaints.append(f"{context['message']}: {context.get('exception')!r}")

    made = asyncio.new_event_loop() if loop == "asyncio" else pytest.importorskip("uvloop").new_event_loop()

    async def watched() -> None:
        made.set_exception_handler(complained)
        made.slow_callback_duration = 60.0
        async with asyncio.timeout(LONG):
            await main()
        await asyncio.sleep(0.005)  # what is left behind may still begin something
        own = {asyncio.current_task()}
        assert await becomes(lambda: asyncio.all_tasks() == own), asyncio.all_tasks() - own
        gc.collect()
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: made, debug=debug) as runner:
        runner.run(_warm())
        before = _sockets()
        runner.run(watched())
        assert _sockets() <= before
    assert not complaints, "\n".join(complaints)


async def _warm() -> None:
    await asyncio.sleep(0)


def _sockets() -> set[str]:
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if (target := str(each.readlink())).startswith("socket:"):
                found.add(target)
    return found


class Certificate:
    """A certificate that only it vouches for.

    Attributes:
        file: the certificate.
        key: its key.
        served: what a server speaks TLS with.
    """

    def __init__(self, folder: Path) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("there is no openssl to make a certificate with")
        self.file = folder / "cert.pem"
        self.key = folder / "key.pem"
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
        command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        options = [
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            names,
            "-out",
            str(self.file),
            "-keyout",
            str(self.key),
        ]
        subprocess.run([*command, *options], check=True, capture_output=True)
        self.served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.served.load_cert_chain(self.file, self.key)

    def trusted(self) -> ssl.SSLContext:
        """A context that trusts it."""
        return ssl.create_default_context(cafile=self.file)

    def hashed_name(self) -> str:
        """The name that OpenSSL looks for in a folder of certificates."""
        command = ["openssl", "x509", "-noout", "-hash", "-in", str(self.file)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() + ".0"
