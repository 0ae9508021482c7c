"""A web server on a real port, with files and with the faults that such servers have."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WAYS = ("parts", "plain", "chunked", "cut", "cutplain", "moved")
"""The ways to get at a file: by parts; only as a whole; the same with unknown size; both over connections that are
lost; from another address."""


class Files:
    """What a server has.

    Attributes:
        files: the content of each file, by name.
        asked: how often each address was asked for content.
        url: the server's address.
        each: bytes of a body after which a connection is cut, where it is.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.url = ""
        self.each = 300_000
        self.cut_so_far: Counter[str] = Counter()
        self.over = threading.Event()


@contextmanager
def web() -> Iterator[Files]:
    """Serve on a free port while the context is open."""
    files = Files()

    class Handler(_Handler):
        served = files

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        files.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield files
        finally:
            files.over.set()
            server.shutdown()
            thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    """Answers ``/WAY/NAME`` with a file, and ``/status/N`` with a status."""

    protocol_version = "HTTP/1.1"
    served: Files

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self.served.asked[self.path.partition("?")[0]] += 1
        self._answer(body=True)

    def log_message(self, format: str, *values: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        way, _, name = self.path.partition("?")[0].strip("/").partition("/")
        if way == "moved":
            self._send(302, {"Location": f"/parts/{name}"})
        elif way == "loop":
            self._send(302, {"Location": self.path})
        elif way == "busy" and self.served.asked[self.path] < 2:
            self._send(503, {"Retry-After": "1"})
        elif way == "status":
            self._send(int(name), {})
        elif (data := self.served.files.get(name)) is None:
            self._send(404, {})
        else:
            self._file(way, data, body=body)

    def _file(self, way: str, data: bytes, *, body: bool) -> None:
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()[:16]}"'}
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if way in ("plain", "chunked", "cutplain") or span is None:
            if way == "chunked":
                self._chunked(data, headers, body=body)
            else:
                self._send(200, headers, data, body=body, cut=way.startswith("cut"))
            return
        start, end = int(span[1]), min(int(span[2]), len(data) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        stall = way == "stall" and self.served.asked[self.path] < 4
        self._send(206, headers, data[start : end + 1], body=body, cut=way == "cut", stall=stall)

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        data: bytes = b"",
        *,
        body: bool = True,
        cut: bool = False,
        stall: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        if stall and len(data) > 1:
            self.wfile.write(data[:1])
            self.close_connection = True
            self.served.over.wait(10)  # longer than anybody should
            return
        if cut and len(data) > 1:
            data = data[: self._until_cut()]
            self.close_connection = True
        self.wfile.write(data)

    def _until_cut(self) -> int:
        """Each connection hands out more than the one before, except every third."""
        self.served.cut_so_far[self.path] += 1
        times = self.served.cut_so_far[self.path]
        return 0 if times % 3 == 0 else self.served.each * times

    def _chunked(self, data: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(200)
        for name, value in {**headers, "Transfer-Encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            for start in range(0, len(data), 50_000):
                part = data[start : start + 50_000]
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
