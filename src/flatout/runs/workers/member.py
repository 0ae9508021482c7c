"""One worker, as the parent sees it: its process, its socket, its rows."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from flatout.errors import FlatoutError
from flatout.policies.spending import Reservation
from flatout.progress._counters import Progress
from flatout.runs.skips import Skip

from .calls import encoded
from .channel import Channel
from .given import Given
from .messages import Account, Order, Report, decode_report
from .outset import Outset
from .worker import LEFT_TO_THE_PARENT

PROGRAM = "flatout.runs.workers.worker"

AHEAD = 64
"""Rows that a worker has beyond its window, which wait for their turn."""

GRACE = 10.0
"""Seconds that a worker has to end after its last row, telemetry included, before it is killed."""


class Answers(NamedTuple):
    """The rows of a report, on their way to the disk.

    Attributes:
        commit: done when the run file has them all.
        states: how they ended.
        rows: their indices.
        progress: the worker's counters, with these rows in them.
    """

    commit: asyncio.Future[None]
    states: list[str]
    rows: list[int]
    progress: Progress | None


class Member:
    """A worker process.

    Args:
        number: its place among the workers, from 0. A worker that replaces it has the same.
        window: the most rows that it has under way at once.
        hear: called with each of its reports.
        lost: called once when it has ended, or has been killed.

    Attributes:
        rows: the rows that it has, by their indices.
        answers: its answers that are not in the run file yet.
        uncommitted: how many rows those are.
        open: the reservations that it holds, by their tickets.
        account: what it has spent so far.
        told: its counters, up to its last answer in the run file.
        dismissed: whether it was told that no more rows come.
        ended: done when it has closed its socket, or is dead.
    """

    def __init__(
        self, number: int, window: int, hear: Callable[[Member, Report], None], lost: Callable[[Member], None]
    ) -> None:
        self.number = number
        self._room = window + AHEAD
        self.rows: dict[int, Given] = {}
        self.answers: asyncio.Queue[Answers] = asyncio.Queue()
        self.uncommitted = 0
        self.open: dict[int, Reservation] = {}
        self.account = Account()
        self.told = Progress()
        self.dismissed = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hear = hear
        self._lost = lost
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._order: Order | None = None

    async def start(self, outset: Outset) -> None:
        """Start the process, and tell it how to begin. To be waited for: it must not be cancelled.

        Raises:
            FlatoutError: the system allows no more processes or files.
        """
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = await asyncio.to_thread(_started, theirs)
        except OSError as error:
            raise FlatoutError(f"a worker process cannot be started: {error.strerror or error}") from None
        self._channel = await Channel.over(ours, self._heard, self._has_ended)
        self._channel.send(Order(outset=outset))
        self._flush()

    @property
    def order(self) -> Order:
        """What will be told next; to be added to. It goes in the next turn of the event loop."""
        if self._order is None:
            self._order = Order()
            asyncio.get_running_loop().call_soon(self._flush)
        return self._order

    @property
    def is_idle(self) -> bool:
        """Whether all rows that it was given have ended, and are in the run file."""
        return not self.rows and not self.uncommitted

    @property
    def has_room(self) -> bool:
        """Whether it can take one more row.

        Answers on their way to the disk take the place of no rows. Otherwise a worker would run dry while they wait for
        their commit. But they have a bound of their own, in case the disk is slower than the workers.
        """
        return max(len(self.rows), self.uncommitted) < self._room and not self.ended.done()

    def give(self, given: Given) -> None:
        """Give it a row."""
        work = given.work
        self.order.calls.append((work.index, encoded(work.call)))
        self.rows[work.index] = given

    def skip(self, skip: Skip) -> bool:
        """Skip a row if it has it. Returns whether it has."""
        if skip.index is not None:
            found = [skip] if skip.index in self.rows else []
        else:
            found = [Skip(index=each, by=skip.by) for each, given in self.rows.items() if given.work.call.id == skip.id]
        if found:
            self.order.skips += found
        return bool(found)

    def widen(self, window: int) -> None:
        """Change how many rows it has under way at once."""
        self._room = window + AHEAD
        self.order.window = window

    def dismiss(self) -> None:
        """Tell it that no more rows come."""
        if not self.dismissed:
            self.dismissed = True
            self.order.last = True

    async def bury(self, grace: float = GRACE) -> str:
        """Wait for its end, and kill it if it does not come. Returns in words how it ended."""
        process = self._process
        if process is None:
            return "it did not start"
        try:
            code = await asyncio.to_thread(process.wait, grace)
        except subprocess.TimeoutExpired:
            process.kill()
            code = await asyncio.to_thread(process.wait)
        return f"it was killed by {_name(-code)}" if code < 0 else f"it ended with {code}"

    def kill(self) -> None:
        """End it now."""
        if self._process is not None:
            self._process.kill()

    def _heard(self, body: bytes) -> None:
        self._hear(self, decode_report(body))

    def _has_ended(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
            self._lost(self)

    def _flush(self) -> None:
        if self._channel is None:
            return  # it is being started, and is told then
        order, self._order = self._order, None
        if order is not None:
            self._channel.send(order)


def _started(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """A process that never hears Ctrl-C: the signals are blocked until it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_PARENT)
    try:
        return subprocess.Popen(  # noqa: S603 - our own program, no shell
            [sys.executable, "-P", "-m", PROGRAM, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # standard output belongs to the answers
            pass_fds=[theirs.fileno()],
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
