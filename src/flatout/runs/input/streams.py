"""Opens an input (a file, a pipe or stdin), unpacks it, and turns the system's errors into plain sentences."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from flatout.errors import ConfigError

from .decode import CHUNK, peeked

_GZIP = b"\x1f\x8b"


def stream_of(name: str, path: str | Path, stdin: BinaryIO | None) -> BinaryIO | None:
    """The open stream of an input that can be read only once; None for a regular file, which must exist."""
    if name == "stdin":
        return stdin if stdin is not None else _stdin()
    with plain_errors(name):
        path = Path(path)
        if path.is_dir():
            raise ConfigError(f"{name}: is a directory, not a file")
        if path.exists() and not path.is_file():
            return path.open("rb")
        path.open("rb").close()
    return None


def _stdin() -> BinaryIO:
    """This process's stdin, without Python's buffer.

    A thread that waits for input would hold the buffer's lock, and that is a fatal error at exit.
    """
    if sys.stdin is None:
        raise ConfigError("stdin: is closed")
    buffer = sys.stdin.buffer
    return cast(BinaryIO, getattr(buffer, "raw", buffer))


def open_file(path: Path) -> BinaryIO:
    """A file's bytes, unpacked if it is packed with gzip."""
    file = cast(io.BufferedReader, path.open("rb", buffering=CHUNK))
    if path.suffix.lower() == ".gz" or file.peek(len(_GZIP)).startswith(_GZIP):
        return _buffered(_Gzip(cast(BinaryIO, file)))
    return cast(BinaryIO, file)


def unpacked(stream: BinaryIO, *, own: bool) -> tuple[bytes, BinaryIO]:
    """The start of a stream that can be read only once, and the whole stream."""
    head, whole = peeked(stream, own=own)
    if not head.startswith(_GZIP):
        return head, whole
    return peeked(_buffered(_Gzip(whole)), own=True)


class _Gzip(gzip.GzipFile):
    """The text of a packed stream. Closing it closes the packed stream too."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(fileobj=stream, mode="rb")
        self._stream = stream

    def close(self) -> None:
        super().close()
        self._stream.close()


def _buffered(raw: gzip.GzipFile) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(raw, CHUNK))


@contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """Turn errors of the operating system and of gzip into ConfigError."""
    try:
        yield
    except FileNotFoundError:
        raise ConfigError(f"{name}: no such file") from None
    except gzip.BadGzipFile:
        raise ConfigError(f"{name}: not a gzip file") from None
    except (EOFError, zlib.error):
        raise ConfigError(f"{name}: the gzip file is damaged or cut off") from None
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror or error}") from None
