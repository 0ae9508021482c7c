"""The only writer: a thread that owns the writing connection and commits in groups.

A commit that waits for the disk costs the same for one row as for five hundred. So rows are gathered first: for at most
20 ms, or until there are a few hundred. The event loop's side gathers, which takes only a list and a timer. A complete
group goes to the thread at once and comes back at once, so threads are switched twice per group and not twice per row.

There are two sorts of group. A *durable* group holds finished items and journal entries; its commit returns once the
disk has it. A *light* group holds only records of attempts. Its commit returns once the operating system has it, which
survives this process but not the machine. It is gathered for only 2 ms, because the attempts wait for it, and it is
committed before the durable groups that wait with it.

If the machine fails (a full disk, a failed write or fsync), nothing is tried again. After a failed fsync nobody knows
what the disk has. So every waiting caller gets the error, and the writer accepts nothing further.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from flatout.errors import StoreError
from flatout.tasks.loop import thread_begins, thread_ends

from .commits import ChangeKind, Changes, Commits, Waiting
from .database import Place

_LIGHT_SECONDS = 0.002
"""How long a light group gathers."""

_MOST_GROUPS = 32
"""Groups that are committed together if the disk is slower than the callers."""


class _Group:
    """Changes that are committed together. All callers that wait for them wait on the same event loop."""

    __slots__ = ("done", "durable", "loop", "pieces", "size")

    def __init__(self, loop: asyncio.AbstractEventLoop | None, durable: bool) -> None:
        self.loop = loop
        self.durable = durable
        self.pieces: dict[ChangeKind, list[Changes]] = {}
        self.size = 0
        self.done = threading.Event() if loop is None else None  # for a caller in another thread

    def add(self, kind: ChangeKind, rows: Sequence[tuple[Any, ...]], future: Waiting) -> None:
        self.pieces.setdefault(kind, []).append((rows, future))
        self.size += len(rows)


class Writer:
    """Commits what it is given, in order, in groups. From here on it owns the connection.

    Args:
        connection: ready for writing; the writer closes it at the end.
        place: for messages.
        group_seconds: the longest that a durable group gathers.
        group_rows: the most rows in a group.
        on_closed: called last of all, in the writer's thread.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        place: Place,
        *,
        group_seconds: float,
        group_rows: int,
        on_closed: Callable[[], None],
    ) -> None:
        self._place = place
        self._commits = Commits(connection, place)
        self._seconds = {True: group_seconds, False: _LIGHT_SECONDS}
        self._rows = group_rows
        self._on_closed = on_closed
        self._gate = threading.Lock()  # guards the open groups and `_closed`; held for a microsecond
        self._open: dict[bool, _Group | None] = {False: None, True: None}  # by durability, the light group first
        self._closed = False
        self._queue: SimpleQueue[_Group | None] = SimpleQueue()
        self._fault: StoreError | None = None
        self._fault_was_reported = False
        # A daemon, so that a program that forgot to close can end. RunFile closes at exit.
        self._thread = threading.Thread(target=self._work, name=f"flatout writes {place.path.name}", daemon=True)
        self._thread.start()

    # The callers' side

    def hand_in(self, kind: ChangeKind, *rows: tuple[Any, ...], durable: bool = True) -> asyncio.Future[None]:
        """Write rows. The future is done after the one commit that holds them all; cancelling it withdraws nothing.

        If some are refused, the future has the error of the first; the others are written. If the machine fails, the
        rows may or may not be in the file.

        Raises:
            StoreError: the machine failed before.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._gate:
            self._check_open()
            if rows:
                self._gather(kind, rows, future, durable)
            else:
                future.set_result(None)
        return future

    def hand_in_together(self, changes: Mapping[ChangeKind, Sequence[tuple[Any, ...]]]) -> asyncio.Future[None]:
        """`hand_in` for rows of several kinds: one commit holds them all, or none of them.

        Raises:
            StoreError: the machine failed before.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        group = _Group(loop, durable=True)
        for kind, rows in changes.items():
            group.add(kind, rows, future)
        with self._gate:
            self._check_open()
            self._hand_over_all()
            self._hand_over(group)
        return future

    def add(self, kind: ChangeKind, parameters: tuple[Any, ...]) -> None:
        """Write a row that nobody waits for, with the next light group. After a fault it is dropped."""
        with self._gate:
            if not self._closed and self._fault is None:
                self._gather(kind, (parameters,), None, durable=False)

    def _gather(self, kind: ChangeKind, rows: Sequence[tuple[Any, ...]], future: Waiting, durable: bool) -> None:
        loop = asyncio.get_running_loop()
        group = self._open[durable]
        if group is None or group.loop is not loop:
            self._hand_over(group)
            group = self._open[durable] = _Group(loop, durable)
            loop.call_later(self._seconds[durable], self._time_is_up, group)
        group.add(kind, rows, future)
        if group.size >= self._rows or (len(rows) > 1 and not durable):  # somebody else has gathered those
            self._hand_over(group)

    def change(self, kind: ChangeKind, parameters: tuple[Any, ...]) -> None:
        """Write a row that nobody waits for, at once. After a fault it is dropped."""
        with self._gate:
            if not self._closed:
                self._change(kind, parameters)

    def change_now(self, kind: ChangeKind, parameters: tuple[Any, ...]) -> None:
        """Write a row, and wait until the disk has it. It blocks: call it in another thread than the event loop's.

        Raises:
            StoreError: the machine failed.
        """
        with self._gate:
            self._check_open()
            done = self._change(kind, parameters)
        done.wait()
        with self._gate:
            self._check_open()

    def _change(self, kind: ChangeKind, parameters: tuple[Any, ...]) -> threading.Event:
        group = _Group(None, durable=True)
        group.add(kind, (parameters,), None)
        self._hand_over_all()
        self._queue.put(group)
        assert group.done is not None
        return group.done

    def close(self) -> None:
        """Commit everything, merge the log into the file and end the thread. Blocks; works without an event loop.

        Raises:
            StoreError: the machine failed, and no caller has been told yet.
        """
        with self._gate:
            if not self._closed:
                self._closed = True
                self._hand_over_all()
                self._queue.put(None)
        self._thread.join()
        if self._fault is not None and not self._fault_was_reported:
            self._fault_was_reported = True
            raise _copy_of(self._fault)

    def abandon(self) -> None:
        """In a forked child: refuse everything. The thread is the parent's, and the gate may be locked forever here."""
        self._gate = threading.Lock()
        self._closed = self._fault_was_reported = True
        self._fault = StoreError(f"{self._place.name} belongs to the process that opened it, not to one forked from it")

    def _check_open(self) -> None:
        if self._fault is not None:
            self._fault_was_reported = True
            raise _copy_of(self._fault)
        if self._closed:
            raise StoreError(f"{self._place.name} is closed")

    def _time_is_up(self, group: _Group) -> None:
        with self._gate:
            if self._open[group.durable] is group:
                self._hand_over(group)

    def _hand_over(self, group: _Group | None) -> None:
        if group is None:
            return
        if group.durable:
            self._hand_over(self._open[False])  # an attempt is recorded before its item is finished
        self._open[group.durable] = None
        thread_begins(group.loop)
        self._queue.put(group)

    def _hand_over_all(self) -> None:
        for group in tuple(self._open.values()):
            self._hand_over(group)

    # The writer's side

    def _work(self) -> None:
        try:
            more = True
            while more:
                groups, more = self._next()
                for durable in False, True:
                    together = [group for group in groups if group.durable is durable]
                    rejected = self._commit(together)
                    for group in together:
                        self._notify(group, rejected)
        finally:
            self._check_at_end()
            self._commits.close(sound=self._fault is None)
            self._on_closed()

    def _commit(self, groups: list[_Group]) -> dict[Waiting, StoreError]:
        """Commit groups together; return the refused rows' errors. A fault is kept in `_fault`."""
        if not groups or self._fault is not None:
            return {}
        try:
            return self._commits.write([group.pieces for group in groups], durable=any(g.durable for g in groups))
        except StoreError as fault:
            self._fault = fault
            return {}

    def _check_at_end(self) -> None:
        if self._fault is None:
            try:
                self._commits.check()
            except StoreError as fault:
                self._fault = fault

    def _next(self) -> tuple[list[_Group], bool]:
        """The groups that are waiting now, and whether more will come."""
        groups: list[_Group] = []
        try:
            while len(groups) < _MOST_GROUPS:
                group = self._queue.get(block=not groups)
                if group is None:
                    return groups, False
                groups.append(group)
        except Empty:
            pass
        return groups, True

    def _notify(self, group: _Group, rejected: dict[Waiting, StoreError]) -> None:
        if group.done is not None:
            group.done.set()
        if group.loop is None:
            return
        if self._fault is not None:
            self._fault_was_reported = True
        # A closed loop has no callers left to tell.
        with contextlib.suppress(RuntimeError):
            group.loop.call_soon_threadsafe(_resolve, group, rejected, self._fault)


def _resolve(group: _Group, rejected: dict[Waiting, StoreError], fault: StoreError | None) -> None:
    """Wake all waiting callers, in the order in which they came. Runs on their event loop."""
    for pieces in group.pieces.values():
        for _, future in pieces:
            if future is None or future.done():  # done: its caller was cancelled
                continue
            error = _copy_of(fault) if fault is not None else rejected.get(future)
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # whoever waits for many looks at the first failure only
    thread_ends(group.loop)


def _copy_of(error: StoreError) -> StoreError:
    """A fresh copy of an error. One object raised in many tasks would collect all their tracebacks."""
    return type(error)(*error.args)
