"""Decide who writes a run file: one process at a time, known by name, until it ends.

The lock is the operating system's (``flock``), on a side file ``<run file>.lock``, which also says who holds it. The
system drops the lock when the process ends, however it ends. So stale locks need no cleanup. What the side file says
counts only while the lock is held, so a reused process id misleads nobody. Releasing the lock removes the side file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from flatout.errors import RunLocked, StoreError

from .database import Place

_TRIES = 5
"""Attempts to take the lock from a process that writes."""

_PATIENCE = 250
"""Attempts to take the lock altogether. `holder` takes it for an instant, longer on a busy machine."""

_PAUSE = 0.02
"""Seconds between two attempts."""


class Holder(Struct, frozen=True):
    """The process that writes a run: its id, its machine, and when it took the lock (Unix time)."""

    pid: int
    host: str
    since: float

    def __str__(self) -> str:
        then = time.localtime(self.since)
        today = then[:3] == time.localtime()[:3]
        elsewhere = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"process {self.pid}{elsewhere} since {time.strftime('%H:%M' if today else '%Y-%m-%d %H:%M', then)}"


class Lock:
    """The right to write one run file."""

    __slots__ = ("_descriptor", "_path")

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, place: Place) -> Lock:
        """Take the lock.

        Raises:
            RunLocked: somebody holds it; the message says who.
            StoreError: the folder is read-only, or its file system has no locks.
        """
        path, tries = place.beside(".lock"), 0
        for _ in range(_PATIENCE):
            try:
                descriptor = _take(path)
            except BlockingIOError:
                tries += _is_written(path)
                if tries == _TRIES:
                    raise RunLocked(f"{place.name} is being written by {_writer(path)}") from None
            except OSError as error:
                raise StoreError(f"{place.name} cannot be written there: {error.strerror}") from error
            else:
                if descriptor is not None:
                    return cls(path, descriptor)
            time.sleep(_PAUSE)
        raise RunLocked(f"{place.name} is being taken and released by other processes")

    def abandon(self) -> None:
        """Let go in a forked child. Otherwise the child would still hold the lock after the parent's death."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def release(self) -> None:
        """Release the lock and remove the side file. Harmless if already done."""
        if self._descriptor < 0:
            return
        # Remove the file before unlocking: afterwards it might be the next holder's.
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1


def holder(place: Place) -> Holder | None:
    """Who writes the run file now; None if nobody does, or if that cannot be seen."""
    path = place.beside(".lock")
    return _facts(path) if _is_written(path) else None


def _is_written(path: Path) -> bool:
    """Whether a process has the lock to write. Those that only look share it, and do not see each other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _take(path: Path) -> int | None:
    """A descriptor that holds the lock; None if the last holder removed the side file meanwhile."""
    # O_NOFOLLOW: in a shared folder, the name may be somebody's link to a file that must not be overwritten.
    # Mode 0600: everyone who may open a file may also lock it, so nobody else may open it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if (facts := os.fstat(descriptor)).st_uid != os.geteuid() and os.geteuid() != 0:
            raise PermissionError(errno.EACCES, f"{path.name} beside it belongs to another user")
        if facts.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_still(path, descriptor):
            os.close(descriptor)
            return None
        _write_facts(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _write_facts(path: Path, descriptor: int) -> None:
    facts = Holder(os.getpid(), socket.gethostname(), time.time())
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(facts), 0)
    except OSError:
        path.unlink()
        raise


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _writer(path: Path) -> str:
    """Who holds the lock. If it is this program itself, also how to make it let go."""
    facts = _facts(path)
    if facts is None:
        return "another process"
    if (facts.pid, facts.host) != (os.getpid(), socket.gethostname()):
        return str(facts)
    return (
        f"{facts}, which is this program itself: another loop over it is running, or was left and never closed. "
        "`async with contextlib.aclosing(…) as results` around a loop closes the file when the loop is left"
    )


def _facts(path: Path) -> Holder | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None
