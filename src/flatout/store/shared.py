"""Limits that the processes of one machine share: a few numbers in a small mapped file, no server.

Every process paces by the same theoretical arrival times (see `flatout.policies.gcra`), under a lock of a few
microseconds. So a process that dies, however it dies, leaves nothing to clean up: what it had not used is simply free.
Times are the system's monotonic clock, which all processes of a machine read alike.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import time
from pathlib import Path
from types import TracebackType

from flatout.errors import ConfigError
from flatout.policies.gcra import Gcra

_CELLS = ("born", "pause", "rpm", "rpd", "tpm", "itpm", "otpm")
_SIZE = 8 * len(_CELLS)
_REBOOTED = 60.0
"""Seconds by which the wall clock may be stepped before the file is taken to be from before a reboot."""


class SharedLimits:
    """The shared state of one target's limits. Enter it to read and change without another process in between.

    Args:
        name: what the processes agreed on (``Limits(shared=…)``).
        target: the target's own key: other targets under the same name share nothing.
        folder: where the file is kept.

    Raises:
        ConfigError: the folder cannot be written.
    """

    def __init__(self, name: str, target: str, folder: Path) -> None:
        mark = hashlib.sha256(f"{name}\0{target}".encode()).hexdigest()[:24]  # names never become paths
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / f"{mark}.limits", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"the limits shared as {name!r} cannot be kept in {folder}: {error.strerror}") from None
        self._depth = 0
        with self:
            if os.fstat(self._file).st_size < _SIZE:
                os.ftruncate(self._file, _SIZE)
            self._map = mmap.mmap(self._file, _SIZE)
            born = time.time() - time.monotonic()
            if not abs(self.read("born") - born) <= _REBOOTED:  # nor when what stands there is no number
                self._map[:] = bytes(_SIZE)
                self.write("born", born)

    def __enter__(self) -> None:
        if self._depth == 0:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            fcntl.flock(self._file, fcntl.LOCK_UN)

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
        value: float = struct.unpack_from("d", self._map, 8 * _CELLS.index(cell))[0]
        return value

    def write(self, cell: str, value: float) -> None:
        """Change a cell."""
        struct.pack_into("d", self._map, 8 * _CELLS.index(cell), value)

    def close(self) -> None:
        """Let the file go."""
        try:
            self._map.close()
        finally:
            os.close(self._file)


class _SharedGcra(Gcra):
    """A Gcra with its state in the shared file. Joining never takes back what others were admitted."""

    __slots__ = ("_cell", "_limits")

    def __init__(self, limits: SharedLimits, cell: str, rate: float, burst: float, now: float) -> None:
        self._limits = limits
        self._cell = cell
        self.rate = rate
        self.burst = burst
        with limits:
            self.tat = max(self.tat, now + burst)

    @property
    def tat(self) -> float:
        return self._limits.read(self._cell)

    @tat.setter
    def tat(self, value: float) -> None:
        self._limits.write(self._cell, value)
