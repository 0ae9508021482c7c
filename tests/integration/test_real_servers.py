"""flatout's HTTP transport against servers and proxies that others wrote: whatever of them this machine has."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flatout.layer import Request
from flatout.transports.http import HttpTransport
from tests.support.command_samples import eventually
from tests.support.ports import free_port
from tests.support.raw_server import OK, Certificate, run, saying, serving

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="open sockets are counted in /proc")

CALLS = 60
BODIES = [b"{}", b"x" * 30_000, b"y" * 900_000]
ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    for at in range(0, len(body), 50_000):
        await send({"type": "http.response.body", "body": body[at:at + 50_000], "more_body": True})
    await send({"type": "http.response.body", "body": b""})
"""
NODE = """
require("http").createServer((request, answer) => {
  const pieces = []
  request.on("data", piece => pieces.push(piece))
  request.on("end", () => answer.end(Buffer.concat(pieces)))
}).listen(+process.argv[1], "127.0.0.1")
"""
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off; keepalive_requests 7; keepalive_timeout 2s; client_max_body_size 500k;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port}{tls};
    location / {{ default_type application/json; return 200 '{{}}'; }}
    location /large {{ proxy_pass http://127.0.0.1:1; }}
  }}
}}
"""


def program(name: str) -> str:
    """The path of a program.

    Debian puts some where only the system's own user looks.
    """
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """A server in a process of its own, which listens."""
    with (folder / "said.log").open("wb") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
    try:
        eventually(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "said.log").read_text(errors="replace")
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def echoes(url: str, transport: HttpTransport) -> None:
    """Many calls at once, and some one after another: each has its own answer."""

    async def ask(number: int) -> None:
        body = BODIES[number % len(BODIES)] + str(number).encode()
        answer = await transport.send(Request("POST", url, {"content-type": "text/plain"}, body))
        assert (answer.status, answer.body) == (200, body)

    for _ in range(2):
        await asyncio.gather(*(ask(number) for number in range(CALLS)))
    for number in range(9):
        await ask(number)
    await transport.close()


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn", "granian", "node"])
def test_a_server_of_others(name, tmp_path):
    """Whoever runs a model behind it could not use flatout, or would get another call's answer."""
    port = free_port()
    (tmp_path / "served.py").write_text(ASGI)
    path = program(name)
    commands = {
        "uvicorn": [path, "served:app", "--port", str(port)],
        "hypercorn": [path, "served:app", "--bind", f"127.0.0.1:{port}"],
        "granian": [path, "served:app", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)],
        "node": [path, "-e", NODE, str(port)],
    }
    with running(commands[name], port, tmp_path):
        run(lambda: echoes(f"http://127.0.0.1:{port}/v1", HttpTransport()))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_nginx_with_few_requests_a_connection(tls, tmp_path):
    """nginx closes a connection after so many requests, and each such end would cost a call an attempt."""
    port, path = free_port(), program("nginx")
    options = {}
    listen = ""
    if tls:
        certificate = Certificate(tmp_path)
        listen = f" ssl; ssl_certificate {certificate.file}; ssl_certificate_key {certificate.key}"
        options["tls"] = certificate.trusted()
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, port=port, tls=listen))
    url = f"http{'s' if tls else ''}://127.0.0.1:{port}"

    async def main() -> None:
        transport = HttpTransport(**options)

        async def ask(where: str, body: bytes) -> int:
            return (await transport.send(Request("POST", f"{url}{where}", {}, body))).status

        for _ in range(5):
            assert set(await asyncio.gather(*(ask("/", b"{}") for _ in range(CALLS)))) == {200}
        for _ in range(20):
            assert await ask("/", b"{}") == 200
        assert await ask("/large", bytes(600_000)) == 413
        assert await ask("/", b"{}") == 200
        await transport.close()

    with running([path, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], port, tmp_path):
        run(main)


TINYPROXY = "Port {port}\nListen 127.0.0.1\nMaxClients 100\nBasicAuth me secret\nLogLevel Warning\n"
SQUID = """
http_port 127.0.0.1:{port}
http_access allow all
cache deny all
memory_cache_shared off
access_log none
cache_log /dev/null
pid_filename none
shutdown_lifetime 0 seconds
"""


@pytest.mark.parametrize("name", ["tinyproxy", "squid"])
def test_a_proxy_of_others(name, tmp_path, monkeypatch):
    """Companies whose only way out is a proxy could not use flatout."""
    port, path, certificate = free_port(), program(name), Certificate(tmp_path)
    text = TINYPROXY if name == "tinyproxy" else SQUID
    (tmp_path / "proxy.conf").write_text(text.format(port=port))
    command = [path, "-d", "-c"] if name == "tinyproxy" else [path, "-N", "-d", "1", "-n", f"flatout{port}", "-f"]
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, f"http://me:secret@127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    async def main() -> None:
        async with serving(saying(OK)) as plain, serving(saying(OK), ssl=certificate.served) as secret:
            for server in (plain, secret):
                transport = HttpTransport(trust_env=True, tls=certificate.trusted())
                calls = [transport.send(Request("POST", server.url, {}, b"{}")) for _ in range(10)]
                assert {answer.body for answer in await asyncio.gather(*calls)} == {b"fine"}
                await transport.close()
                assert b"secret" not in b"".join(server.requests)

    with running([*command, str(tmp_path / "proxy.conf")], port, tmp_path):
        run(main)
