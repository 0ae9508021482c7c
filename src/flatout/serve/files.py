"""The files that clients of the gateway upload for batches, and those that batches leave: OpenAI's ``/v1/files``.

Each file belongs to the caller who uploaded it. Nobody else finds it.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from flatout.serving.answer import Answer
from flatout.serving.requests import Request

from .callers import Caller
from .guard import Denied
from .site import query, send_json, send_page

NAME = re.compile(r"(?:file|batch)-[0-9a-f]{24}")
"""Names of files and batches. Whatever else a client sends never becomes a path."""

_PART = re.compile(rb'name="(?P<name>[^"]*)"(?:.*filename="(?P<file>[^"]*)")?', re.DOTALL)
_PIECE = 256 * 1024


class StoredFile(Struct, frozen=True):
    """What is known of a file.

    Attributes:
        id: its name.
        owner: the caller whose it is.
        filename: as the client called it.
        purpose: what it is for.
        size: its bytes.
        created_at: Unix time.
    """

    id: str
    owner: str
    filename: str
    purpose: str
    size: int
    created_at: float


class Files:
    """Keeps files in a folder. Its methods wait for the disk: call them in a thread.

    Args:
        folder: the folder; it is made when the first file comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, owner: str, filename: str, purpose: str, data: bytes) -> StoredFile:
        """Keep a file. When this returns, the disk has it.

        Raises:
            OSError: it is full, say. Nothing of the file is left on it.
        """
        name = new_name("file")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = StoredFile(name, owner, filename, purpose, len(data), time.time())
        try:
            write(self.path(name), data)
            write(self._about(name), msgspec.json.encode(kept))
        except OSError:
            self.remove(name)
            raise
        return kept

    def adopt(self, name: str, owner: str, filename: str, data: Path) -> StoredFile:
        """Keep a file of results that has been written in the same folder, in place of an earlier one of its name."""
        with data.open("rb") as written:
            os.fsync(written.fileno())
        data.replace(self.path(name))
        size = self.path(name).stat().st_size
        kept = StoredFile(name, owner, filename, "batch_output", size, time.time())
        write(self._about(name), msgspec.json.encode(kept))
        return kept

    def find(self, owner: str, name: str) -> StoredFile | None:
        """A caller's file; None if it has none of that name."""
        try:
            found = (
                msgspec.json.decode(self._about(name).read_bytes(), type=StoredFile) if NAME.fullmatch(name) else None
            )
        except (OSError, msgspec.MsgspecError):
            return None
        return found if found is not None and found.owner == owner else None

    def all(self, owner: str) -> list[StoredFile]:
        """A caller's files, the newest first."""
        names = (path.stem for path in self._folder.glob("file-*.json"))
        found = [file for name in names if (file := self.find(owner, name)) is not None]
        return sorted(found, key=lambda file: file.created_at, reverse=True)

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._about(name).unlink(missing_ok=True)
        self.path(name).unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Where the bytes of a file are."""
        return self._folder / f"{name}.data"

    def _about(self, name: str) -> Path:
        return self._folder / f"{name}.json"


class FilePages:
    """The pages ``/files`` and below.

    Args:
        files: keeps the files.
    """

    def __init__(self, files: Files) -> None:
        self._files = files

    async def root(self, request: Request, answer: Answer, caller: Caller) -> None:
        """List a caller's files, or take one.

        Raises:
            Denied: it is no form with a file.
        """
        if request.method == "POST":
            kept = await asyncio.to_thread(self._take, request, caller.name)
            send_json(answer, described(kept))
            return
        found = await asyncio.to_thread(self._files.all, caller.name)
        purpose = query(request).get("purpose")
        shown = [described(each) for each in found if purpose in (None, each.purpose)]
        send_page(answer, request, shown, usual=10_000, most=10_000)

    async def one(self, request: Request, answer: Answer, caller: Caller) -> None:
        """Describe, send or remove a file.

        Raises:
            Denied: the caller has none of that name.
        """
        name, _, part = request.path.partition("/files/")[2].partition("/")
        found = await asyncio.to_thread(self._files.find, caller.name, name)
        if found is None or part not in ("", "content"):
            raise Denied(404, f"there is no file {name[:80]!r}")
        if request.method == "DELETE":
            await asyncio.to_thread(self._files.remove, name)
            send_json(answer, {"id": name, "object": "file", "deleted": True})
        elif part:
            await self._send(answer, found)
        else:
            send_json(answer, described(found))

    async def _send(self, answer: Answer, file: StoredFile) -> None:
        answer.begin(200, {"content-type": "application/octet-stream"}, length=file.size)
        with await asyncio.to_thread(self._files.path(file.id).open, "rb") as source:
            while piece := await asyncio.to_thread(source.read, _PIECE):
                await answer.write(piece)

    def _take(self, request: Request, owner: str) -> StoredFile:
        parts = {name: (file, data) for name, file, data in form(request)}
        filename, data = parts.get("file", ("", b""))
        if not data:
            raise Denied(400, "a form with a file named 'file' is expected, which is not empty")
        purpose = parts.get("purpose", ("", b"batch"))[1].decode("utf-8", "replace").strip()[:40]
        return self._files.add(owner, filename[:200] or "file.jsonl", purpose, data)


def form(request: Request) -> Iterator[tuple[str, str, bytes]]:
    """The parts of a form (RFC 7578): the name, the file's name, and the content of each.

    Raises:
        Denied: it is none.
    """
    kind, _, rest = request.headers.get(b"content-type", b"").partition(b";")
    boundary = re.search(rb'boundary="?([^";,]{1,70})', rest)
    if kind.strip().lower() != b"multipart/form-data" or boundary is None:
        raise Denied(400, "a form (multipart/form-data) is expected")
    for part in (b"\r\n" + request.body).split(b"\r\n--" + boundary[1].rstrip())[1:]:
        head, _, data = part.partition(b"\r\n\r\n")
        line = next((each for each in head.split(b"\r\n") if each.lower().startswith(b"content-disposition:")), b"")
        if (found := _PART.search(line)) is not None:
            yield found["name"].decode("utf-8", "replace"), (found["file"] or b"").decode("utf-8", "replace"), data


def described(file: StoredFile) -> dict[str, Any]:
    """A file as OpenAI describes it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created_at),
        "expires_at": None,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def new_name(kind: str) -> str:
    """A name that nobody can guess."""
    return f"{kind}-{secrets.token_hex(12)}"


def write(path: Path, data: bytes) -> None:
    """Write a file whole, or not at all."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
