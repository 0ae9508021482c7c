"""Writes a file that appears whole or not at all, is private to its owner, and leaves no half behind after a kill.

The file is written beside its place under another name, made durable, and then renamed. Its writer holds a lock on it.
A temporary file without a lock was left by a killed writer, and the next writer removes it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_BUFFER = 128 * 1024  # bytes; with Python's own 4 or 8 KB every other row is a system call
_PREFIX, _SUFFIX = ".flatout-", ".tmp"


@contextmanager
def whole(target: Path, ready: Callable[[Path], object] = lambda _: None) -> Iterator[BinaryIO]:
    """A block that writes a file and puts it in its place at the end of the block.

    A new file has mode 0600, less the umask; one that replaces another keeps that one's mode.

    Args:
        target: its place.
        ready: called with the complete and durable file before the rename; if it raises, nothing is replaced.

    Raises:
        OSError: the file cannot be written; what was there before still is.
    """
    with temporary(target.parent) as (path, file):
        with suppress(FileNotFoundError):
            os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
        yield file
        file.flush()
        os.fsync(file.fileno())
        ready(path)
        path.replace(target)
    _sync(target.parent)


@contextmanager
def temporary(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A block with a new file in a folder, and its path. The file is gone at the end unless it was renamed.

    Raises:
        OSError: it cannot be made.
    """
    _remove_dead(folder)
    path, file = _begun(folder)
    try:
        with file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


def _begun(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        temporary = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        file = open(temporary, "xb", buffering=_BUFFER, opener=_private)  # noqa: SIM115 - the caller closes it
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if temporary.exists():  # otherwise another writer removed it before it was locked, taking it for a dead one's
            return temporary, file
        file.close()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _remove_dead(folder: Path) -> None:
    for left in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):  # it is locked, or not ours
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
            finally:
                os.close(descriptor)


def _sync(folder: Path) -> None:
    """Make the rename itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
