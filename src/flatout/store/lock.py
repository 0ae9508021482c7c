"""Decide who writes a run file: one process at a time, known by name, until it ends.

The lock is the operating system's (``flock``), on a side file ``<run file>.lock``, which also says who holds it. The
system drops the lock when the process ends, however it ends. So stale locks need no cleanup. What the side file says
counts only while the lock is held, so a reused process id misleads nobody. Releasing the lock removes the side file.

On a folder that machines share, the lock may hold within one machine only. So the holder also counts a beat in the side
file. A process that gets the lock, and finds the side file of a process on another machine, or of the same one before
it was started anew, watches whether the beat goes on. Nobody's clock is compared with another's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import threading
import time
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from flatout.errors import RunLocked, StoreError

from .database import Place

_TRIES = 5
"""Attempts to take the lock from a process that writes."""

_PATIENCE = 250
"""Attempts to take the lock altogether. `holder` takes it for an instant, longer on a busy machine."""

_PAUSE = 0.02
"""Seconds between two attempts."""


BEAT = 2.0
"""Seconds between two beats of a holder."""

SILENCE = 12.0
"""Seconds without a beat after which a holder on another machine is dead. Network file systems show a change late:
after 3 s (NFS), unless the file is opened anew."""

_SIZE = 256
"""Bytes of the side file. It keeps its size, so a reader never sees half of it."""

_log = logging.getLogger("flatout")


class Holder(Struct, frozen=True):
    """The process that writes a run: its id, its machine, and when it took the lock (Unix time).

    Attributes:
        boot: tells machines apart, and each start of a machine; "" if nobody knows.
        beat: counts up as long as the process lives.
    """

    pid: int
    host: str
    since: float
    boot: str = ""
    beat: int = 0

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is known to run on another machine, or to have run here before this machine was restarted."""
        return bool(self.boot) and self.boot != boot()

    def __str__(self) -> str:
        then = time.localtime(self.since)
        today = then[:3] == time.localtime()[:3]
        elsewhere = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"process {self.pid}{elsewhere} since {time.strftime('%H:%M' if today else '%Y-%m-%d %H:%M', then)}"


class Lock:
    """The right to write one run file."""

    __slots__ = ("_beating", "_descriptor", "_facts", "_over", "_path")

    def __init__(self, path: Path, descriptor: int, facts: Holder) -> None:
        self._path = path
        self._descriptor = descriptor
        self._facts = facts
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beats, name="flatout lock", daemon=True)
        self._beating.start()

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
                taken = _take(path, place.name)
            except BlockingIOError:
                tries += _is_written(path)
                if tries == _TRIES:
                    raise RunLocked(f"{place.name} is being written by {_writer(path)}") from None
            except OSError as error:
                raise StoreError(f"{place.name} cannot be written there: {error.strerror}") from error
            else:
                if taken is not None:
                    return cls(path, *taken)
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
        self._over.set()
        self._beating.join()
        # Remove the file before unlocking: afterwards it might be the next holder's.
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    def beat(self) -> None:
        """Count one beat in the side file, so that other machines see that this process lives."""
        self._facts = replace(self._facts, beat=self._facts.beat + 1)
        with contextlib.suppress(OSError):  # a full disk: the next one may succeed
            _write(self._descriptor, self._facts)
            os.fsync(self._descriptor)

    def _beats(self) -> None:
        while not self._over.wait(BEAT):
            self.beat()


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


@cache
def boot() -> str:
    """Tells machines apart, and each start of a machine; "" where the system does not say (it is not Linux)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _take(path: Path, name: str) -> tuple[int, Holder] | None:
    """A descriptor that holds the lock, and what stands in it; None if the last holder removed the file meanwhile.

    Raises:
        RunLocked: somebody on another machine holds it.
    """
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
        _await_silence(path, name)
        return descriptor, _write_facts(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _await_silence(path: Path, name: str) -> None:
    """Make sure that a process on another machine, which has left its name in the side file, is dead.

    Raises:
        RunLocked: it lives.
    """
    last = _facts(path)
    if last is None or not last.is_elsewhere:
        return
    _log.warning("%s was left by %s: waiting up to %.0f s to see whether it lives", name, last, SILENCE)
    until = time.monotonic() + SILENCE
    while time.monotonic() < until:
        time.sleep(BEAT / 2)
        if _facts(path) != last:
            raise RunLocked(f"{name} is being written by {last}, on another machine: end it there, or wait for its end")


def _write_facts(path: Path, descriptor: int) -> Holder:
    facts = Holder(os.getpid(), socket.gethostname(), time.time(), boot())
    try:
        _write(descriptor, facts)
        os.ftruncate(descriptor, _SIZE)
    except OSError:
        path.unlink()
        raise
    return facts


def _write(descriptor: int, facts: Holder) -> None:
    os.pwrite(descriptor, msgspec.json.encode(facts).ljust(_SIZE), 0)


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
