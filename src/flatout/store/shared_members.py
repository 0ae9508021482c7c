"""Which programs share a file, and how many requests each has in flight.

Each program locks one byte of a side file for as long as it lives. The system drops the lock when the program ends,
however it ends. So the others see that it has died, and give back what it had in flight.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

from flatout.errors import ConfigError
from flatout.policies.pacing import permits
from flatout.policies.pacing.permits import Member

from . import byte_locks
from .shared_log import Cells

MOST = 256
"""The most programs that share one target at a time."""

BURY_EVERY = 0.5
"""Seconds between two checks for dead programs, over all programs together."""

# The columns of a row, and their number. The process is 0 in a free row.
_HELD, _WAITS, _WENT, _PROCESS, _ROW = range(5)


class SharedMembers:
    """See `flatout.policies.pacing.sharing.Members`.

    Args:
        rows: the rows of all members.
        cells: the other numbers of the shared file, which is locked now.
        lives: the descriptor of the side file.

    Raises:
        ConfigError: too many programs share it.
    """

    SIZE = 8 * MOST * _ROW

    given = math.inf

    def __init__(self, rows: memoryview[float], cells: Cells, lives: int) -> None:
        self._rows = rows
        self._cells = cells
        self._lives = lives
        self._own = self._free_row()
        if byte_locks.SET_LOCK is not None:
            self._lock(self._own)
        self._clear(self._own)
        self._rows[self._own + _PROCESS] = os.getpid()
        self._cells.write("rows", max(self._cells.read("rows"), self._own + float(_ROW)))

    @property
    def in_flight(self) -> float:
        """How many requests all programs have in flight."""
        return math.fsum(self._rows[_HELD : self._end : _ROW])

    @property
    def waits_until(self) -> float:
        """Until when at least one of them counts as waiting."""
        return max(self._rows[_WAITS : self._end : _ROW])

    def fits(self, most: float, count: float, now: float, /) -> bool:
        """Whether this program may take one of the free places. If not, it counts as waiting."""
        return permits.fits(self, most - count, now)

    def own(self) -> Member:
        """This program's row."""
        return self._member(self._own)

    def others(self) -> list[Member]:
        """The rows of the other programs."""
        return [self._member(row) for row in self._others()]

    def sent(self, now: float, /) -> None:
        """Record that this program has sent a request, and so does not wait."""
        rows, own = self._rows, self._own
        rows[own] += 1.0
        rows[own + _WAITS] = 0.0
        rows[own + _WENT] = now

    def ended(self) -> None:
        """Record that one of its requests has ended."""
        self._rows[self._own] = max(0.0, self._rows[self._own] - 1.0)

    def waits(self, until: float, /) -> None:
        """Record that it waits."""
        self._rows[self._own + _WAITS] = until

    def bury(self, now: float, /) -> int:
        """Give back what dead programs held, unless somebody has just checked. Returns the number of their requests."""
        if 0.0 <= now - self._cells.read("buried") < BURY_EVERY:
            return 0
        self._cells.write("buried", now)
        held = 0.0
        for row in self._others():
            if not self._lives_on(row):
                held += self._rows[row]
                self._clear(row)
        return int(held)

    def leave(self) -> None:
        """Free the row, and release the memory."""
        self._clear(self._own)
        self._rows.release()

    def _free_row(self) -> int:
        rows = range(0, MOST * _ROW, _ROW)
        free = (row for row in rows if not self._rows[row + _PROCESS])
        left = (row for row in rows if not self._lives_on(row))
        for row in chain(free, left):
            return row
        raise ConfigError(f"{MOST} programs already share these limits, which is the most")

    @property
    def _end(self) -> int:
        """The end of the rows that were ever used."""
        end = self._cells.read("rows")
        return int(end) if _ROW <= end <= MOST * _ROW else MOST * _ROW

    def _others(self) -> Iterator[int]:
        rows = range(0, self._end, _ROW)
        return (row for row in rows if row != self._own and self._rows[row + _PROCESS])

    def _member(self, row: int) -> Member:
        held, waits_until, went_at = self._rows[row : row + _PROCESS].tolist()
        return Member(held, waits_until, went_at)

    def _clear(self, row: int) -> None:
        for column in range(_ROW):
            self._rows[row + column] = 0.0

    def _lives_on(self, row: int) -> bool:
        """Whether a row's program is alive, as far as this can be seen."""
        if byte_locks.SET_LOCK is None:
            return _runs(int(self._rows[row + _PROCESS]))
        if not self._lock(row):
            return True
        with suppress(OSError):
            byte_locks.unlock(self._lives, row)
        return False

    def _lock(self, row: int) -> bool:
        """Lock a row's byte. False if somebody else has locked it, or if it cannot be locked."""
        try:
            return byte_locks.lock(self._lives, row)
        except OSError:
            return False


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
