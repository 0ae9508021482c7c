"""Collects one large file of results over HTTP, and prints by how many MB the process grew meanwhile.

    python -m tests.support.large_results ROWS BYTES

The provider runs in a process of its own, and writes the file row by row.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import resource
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from flatout import Client
from flatout.runs.job import RunOptions
from flatout.runs.runner import Runner


def serve(port: Connection, rows: int, size: int) -> None:
    """A provider with one file and one batch, which has ended."""
    keys: list[str] = []
    job: dict[str, Any] = {}
    name = ""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing."""

        def tell(self, data: Any) -> None:
            body = json.dumps(data).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            nonlocal name
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path.endswith("/files"):
                keys[:] = re.findall(r'"custom_id":"([^"]+)"', body.decode())
                name = re.findall(r'filename="([^"]+)"', body[:1_000].decode())[0]
                self.tell({"id": "f"})
                return
            job.update(json.loads(body), id="b", status="completed", output_file_id="o")
            job["request_counts"] = {"total": rows, "completed": rows, "failed": 0}
            self.tell(job)

        def do_DELETE(self) -> None:
            self.tell({"deleted": True})

        def do_GET(self) -> None:
            if self.path.endswith("/content"):
                self.send_results()
            elif "/batches/" in self.path:
                self.tell(job)
            else:
                self.tell({"id": "f", "filename": name, "data": [], "has_more": False})

        def send_results(self) -> None:
            self.send_response(200)
            self.send_header("connection", "close")
            self.end_headers()
            message = {"role": "assistant", "content": "x" * size}
            answer = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {}}
            response = json.dumps({"status_code": 200, "body": answer})
            for key in keys:
                self.wfile.write(f'{{"custom_id":"{key}","response":{response},"error":null}}\n'.encode())
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.send(server.server_port)
    server.serve_forever()


def collect(folder: Path, port: int, rows: int) -> None:
    """Run all rows in one batch."""
    source = folder / "in.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"prompt {row}"}) + "\n" for row in range(rows)))
    options = RunOptions(source=str(source), output=str(folder / "out.jsonl"), lane="batch")
    url = f"http://127.0.0.1:{port}/v1"
    runner = Runner(options, lambda: Client("any", base_url=url, api_key="none", config={}))
    runner.prepare()
    assert asyncio.run(runner.run()).unfinished == 0


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    rows, size = map(int, sys.argv[1:])
    ours, its = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=serve, args=(its, rows, size), daemon=True)
    server.start()
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        collect(Path(folder), ours.recv(), rows)
    server.terminate()
    sys.stdout.write(f"{peak() - before:.1f}\n")


if __name__ == "__main__":
    main()
