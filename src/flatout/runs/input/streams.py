"""Opens an input (a file, a pipe or stdin), unpacks it, and turns the system's errors into plain sentences."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from flatout.errors import ConfigError

from .decode import CHUNK, peeked
from .packing import HEAD, packing_named, packing_of, unpacking
from .places import Place


def stream_of(name: str, path: str | Path, stdin: BinaryIO | None) -> BinaryIO | None:
    """The open stream of an input that can be read only once; None for a regular file, which must exist."""
    if name == "stdin":
        return stdin if stdin is not None else _stdin()
    with plain_errors(name):
        path = Path(path)
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


def open_file(place: Place, ahead: int | None = None) -> BinaryIO:
    """A file's bytes, unpacked if it is packed.

    Raises:
        ConfigError: its ending says that it is packed, and it is not; or what unpacks it is not installed.
    """
    file, name = place.open(ahead), place.name
    try:
        packing = packing_of(file.peek(HEAD))
        if packing is None and (claimed := packing_named(name)) is not None:
            raise ConfigError(f"{name}: not {'an' if claimed.name == 'xz' else 'a'} {claimed.name} file")
        stream = cast(BinaryIO, file)
        return stream if packing is None else unpacking(stream, packing, name)
    except BaseException:
        file.close()
        raise


def is_packed(place: Place) -> bool:
    """Whether a file is packed."""
    with place.open(CHUNK) as file:
        return packing_of(file.peek(HEAD)) is not None


def unpacked(stream: BinaryIO, name: str, *, own: bool) -> tuple[bytes, BinaryIO]:
    """The start of a stream that can be read only once, and the whole stream."""
    head, whole = peeked(stream, own=own)
    packing = packing_of(head)
    return (head, whole) if packing is None else peeked(unpacking(whole, packing, name), own=True)


@contextmanager
def plain_errors(name: str) -> Iterator[None]:
    """Turn errors of the operating system into ConfigError."""
    try:
        yield
    except FileNotFoundError:
        raise ConfigError(f"{name}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror or error}") from None
