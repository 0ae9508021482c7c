"""The files that clients of the gateway upload for batches, and those that batches leave: OpenAI's ``/v1/files``.

Each file belongs to the caller who uploaded it. Nobody else finds it. It is removed after a month, and what a caller's
files take together is bounded.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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

MOST_KEPT = 10_000_000_000
"""The most bytes of a caller's files together, unless its key has another bound. That is 50 of the largest batches."""

KEPT = 30 * 86_400
"""Seconds for which a file is kept, unless its client wants less (OpenAI: the same for files of batches)."""

SHORTEST_KEPT = 3_600
"""The least seconds that a client may want (OpenAI's)."""

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
        seconds: for which it is kept.
    """

    id: str
    owner: str
    filename: str
    purpose: str
    size: int
    created_at: float
    seconds: float = KEPT

    @property
    def expires_at(self) -> float:
        """When it is removed; Unix time."""
        return self.created_at + self.seconds


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

    def adopt(
        self,
        name: str,
        owner: str,
        filename: str,
        part: Path,
        purpose: str = "batch_output",
        seconds: float = KEPT,
    ) -> StoredFile:
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
            kept = StoredFile(name, owner, filename, purpose, size, time.time(), seconds)
            write(self._about(name), msgspec.json.encode(kept))
        except OSError:
            part.unlink(missing_ok=True)
            self.remove(name)
            raise
        return kept

    def sweep(self) -> None:
        """Remove files that have expired, and what is left of those that came, or were written, when a gateway was
        killed. Another one may use the folder, too: what could still be under way stays.
        """
        for path in self._folder.glob("file-*.json"):
            if (file := self._known(path.stem)) is not None and file.expires_at <= time.time():
                self.remove(file.id)
        for path in (*self._folder.glob(".*"), *self._folder.glob("file-*.data")):
            with suppress(OSError):
                known = path.name.startswith("file-") and path.with_suffix(".json").exists()
                if not known and path.stat().st_mtime + MOST_SECONDS < time.time():
                    path.unlink()

    def find(self, owner: str, name: str) -> StoredFile | None:
        """A caller's file; None if it has none of that name."""
        found = self._known(name)
        return found if found is not None and found.owner == owner and found.expires_at > time.time() else None

    def _known(self, name: str) -> StoredFile | None:
        """The description of a file; None if no file with this name is kept."""
        if not NAME.fullmatch(name):
            return None
        try:
            return msgspec.json.decode(self._about(name).read_bytes(), type=StoredFile)
        except (OSError, msgspec.MsgspecError):
            return None

    def all(self, owner: str) -> list[StoredFile]:
        """A caller's files, the newest first."""
        names = (path.stem for path in self._folder.glob("file-*.json"))
        found = [file for name in names if (file := self.find(owner, name)) is not None]
        return sorted(found, key=lambda file: file.created_at, reverse=True)

    def size(self, owner: str) -> int:
        """The bytes of a caller's files together."""
        return sum(file.size for file in self.all(owner))

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
        held: the bytes of removed files that a caller's batches still hold.
    """

    def __init__(self, files: Files, held: Callable[[str], int]) -> None:
        self._files = files
        self._held = held
        self._coming: Counter[str] = Counter()  # bytes that uploads may still bring, by the caller

    async def root(self, request: Request, answer: Answer, caller: Caller) -> None:
        """List a caller's files, or take one.

        Raises:
            Denied: it is no form with a file.
        """
        if request.method == "POST":
            async with self._room(request, caller):
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

    @asynccontextmanager
    async def _room(self, request: Request, caller: Caller) -> AsyncIterator[None]:
        """A block in which a caller has room for what it uploads.

        Raises:
            Denied: its files would take more than it may keep.
        """
        most = MOST_KEPT if caller.allowed.files is None else caller.allowed.files
        size = int(request.headers.get(b"content-length", MOST_BYTES))  # in chunks, it may be any file
        self._coming[caller.name] += size
        try:
            held = await asyncio.to_thread(self._held, caller.name)
            kept = held + await asyncio.to_thread(self._files.size, caller.name)
            if kept + self._coming[caller.name] > most:
                coming = f"it keeps {kept:,}, and {self._coming[caller.name]:,} are coming"
                hint = "remove some (DELETE /v1/files/ID), or wait: each is removed after 30 days"
                hint = f"{hint}. The input of a batch counts until that is over" if held else hint
                raise Denied(413, f"{caller.name} may keep {most:,} bytes of files; {coming}: {hint}")
            yield
        finally:
            self._coming[caller.name] -= size
            if not self._coming[caller.name]:
                del self._coming[caller.name]

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
                filename, purpose, seconds = await self._write(part, request)
        except BaseException as error:
            await asyncio.to_thread(part.unlink, missing_ok=True)
            if isinstance(error, TimeoutError):
                raise Denied(408, f"the file did not come within {MOST_SECONDS:,.0f} s") from None
            raise
        return await asyncio.to_thread(self._files.adopt, name, owner, filename, part, purpose, seconds)

    async def _write(self, part: Path, request: Request) -> tuple[str, str, float]:
        """Write the file of a form as it comes. Returns what the client calls it, what it is for, and for how long it
        is kept.
        """
        filename, purpose, seconds, size = "", b"", b"", 0
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
                elif field.name == "expires_after[seconds]":
                    seconds += found[:20]
            await asyncio.to_thread(out.flush)
        if not size:
            raise Denied(400, "a form with a file named 'file' is expected, which is not empty")
        if size > MOST_BYTES:
            raise Denied(413, f"a file has at most {MOST_BYTES:,} bytes")
        what_for = purpose.decode("utf-8", "replace").strip()[:40] or "batch"
        return filename[:200] or "file.jsonl", what_for, _kept_for(seconds)


def room_for(request: Request) -> int:
    """How many bytes a request may have that uploads a file, and is read as it comes; 0 for any other request."""
    uploads = request.method == "POST" and request.path in ("/v1/files", "/files")
    return MOST_BYTES + _MOST_FIELDS if uploads else 0


def _kept_for(given: bytes) -> float:
    """The seconds for which a client wants a file to be kept.

    Raises:
        Denied: they are no number, or out of bounds.
    """
    text = given.decode("latin-1").strip()
    if not text:
        return KEPT
    if not (text.isdecimal() and text.isascii() and len(text) < 10 and SHORTEST_KEPT <= int(text) <= KEPT):
        raise Denied(400, f"expires_after[seconds] is a number from {SHORTEST_KEPT:,} to {KEPT:,}, not {text[:20]!r}")
    return float(text)


def described(file: StoredFile) -> dict[str, Any]:
    """A file as OpenAI describes it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created_at),
        "expires_at": int(file.expires_at),
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
