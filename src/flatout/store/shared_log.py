"""The log in a shared file: a ring of the latest events, and a saved state from which latecomers continue."""

from __future__ import annotations

import mmap
import struct
import zlib
from typing import Protocol

from flatout.policies.pacing.sharing import LogEntry

KEPT = 4_096
"""Events in the ring."""

_EVENT = struct.Struct("6d")
_STATE = KEPT * _EVENT.size
"""Where the saved state begins, in bytes from the log's start."""

_MOST = 65_536
"""The largest state, in bytes."""


class Cells(Protocol):
    """What the shared file offers beside the log."""

    @property
    def still_locked(self) -> bool: ...

    def lock_again(self) -> None: ...

    def read(self, cell: str, /) -> float: ...

    def write(self, cell: str, value: float, /) -> None: ...


class SharedLog:
    """See `flatout.policies.pacing.sharing.Log`. An event is written before it counts."""

    SIZE = _STATE + _MOST

    def __init__(self, file: mmap.mmap, begin: int, cells: Cells) -> None:
        self._file = file
        self._begin = begin
        self._cells = cells

    @property
    def end(self) -> int:
        """How many events there have been so far."""
        end = self._cells.read("log_end")
        return int(end) if 0.0 <= end < 1e15 else 0

    def append(self, event: LogEntry, /) -> None:
        """Add an event."""
        if not self._cells.still_locked:  # this process was stopped, and others have moved on meanwhile
            self._cells.lock_again()
        end = self.end
        _EVENT.pack_into(self._file, self._at(end), *event)
        self._cells.write("log_end", end + 1.0)

    def since(self, place: int, /) -> list[LogEntry] | None:
        """The events from a number on; None if the ring no longer holds them all."""
        end = self.end
        if not end - KEPT <= place <= end:
            return None
        return [_EVENT.unpack_from(self._file, self._at(each)) for each in range(place, end)]

    def keep(self, state: bytes, /) -> None:
        """Save the state after all events so far, unless it is too large."""
        if len(state) > _MOST:
            return
        begin = self._begin + _STATE
        self._file[begin : begin + len(state)] = state
        self._cells.write("kept_at", float(self.end))
        self._cells.write("kept_size", float(len(state)))
        self._cells.write("kept_check", float(zlib.crc32(state)))

    def kept(self) -> tuple[int, bytes]:
        """The state that was saved last, and the number of events before it.

        Raises:
            ValueError: no state was saved, or it is damaged.
        """
        begin, size = self._begin + _STATE, int(self._cells.read("kept_size"))
        state = self._file[begin : begin + max(0, min(size, _MOST))]
        if not state or zlib.crc32(state) != self._cells.read("kept_check"):
            raise ValueError("no state was kept")
        return int(self._cells.read("kept_at")), state

    def _at(self, place: int) -> int:
        return self._begin + place % KEPT * _EVENT.size
