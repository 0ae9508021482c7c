"""Limits that the processes of one machine share: a small memory-mapped file, no server.

Every process paces by the same theoretical arrival times (see `flatout.policies.pacing.gcra`), and by the same log of
what happened to requests (`shared_log`), under a lock that is held for a few microseconds. So a process that dies,
however it dies, leaves little to clean up: what it did not use is simply free, and the others give back what it had in
flight (`shared_members`). Times are the system's monotonic clock, which is the same for all processes of a machine.

A process that is stopped (Ctrl-Z) while it holds the lock keeps it, perhaps for days. The event loop never waits for
that. A process that finds the lock taken for `PATIENCE` begins another *turn*, which has another lock, and all
processes move on to it. The stopped process notices when it continues. Whatever it still writes can only raise a value,
so it never takes back what others were admitted meanwhile.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import time
from pathlib import Path
from types import TracebackType

from flatout.errors import ConfigError
from flatout.policies.pacing.gcra import Gcra
from flatout.policies.pacing.unknown import Together

from .shared_log import SharedLog
from .shared_members import SharedMembers

PATIENCE = 0.02
"""Seconds to try for the lock before its holder is assumed to be stopped. A running holder keeps it for microseconds,
or for as long as the system gives it no processor time."""

LOCKS = 4
"""Number of locks, which the turns use in rotation. Up to ``LOCKS - 1`` processes may be stopped while holding one."""

RECHECK = 0.025
"""Seconds after which a waiting call asks again: nobody tells a program what another one has changed."""

_AXES = ("rpm", "rpd", "tpm", "itpm", "otpm")
_NAMES = (
    *("turn", "format", "born", "pause", "told", "told_at", "buried", "rows"),
    *("log_end", "kept_at", "kept_size", "kept_check"),
    *(f"{axis}{what}" for what in ("", "_taken", "_limit", "_window") for axis in _AXES),
)
_CELLS = {name: place for place, name in enumerate(_NAMES)}
"""The numbers at the start of the file, doubles of 8 bytes, by name."""

FORMAT = 2.0
"""The version of the file's layout, and of the rules of the search that reads the log in it. Raise it if either
changes: programs with different versions use different files."""

_MADE = 0x666C6174 * 1_000.0 + FORMAT
"""The value of the ``format`` cell in a complete file."""

_MEMBERS = 8 * 64
"""Where the rows of the members begin, in bytes."""

_LOG = _MEMBERS + SharedMembers.SIZE
"""Where the log begins, in bytes."""

_SIZE = _LOG + SharedLog.SIZE
"""Bytes of the file."""

_REBOOTED = 60.0
"""Seconds. If the wall clock has moved further than this, the file is assumed to be older than the last reboot."""


class SharedLimits:
    """The shared state of one target's limits. Within ``with``, no other process reads or changes it.

    Creating one reads and writes a file. Afterwards it never waits for the disk or for another process.

    Args:
        name: the name that the processes agreed on (``Limits(shared=…)``).
        target: the target's key. Other targets under the same name share nothing with it.
        folder: where the file is kept.

    Raises:
        ConfigError: the folder cannot be written.
    """

    recheck = RECHECK

    def __init__(self, name: str, target: str, folder: Path) -> None:
        mark = f"{_mark(name)}{_digest(target)}"
        self._depth = 0
        self._turn = 0
        self._locks: list[int] = []
        self._lives = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(LOCKS):
                self._locks.append(_opened(folder / f"{mark}.{number or 'limits'}"))
            self._lives = _opened(folder / f"{mark}.members")
        except OSError as error:
            self._let_go()
            raise ConfigError(f"the limits shared as {name!r} cannot be kept in {folder}: {error.strerror}") from None
        file = self._locks[0]
        if os.fstat(file).st_size < _SIZE:
            os.ftruncate(file, _SIZE)
        self._map = mmap.mmap(file, _SIZE)
        self._numbers = memoryview(self._map)[:_MEMBERS].cast("d")
        self.log = SharedLog(self._map, _LOG, self)
        try:
            with self:
                self._renew()
                self.members = SharedMembers(memoryview(self._map)[_MEMBERS:_LOG].cast("d"), self, self._lives)
        except ConfigError:
            self._let_go()
            raise

    def __enter__(self) -> None:
        if self._depth == 0:
            self._take()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    @property
    def paused_until(self) -> float:
        """Until when nothing may be sent, by the event loop's clock."""
        return self.read("pause")

    @paused_until.setter
    def paused_until(self, until: float) -> None:
        self.write("pause", until)

    def together(self) -> Together:
        """The searches for an unknown limit that all programs share."""
        return Together(self.log)

    def gcra(self, cell: str, rate: float, burst: float, now: float) -> Gcra:
        """A GCRA whose theoretical arrival time is shared."""
        return _SharedGcra(self, cell, rate, burst, now)

    def read(self, cell: str) -> float:
        """A cell's value."""
        return self._numbers[_CELLS[cell]]

    def write(self, cell: str, value: float) -> None:
        """Change a cell."""
        if not self.still_locked:  # this process was stopped, and others have moved on meanwhile
            value = max(value, self.read(cell))
        self._numbers[_CELLS[cell]] = value

    @property
    def still_locked(self) -> bool:
        """Whether the current turn is still the one whose lock this process took last."""
        return self._present() == self._turn

    def lock_again(self) -> None:
        """Take the lock of the current turn instead of a past one."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        self._take()

    def close(self) -> None:
        """Close the files."""
        if self._map.closed:
            return
        with self:
            self.members.leave()
        self._numbers.release()
        self._map.close()
        self._let_go()

    def _renew(self) -> None:
        """Reset the file if it is new, damaged, or from before a reboot."""
        born = time.time() - time.monotonic()
        if self.read("format") != _MADE or not abs(self.read("born") - born) <= _REBOOTED:
            self._map[8:] = bytes(_SIZE - 8)  # all but the turn
            self.write("format", _MADE)
            self.write("born", born)

    def _let_go(self) -> None:
        if self._lives >= 0:
            os.close(self._lives)
            self._lives = -1
        while self._locks:
            os.close(self._locks.pop())

    # The turns

    def _take(self) -> None:
        """Take the lock. If nothing helps, continue without it: a limit may be exceeded, but nothing blocks."""
        for _ in range(2):
            ends = time.monotonic() + PATIENCE
            while not self._try():
                if time.monotonic() > ends:
                    break
                time.sleep(0)  # lets the holder run, if it waits for this very processor
            else:
                return
            self._pass_over()

    def _try(self) -> bool:
        """Take the current turn's lock if it is free."""
        turn = self._turn = self._present()
        if not _locked(self._lock):
            return False
        if self._present() == turn:
            return True
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        return False

    def _pass_over(self) -> None:
        """Begin another turn. Only the holder of that turn's lock does, so that no turn begins twice."""
        stuck = self._turn
        for turn in range(stuck + 1, stuck + LOCKS):
            self._turn = turn
            if _locked(self._lock):
                if self._present() == stuck:
                    self._numbers[0] = float(turn)
                fcntl.flock(self._lock, fcntl.LOCK_UN)
                return

    @property
    def _lock(self) -> int:
        return self._locks[self._turn % LOCKS]

    def _present(self) -> int:
        turn = self._numbers[0]
        return int(turn) if 0.0 <= turn < 1e15 else 0  # otherwise the cell holds no valid number


def forget(name: str, folder: Path) -> None:
    """Remove the shared state of all targets under a name that nobody uses any longer."""
    for file in folder.glob(f"{_mark(name)}*"):
        file.unlink(missing_ok=True)


def _mark(name: str) -> str:
    """The beginning of all file names under a name, which itself never becomes a path."""
    return _digest(f"{FORMAT}\0{name}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _SharedGcra(Gcra):
    """A Gcra with its state in the shared file. Joining never takes back what others were admitted."""

    __slots__ = ("_cell", "_limits", "_taken")

    def __init__(self, limits: SharedLimits, cell: str, rate: float, burst: float, now: float) -> None:
        self._limits = limits
        self._cell = cell
        self._taken = f"{cell}_taken"
        self.rate = rate
        self.burst = burst
        with limits:
            self.tat = max(self.tat, now + burst)

    def change(self, rate: float, burst: float, now: float) -> None:
        """Change this program's rate. Others change theirs, so debt stays the same in seconds, and nothing is saved."""
        self.rate = rate
        self.burst = burst
        with self._limits:
            self.tat = max(self.tat, now + burst)

    @property
    def taken(self) -> float:
        return self._limits.read(self._taken)

    @taken.setter
    def taken(self, value: float) -> None:
        self._limits.write(self._taken, value)

    @property
    def tat(self) -> float:
        return self._limits.read(self._cell)

    @tat.setter
    def tat(self, value: float) -> None:
        self._limits.write(self._cell, value)
