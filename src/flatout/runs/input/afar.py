"""Reads a file elsewhere, over fsspec's file systems; `flatout.runs.input.elsewhere` finds them.

A block of a few megabytes is in memory. A connection that is lost is made again where it was lost, unless the file has
changed meanwhile. A server that hands out no parts of a file is asked once for the whole, which is then kept on disk.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from flatout.errors import ConfigError
from flatout.tasks.daemon import DaemonThreads
from flatout.text.redact import excerpt

from .afar_errors import Deed, NoWord, is_passing, why
from .decode import CHUNK

BLOCK = 4 * 1024 * 1024
"""Bytes of a file that are fetched at a time."""

PATIENCE = 60.0
"""Seconds to wait for the first word of a place. Some stores' packages try for minutes by themselves, in silence."""

_LEAST = 64 * 1024  # bytes that are fetched at a time at least

PAUSES = (0.5, 2.0, 8.0)
"""Seconds before each further try that follows one without progress."""

_IDENTITY = frozenset(
    {"size", "etag", "lastmodified", "mtime", "updated", "modified", "created", "md5hash", "contentmd5", "blobid"}
)
"""What fsspec's file systems tell of a file that another version of it does not share."""
_LONGEST = 200  # characters of a reason

ValueT = TypeVar("ValueT")


class Afar:
    """A file elsewhere.

    Args:
        files: fsspec's file system.
        file: the file in it.
        name: the file, for messages.
    """

    path = None

    def __init__(self, files: Any, file: str, name: str) -> None:
        self.name = name
        self._files = files
        self._file = file
        self._fresh = True  # what is known of it was asked for just now

    def open(self, ahead: int | None = None) -> io.BufferedReader:
        """Its bytes, from the start; see `flatout.runs.input.places.Place.open`.

        Raises:
            ConfigError: it cannot be read, or has changed since it was opened first.
        """
        raw = _Parts(self) if self._whole is None else _Kept(self._whole)
        return io.BufferedReader(raw, ahead or BLOCK)

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return int(self._found["size"])

    def is_there(self) -> bool:
        """Whether there is such a file.

        Raises:
            ConfigError: nobody says.
        """

        def look() -> bool:
            with suppress(FileNotFoundError):
                return bool(self._info())
            return False

        return self.looked(look)

    def lacks(self) -> str | None:
        """What is missing around it, in a word, such as its bucket. None if nothing is, or if we may not look: some may
        write and not look.
        """
        is_hub = "hf" in self._files.protocol
        root = self._file.partition("/")[0]
        try:
            _in_time(partial(self._files.resolve_path, self._file) if is_hub else partial(self._files.info, root))
        except FileNotFoundError:
            return "repository" if is_hub else "container" if "abfs" in self._files.protocol else "bucket"
        except Exception:
            return None
        return None

    def put(self, file: Path) -> None:
        """Put a file of this machine in its place, whole or not at all.

        Raises:
            ConfigError: it cannot be written.
        """
        self.tried(lambda: self._files.put_file(str(file), self._file), deed="written")

    def open_parts(self) -> Any:
        """A file of fsspec's, which fetches any part of it.

        Raises:
            ConfigError: it is not the one that was opened first.
        """
        self.check_same()
        return self._opened()

    def check_same(self) -> None:
        """Refuse a file that is not the one that was opened first.

        Raises:
            ConfigError: it has changed.
        """
        if not self._fresh and _identity(self._info()) != _identity(self._found):
            raise ConfigError(f"{self.name}: has changed while it was read; run the same command again")
        self._fresh = False

    def looked(self, look: Callable[[], ValueT]) -> ValueT:
        """What a first look at it finds. Nothing is lost yet if nobody answers, so a person is told soon.

        Raises:
            ConfigError: it fails.
        """
        return self.tried(partial(_in_time, look), pauses=PAUSES[:1])

    def tried(
        self,
        action: Callable[[], ValueT],
        reached: Callable[[], int] = int,
        pauses: Sequence[float] | None = None,
        deed: Deed = "read",
    ) -> ValueT:
        """What an action returns, which is tried several times if the network fails.

        Args:
            action: what to do.
            reached: how far it has come; if further than before, the tries are counted anew.
            pauses: seconds before each further try; None for `PAUSES`.
            deed: what cannot be done if it fails, for messages.

        Raises:
            ConfigError: it fails for good.
        """
        pauses = PAUSES if pauses is None else pauses
        failed, before = 0, reached()
        while True:
            try:
                return action()
            except ConfigError:
                raise
            except Exception as error:  # of fsspec, of the packages that it uses and of those that they use
                failed, before = (1 if reached() > before else failed + 1), reached()
                if failed > len(pauses) or not is_passing(error):
                    raise ConfigError(f"{self.name}: {safe(error, self._file, self.name, deed)}") from None
                time.sleep(pauses[failed - 1])

    @cached_property
    def _found(self) -> dict[str, Any]:
        """What is known of the file."""
        return self.looked(self._info)

    def _info(self) -> dict[str, Any]:
        self._files.invalidate_cache()
        return dict(self._files.info(self._file))

    @cached_property
    def _whole(self) -> BinaryIO | None:
        """All of it on disk; None if its parts can be fetched when they are needed."""
        known = self._found.get("size") is not None and self._found.get("partial") is not False
        if known and self.tried(self._has_parts):
            return None
        return self._fetched()

    def _has_parts(self) -> bool:
        if self.size < 2 or "http" not in self._files.protocol:
            return True
        with self._opened() as file:
            file.seek(1)
            try:
                return bool(file.read(1))
            except ValueError:  # it gave the whole file
                return False

    def _opened(self) -> Any:
        return self._files.open(self._file, "rb", block_size=BLOCK, cache_type="none", size=self.size)

    def _fetched(self) -> BinaryIO:
        kept: BinaryIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as this object
        weakref.finalize(self, kept.close)
        self.tried(partial(self._go_on, kept), kept.tell)
        size = self._found.get("size")
        if size is not None and kept.tell() != size:
            raise ConfigError(f"{self.name}: ended after {kept.tell():,} of {size:,} bytes")
        return kept

    def _go_on(self, kept: BinaryIO) -> None:
        """Fetch what is missing, after what there is already."""
        self.check_same()
        with self._files.open(self._file, "rb", block_size=0) as stream:
            left = kept.tell()
            while left:
                if not (passed := stream.read(min(left, CHUNK))):
                    raise EOFError("it ended too early")
                left -= len(passed)
            while some := stream.read(CHUNK):
                kept.write(some)


class _Raw(io.RawIOBase):
    """A file that is read from any place on. Subclasses say how."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's buffer is wider than any that comes
        data = self._part(self._at, max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _part(self, start: int, size: int) -> bytes:
        raise NotImplementedError


class _Kept(_Raw):
    """A file that several may read at once, each at another place."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(os.fstat(file.fileno()).st_size)
        self._file = file

    def _part(self, start: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, start)


class _Parts(_Raw):
    """A file elsewhere, of which each part is fetched when it is read."""

    def __init__(self, afar: Afar) -> None:
        super().__init__(afar.size)
        self._afar = afar
        self._file: Any = None
        self._most = BLOCK  # bytes of a part; fewer where connections do not last that long
        self._is_whole = False  # read to its end, and still the same there

    def close(self) -> None:
        if not self.closed:
            self._leave()
        super().close()

    def _part(self, start: int, size: int) -> bytes:
        if size:
            return self._afar.tried(partial(self._fetch, start, size))
        if not self._is_whole:
            self._afar.tried(self._afar.check_same)
            self._is_whole = True
        return b""

    def _fetch(self, start: int, size: int) -> bytes:
        """Fetch a part; after a failure over another connection, and if the file is still the same."""
        try:
            if self._file is None:
                self._file = self._afar.open_parts()
            size = min(size, self._most)
            self._file.seek(start)
            data = bytes(self._file.read(size))
            if len(data) < size:
                raise EOFError("it ended too early")
        except BaseException:
            self._leave()
            self._most = max(_LEAST, size // 4)
            raise
        self._most = min(BLOCK, self._most * 2)
        return data

    def _leave(self) -> None:
        file, self._file = self._file, None
        with suppress(Exception):
            if file is not None:
                file.close()


def _in_time(look: Callable[[], ValueT]) -> ValueT:
    answer: Future[ValueT] = DaemonThreads().submit(look)
    try:
        return answer.result(PATIENCE)
    except TimeoutError:
        if answer.done():
            raise
        raise NoWord from None


def _identity(info: dict[str, Any]) -> dict[str, str]:
    """What tells a version of a file from another."""
    names = {name: name.lower().replace("-", "").replace("_", "") for name in info}
    return {plain: str(info[name]) for name, plain in names.items() if plain in _IDENTITY}


def safe(error: Exception, url: str, name: str, deed: Deed = "read") -> str:
    """Why something failed, without what a URL may hide."""
    return excerpt(why(error, deed).replace(url, name), _LONGEST)
