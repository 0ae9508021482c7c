"""Locks on single bytes of a file, which the system drops when the process that holds them ends, however it ends.

Such a lock belongs to the open file and not to the process: two clients of one process exclude each other, too.
"""

from __future__ import annotations

import fcntl
import os
import struct

_FLOCK = struct.Struct("@hhqqi4x")
"""Type, whence, start, length, process: the ``struct flock`` that `fcntl` takes on Linux."""

SET_LOCK: int | None = getattr(fcntl, "F_OFD_SETLK", None)
"""The command for a lock that belongs to the open file; None where the system has none."""


def lock(descriptor: int, byte: int) -> bool:
    """Lock a byte, without waiting. False if somebody else has locked it.

    Raises:
        OSError: the file cannot be locked.
    """
    try:
        _set(descriptor, byte, fcntl.F_WRLCK)
    except (BlockingIOError, PermissionError):  # POSIX allows both
        return False
    return True


def unlock(descriptor: int, byte: int) -> None:
    """Unlock a byte, whether or not it is locked.

    Raises:
        OSError: the file cannot be locked.
    """
    _set(descriptor, byte, fcntl.F_UNLCK)


def _set(descriptor: int, byte: int, kind: int) -> None:
    assert SET_LOCK is not None
    fcntl.fcntl(descriptor, SET_LOCK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
