"""Limits that the processes of one machine share: a small mapped file, no server.

Every process paces by the same theoretical arrival times (see `flatout.policies.pacing.gcra`), and by the same log of
what happened to requests (`shared_log`), under a lock of a few microseconds. So a process that dies, however it dies,
leaves little to clean up: what it had not used is simply free, and what it had in flight is given back by the others
(`shared_members`). Times are the system's monotonic clock, which all processes of a machine read alike.

A process that is stopped (Ctrl-Z) while it holds the lock keeps it, for days perhaps. The event loop never waits for
that: whoever has found the lock taken for `PATIENCE` begins another *turn*, which has another lock, and everybody moves
on to it. The one that was stopped finds out when it goes on; of what it still writes, nothing takes back what others
were admitted meanwhile.
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

from .shared_log import SharedLog
from .shared_members import SharedMembers

PATIENCE = 0.02
"""Seconds for which the lock is asked for before its holder is taken to be stopped. Others hold it for microseconds, or
for as long as the system gives them no time to run."""

LOCKS = 4
"""Turns are locked by these, one after the other: so many processes but one may be stopped with a lock in hand."""

_AXES = ("rpm", "rpd", "tpm", "itpm", "otpm")
_NAMES = (
    *("turn", "format", "born", "pause", "told", "told_at", "buried", "rows"),
    *("log_end", "kept_at", "kept_size", "kept_check"),
    *(f"{axis}{what}" for what in ("", "_taken", "_limit", "_window") for axis in _AXES),
)
_CELLS = {name: place for place, name in enumerate(_NAMES)}

FORMAT = 2.0
"""The layout of the file, and the rules of the search that reads the log in it. Change it with either: programs of
different formats have different files."""

_MADE = 0x666C6174 * 1_000.0 + FORMAT
"""What a file says that is whole."""

_MEMBERS = 8 * 64
_LOG = _MEMBERS + SharedMembers.SIZE
_SIZE = _LOG + SharedLog.SIZE

_REBOOTED = 60.0
"""Seconds by which the wall clock may be stepped before the file is taken to be from before a reboot."""


class SharedLimits:
    """The shared state of one target's limits. Enter it to read and change without another process in between.

    Making one reads and writes a file; afterwards nothing waits for the disk, nor for another process.

    Args:
        name: what the processes agreed on (``Limits(shared=…)``).
        target: the target's own key: other targets under the same name share nothing.
        folder: where the file is kept.

    Raises:
        ConfigError: the folder cannot be written.
    """

    def __init__(self, name: str, target: str, folder: Path) -> None:
        mark = hashlib.sha256(f"{FORMAT}\0{name}\0{target}".encode()).hexdigest()[:24]  # names never become paths
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
        """Until when nobody may go; the event loop's clock."""
        return self.read("pause")

    @paused_until.setter
    def paused_until(self, until: float) -> None:
        self.write("pause", until)

    def gcra(self, cell: str, rate: float, burst: float, now: float) -> Gcra:
        """A GCRA whose theoretical arrival time is the shared one."""
        return _SharedGcra(self, cell, rate, burst, now)

    def read(self, cell: str) -> float:
        """A cell's value."""
        return self._numbers[_CELLS[cell]]

    def write(self, cell: str, value: float) -> None:
        """Change a cell."""
        if not self.still_locked:  # this process was stopped, and others have gone on meanwhile
            value = max(value, self.read(cell))
        self._numbers[_CELLS[cell]] = value

    @property
    def still_locked(self) -> bool:
        """Whether it is still the turn whose lock this process took last."""
        return self._present() == self._turn

    def lock_again(self) -> None:
        """Take the lock of the present turn, instead of one that has passed."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        self._take()

    def close(self) -> None:
        """Let the files go."""
        if self._map.closed:
            return
        with self:
            self.members.leave()
        self._numbers.release()
        self._map.close()
        self._let_go()

    def _renew(self) -> None:
        """Begin with nothing where the file is new, damaged, or from before a reboot."""
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

    # Whose turn it is

    def _take(self) -> None:
        """Take the lock. When nothing helps, go on without: a limit may be overrun then, but nothing stands still."""
        for _ in range(2):
            ends = time.monotonic() + PATIENCE
            while not self._try():
                if time.monotonic() > ends:
                    break
                time.sleep(0)  # lets the holder run, where it waits for this very processor
            else:
                return
            self._pass_over()

    def _try(self) -> bool:
        """Take the present turn's lock if it is free."""
        turn = self._turn = self._present()
        if not _locked(self._lock):
            return False
        if self._present() == turn:
            return True
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        return False

    def _pass_over(self) -> None:
        """Begin another turn. Only who has its lock does, so that nobody begins one that is begun already."""
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
        return int(turn) if 0.0 <= turn < 1e15 else 0  # else what stands there is no turn's number


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
