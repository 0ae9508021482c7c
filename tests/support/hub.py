"""A hub of data sets, as huggingface_hub asks one: one repository of small files, in a thread of this process.

Only what flatout needs is there. Anybody may read; writing takes the right token, and a wrong one may do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_right"
REPOSITORY = "me/mails"
API = f"/api/datasets/{REPOSITORY}"
CONTENT = f"/datasets/{REPOSITORY}/resolve/main/"


class _Hub(ThreadingHTTPServer):
    files: dict[str, bytes]


class _Handler(BaseHTTPRequestHandler):
    server: _Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        writes = path in (f"{API}/preupload/main", f"{API}/commit/main")
        if self.headers.get("authorization") != f"Bearer {TOKEN}" and (writes or "authorization" in self.headers):
            self._say(401, {"error": "Invalid credentials"})
        elif path == API:
            self._say(200, {"id": REPOSITORY, "sha": "c" * 40, "siblings": []})
        elif path.startswith(f"{API}/tree/main"):
            self._list(path.removeprefix(f"{API}/tree/main").strip("/"))
        elif path.removeprefix(CONTENT) in self.server.files:
            self._say(200, self.server.files[path.removeprefix(CONTENT)])
        elif path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            self._say(200, {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif path.endswith("/commit/main"):
            self._commit(body)
        else:
            self._say(404, {"error": "Not found"}, "EntryNotFound" if path.startswith(API) else "RepoNotFound")

    do_POST = do_HEAD = do_GET

    def _list(self, folder: str) -> None:
        """What is in a folder; and in those in it, if that is asked."""
        within, deep = f"{folder}/" if folder else "", "recursive=true" in self.path.lower()
        found: dict[str, dict[str, Any]] = {}
        for name, data in self.server.files.items():
            if name.startswith(within):
                inner, _, rest = name.removeprefix(within).partition("/")
                if rest:
                    found[within + inner] = {"type": "directory", "path": within + inner, "oid": "d" * 40}
                if deep or not rest:
                    found[name] = {"type": "file", "path": name, "size": len(data), "oid": _digest(data)}
        self._say(*((200, list(found.values())) if found else (404, {"error": "Not found"}, "EntryNotFound")))

    def _commit(self, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        url = f"http://{self.headers['host']}/datasets/{REPOSITORY}/commit/{'e' * 40}"
        self._say(200, {"success": True, "commitOid": "e" * 40, "commitUrl": url, "hookOutput": ""})

    def _say(self, status: int, told: Any, error: str = "") -> None:
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        headers = {"content-length": str(len(body)), "x-repo-commit": "c" * 40, "etag": f'"{_digest(body)}"'}
        for name, value in {**headers, **({"x-error-code": error} if status == 404 else {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _digest(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[str]:
    """Serve files, to which uploaded ones are added. Returns the address."""
    server = _Hub(("127.0.0.1", 0), _Handler)
    server.files = files
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
