"""The files that clients of the gateway upload for batches, and those that batches leave: OpenAI's ``/v1/files``.

Each file belongs to the caller who uploaded it. Nobody else finds it.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from flatout.http_server.answer import Answer
from flatout.http_server.requests import Request

from .callers import Caller
from .forms import Part, form
from .guard import Denied
from .site import query, send_json, send_page

NAME = re.compile(r"(?:file|batch)-[0-9a-f]{24}")
"""Names of files and batches. Whatever else a client sends never becomes a path."""

MOST_BYTES = 512 * 1024 * 1024
"""The largest file (OpenAI: 512 MB)."""

MOST_SECONDS = 3_600.0
"""Seconds in which an upload must arrive (OpenAI's uploads expire after an hour)."""

_MOST_FIELDS = 64 * 1024  # bytes of a form beside its file
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

    def begin(self, part: Path) -> BinaryIO:
        """Begin to write a file of this folder, which is adopted when it is whole.

        Raises:
            OSError: the folder cannot be written to.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def adopt(self, name: str, owner: str, filename: str, part: Path, purpose: str = "batch_output") -> StoredFile:
        """Keep a file that has been written in this folder, in place of an earlier one of its name. When this returns,
        the disk has it.

        Raises:
            OSError: it is full, say. Nothing of the file is left on it.
        """
        try:
            with part.open("rb") as written:
                os.fsync(written.fileno())
                size = os.fstat(written.fileno()).st_size
            part.replace(self.path(name))
            kept = StoredFile(name, owner, filename, purpose, size, time.time())
            write(self._about(name), msgspec.json.encode(kept))
        except OSError:
            part.unlink(missing_ok=True)
            self.remove(name)
            raise
        return kept

    def sweep(self) -> None:
        """Remove what is left of files that came, or were written, when a gateway was killed. Another one may use the
        folder, too: what could still be under way stays.
        """
        for path in (*self._folder.glob(".*"), *self._folder.glob("file-*.data")):
            with suppress(OSError):
                known = path.name.startswith("file-") and path.with_suffix(".json").exists()
                if not known and path.stat().st_mtime + MOST_SECONDS < time.time():
                    path.unlink()

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
        """Where the bytes of a file are. While they come, the name has a dot before it."""
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
            send_json(answer, described(await self._take(request, caller.name)))
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

    async def _take(self, request: Request, owner: str) -> StoredFile:
        """Keep the file of a form.

        Raises:
            Denied: the request is no form with one file.
            OSError: the disk is full, say. Nothing of the file is left on it.
            Refusal: the rest of the request will not come.
        """
        name = new_name("file")
        part = self._files.path(f".{name}")
        try:
            async with asyncio.timeout(MOST_SECONDS):
                filename, purpose = await self._write(part, request)
        except BaseException as error:
            await asyncio.to_thread(part.unlink, missing_ok=True)
            if isinstance(error, TimeoutError):
                raise Denied(408, f"the file did not come within {MOST_SECONDS:,.0f} s") from None
            raise
        return await asyncio.to_thread(self._files.adopt, name, owner, filename, part, purpose)

    async def _write(self, part: Path, request: Request) -> tuple[str, str]:
        """Write the file of a form as it comes. Returns what the client calls it, and what it is for."""
        filename, purpose, size = "", b"", 0
        field = Part("", "")
        with await asyncio.to_thread(self._files.begin, part) as out:
            async for found in form(request):
                if isinstance(found, Part):
                    field = found
                    if field.name == "file" and size:
                        raise Denied(400, "a form has one file named 'file', and this one has more")
                    filename = field.filename if field.name == "file" else filename
                elif field.name == "file":
                    await asyncio.to_thread(out.write, found)
                    size += len(found)
                elif field.name == "purpose":
                    purpose += found[:40]
            await asyncio.to_thread(out.flush)
        if not size:
            raise Denied(400, "a form with a file named 'file' is expected, which is not empty")
        if size > MOST_BYTES:
            raise Denied(413, f"a file has at most {MOST_BYTES:,} bytes")
        return filename[:200] or "file.jsonl", purpose.decode("utf-8", "replace").strip()[:40] or "batch"


def room_for(request: Request) -> int:
    """How many bytes a request may have that uploads a file, and is read as it comes; 0 for any other request."""
    uploads = request.method == "POST" and request.path in ("/v1/files", "/files")
    return MOST_BYTES + _MOST_FIELDS if uploads else 0


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
