"""What a connection costs the process: open files, and memory under TLS. Each is measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.raw_server import Certificate

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read in /proc")

# -- files ------------------------------------------------------------------------------------------------------------

FILES = """
import resource, sys
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
import flatout.cli.execute
from flatout.cli import main

def stop(**_):
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    sys.exit(0)

flatout.cli.execute.asyncio.Runner = stop  # the event loop, which would begin now
main(["run", "in.jsonl", "-o", "out.jsonl", "-m", "m", "--base-url", "http://127.0.0.1:9/v1"])
"""


def test_the_command_may_open_many_files(tmp_path):
    """A thousand connections would wait for each other, under a limit that is meant for programs that use select."""
    (tmp_path / "in.jsonl").write_text('{"prompt": "hello"}\n')
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    done = subprocess.run([sys.executable, "-c", FILES], cwd=tmp_path, capture_output=True, text=True, check=False)
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    assert done.stdout.strip() == str(most), done.stderr


# -- memory -----------------------------------------------------------------------------------------------------------

CONNECTIONS = 200

MEMORY = """
import asyncio, gc, json, ssl, sys, tracemalloc
from flatout.layer import Request
from flatout.transports import tls
from flatout.transports.http import HttpTransport

url, certificate, number, stock = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "stock"
if stock:
    tls._can_share = lambda loop: False

def resident():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_"))

async def main():
    transport = HttpTransport(tls=ssl.create_default_context(cafile=certificate), keepalive=60.0)
    ask = lambda: transport.send(Request("POST", url, {}, b"{}"))
    await ask()
    gc.collect()
    before, real = tracemalloc.get_traced_memory()[0], resident()
    await asyncio.gather(*(ask() for _ in range(number)))
    gc.collect()
    assert repr(transport) == f"HttpTransport(0 connections in use, {number} idle)", transport
    print(json.dumps([(tracemalloc.get_traced_memory()[0] - before) / number, (resident() - real) / number]))
    await transport.close()

tracemalloc.start()
asyncio.run(main())
"""

SERVER = """
import asyncio, ssl, sys

async def handle(reader, writer):
    async with asyncio.timeout(60):
        while await reader.read(65_536):
            waiting.append(writer)
            if len(waiting) == int(sys.argv[3]) or len(waiting) == 1 and not begun:
                begun.append(1)
                for each in waiting:
                    each.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
                waiting.clear()

async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context, backlog=1_000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(60)

waiting, begun = [], []
asyncio.run(main())
"""


def measured(certificate: Certificate, how: str) -> tuple[float, float]:
    """Bytes of an idle TLS connection: as Python counts them, and as the system does."""
    served = [sys.executable, "-c", SERVER, str(certificate.file), str(certificate.key), str(CONNECTIONS)]
    with subprocess.Popen(served, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"https://127.0.0.1:{server.stdout.readline().strip()}/v1"
            command = [sys.executable, "-c", MEMORY, url, str(certificate.file), str(CONNECTIONS), how]
            traced, resident = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        finally:
            server.kill()
    return traced, resident


def test_an_idle_tls_connection_takes_little_memory(tmp_path):
    """Five thousand calls at once would take 1.6 GB: asyncio keeps 256 KB for each, and never gives it back."""
    certificate = Certificate(tmp_path)
    ours, stock = measured(certificate, "ours"), measured(certificate, "stock")
    assert max(ours) <= 90_000, ours
    assert stock[0] > 2 * ours[0], "asyncio has become better: is the shared buffer still worth it?"
