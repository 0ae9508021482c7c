"""The run file: one SQLite file in which a run records its results as they come.

It answers one question reliably: is this item done? An answer that was reported as done is in the file. So a killed run
continues where it was, and pays again only for what was in flight. One process writes; anyone may read, with any SQLite
tool, at any time.

What holds: after a kill -9 at any instant, everything acknowledged is there. The same is true after a power loss if the
disk honours fsync.

What cannot hold: while the file is being written, its newest answers are in SQLite's log beside it (``-wal``). Somebody
who deletes the log, cuts it short, or copies the file without it loses those answers. flatout cannot notice: an intact
but shorter log looks the same. A file emptied to 0 bytes, with its log gone, looks new.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import msgspec
from msgspec.structs import astuple

from flatout.errors import StoreError

from . import database
from .course import Happening, Stretch
from .database import Place
from .ledger import Ledger
from .lock import Lock
from .reader import RunReader
from .rows import Counts, Finished, Item, JournalEntry, RunState, Unsettled
from .taking_up import move_aside, take_up
from .writer import Writer

_OPEN: WeakSet[RunFile] = WeakSet()


class RunFile:
    """A run that is being written. Make one with `RunFile.open`, and close it.

    Attributes:
        created_at: when the run began, in any process; Unix time.
        opened_at: when this process took it up.
        spent_before: US dollars that earlier processes spent on it. Unknown costs count by their estimates.
        answered_before: whether they got an answer for any row.
        moved: where ``fresh`` moved an old run; None if there was none.
        ledger: what the batch lane has handed to providers.
    """

    def __init__(
        self, lock: Lock, place: Place, connection: sqlite3.Connection, reader: RunReader, **options: Any
    ) -> None:
        self._place = place
        self._reader = reader
        self.moved: Path | None = options.pop("moved")
        self._keep_prompts: bool = options.pop("keep_prompts")
        self._marked = False
        info = reader.info()
        self.created_at, self.opened_at = info.created_at, info.opened_at
        self.spent_before = reader.spent()
        self.answered_before = reader.has_answers()
        self._had_journal = reader.has_journal()
        self._lock = lock
        self._writer = Writer(connection, place, on_closed=lock.release, **options)
        self.ledger = Ledger(reader, self._writer)
        # The thread is a daemon: without this, a program that ends without closing would lose what is not yet written.
        atexit.register(self.close_now)
        _OPEN.add(self)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        job: Mapping[str, Any],
        command: str | None = None,
        fresh: bool = False,
        keep_prompts: bool = True,
        group_seconds: float = 0.02,
        group_rows: int = 500,
    ) -> Self:
        """Begin a run, or continue it.

        Args:
            path: the file; it is created if missing. Its folder must exist.
            job: what makes two answers comparable (model, templates, parameters …): a flat mapping of JSON values.
                It is stored, so it must not hold secrets.
            command: the command line that continues the run, for people. That of an old run stays until `set_command`:
                a job that is refused later must not leave its own.
            fresh: move an old run aside (to ``<path>.1``, ``.2`` …) and start over.
            keep_prompts: whether `Item.prompt` is stored.
            group_seconds: the longest that a finished item waits for others to be committed with.
            group_rows: the most rows in one commit group.

        Raises:
            RunLocked: another process (or this one) is writing it; the message says which.
            RunMismatch: it belongs to another job; the message names the first difference.
            RunDamaged: it is not a readable run file.
            StoreError: it is a folder, read-only, of another program, or of a newer flatout.
        """
        place = Place.of(path)
        lock = Lock.acquire(place)
        try:
            with database.explained(place):
                moved = move_aside(place) if fresh else None
                connection = take_up(place, dict(job), command, keep_prompts)
                try:
                    return cls(
                        lock,
                        place,
                        connection,
                        RunReader.open(path),
                        moved=moved,
                        keep_prompts=keep_prompts,
                        group_seconds=group_seconds,
                        group_rows=group_rows,
                    )
                except BaseException:
                    database.retire(connection)
                    raise
        except BaseException:
            lock.release()
            raise

    # Writing

    async def finish(self, item: Item) -> None:
        """Write a finished item; return once the disk has it. A failed or unsent item is replaced.

        Thousands may finish at once: they are committed together, and return in that order. Cancelling the wait does
        not withdraw the item.

        Raises:
            StoreError: the item already has an answer, or cannot be stored. Or the disk failed: then the file accepts
                nothing further, but holds everything that was acknowledged before.
        """
        if item.prompt is not None and not self._keep_prompts:
            item = msgspec.structs.replace(item, prompt=None)
        await self._writer.hand_in("item", astuple(item))

    async def note_attempt(
        self,
        index: int,
        attempt: int,
        target: str,
        started_at: float,
        estimated_cost: float | None,
        place: str | None = None,
        after: str | None = None,
    ) -> None:
        """Record an attempt that is about to be sent; return once the operating system has the record.

        The record survives this process, but not a power loss. It only says what a crash may have cost, and waiting
        for the disk before each attempt would cost more. The attempt's outcome is written with its item.

        Args:
            index: the item's index.
            attempt: its number, from 1.
            target: where it goes, for people.
            started_at: Unix time.
            estimated_cost: US dollars; None if unknown.
            place: the step of a durable function that it is for; the step's journal entry settles it.
            after: why the attempt before it failed. It is stored, so it must not hold secrets.
        """
        note = (index, attempt, target, started_at, estimated_cost, place, after)
        await self._writer.hand_in("note", note, durable=False)

    def note_all(self, notes: Iterable[tuple[Any, ...]]) -> asyncio.Future[None]:
        """`note_attempt` for many: the future is done when the operating system has all records.

        Args:
            notes: the parameters of `note_attempt`, in their order, all of them.
        """
        return self._writer.hand_in("note", *notes, durable=False)

    def finish_all(self, items: Iterable[tuple[Any, ...]]) -> asyncio.Future[None]:
        """`finish` for many: the future is done when the disk has all items.

        Args:
            items: each Item's values, in their order; without the prompt if the file keeps none.
        """
        return self._writer.hand_in("item", *items)

    async def lose(self, attempts: Iterable[tuple[int, int]]) -> None:
        """Record that attempts were in flight when their process died; return once the disk has it.

        They are settled with that: they may have been paid for, so they count by their estimates.

        Args:
            attempts: each item's index, and the attempt's number. Each was recorded, and is not settled.
        """
        lost = list(attempts)
        for commit in [self._writer.hand_in(kind, *lost) for kind in ("owe", "lose")]:
            await commit

    def note_failed(self, index: int, attempt: int, place: str | None = None, *, billed: bool) -> None:
        """Record that an attempt failed, so it is no longer in flight. It is written soon.

        Args:
            index: the item's index.
            attempt: its number, as in `note_attempt`.
            place: the step, as in `note_attempt`.
            billed: whether it may be paid for. Otherwise it is no longer in doubt.
        """
        self._writer.add("failed", (billed, index, attempt, place))

    async def journal(
        self, index: int, place: str, fingerprint: bytes, kind: str, value: bytes, cost: float | None = None
    ) -> None:
        """Write the result of a step of a durable function (as JSON); return once the disk has it.

        A new result of the same step replaces the old one. ``cost`` is what the step's own calls cost, in US dollars.
        None means unknown: then its recorded attempts count by their estimates.
        """
        await self._writer.hand_in("entry", (index, place, fingerprint, kind, value, cost, time.time()))

    async def revise(self, index: int, id: str | None, row: bytes) -> None:
        """Replace the stored input row of a finished item by the current one; return once the disk has it.

        The question and the answer stay: only the user's own columns around them have changed.
        """
        await self._writer.hand_in("row", (id, row, index))

    def note_stretch(self, stretch: Stretch) -> None:
        """Record what a target did in a stretch of time. It is written soon; after a fault it is dropped."""
        self._writer.add("stretch", stretch.row())

    def note_happening(self, happening: Happening) -> None:
        """Record what happened. It is written soon; after a fault it is dropped."""
        self._writer.add("happening", astuple(happening))

    def set_fact(self, name: str, value: Any) -> None:
        """Store one fact about the whole run, a JSON value. It is written soon; `close` waits for it."""
        self._writer.change("fact", (name, msgspec.json.encode(value)))

    def set_fact_now(self, name: str, value: Any) -> None:
        """`set_fact`, and wait until the disk has it. It blocks: call it in another thread than the event loop's.

        Raises:
            StoreError: the disk failed.
        """
        self._writer.change_now("fact", (name, msgspec.json.encode(value)))

    def set_total(self, total: int | None) -> None:
        """Store how many items the input has. It is written soon; `close` waits for it."""
        self._writer.change("total", (total,))

    def set_command(self, command: str | None) -> None:
        """Store the command line that continues the run. It is written soon; `close` waits for it."""
        self._writer.change("command", (command,))

    def mark(self, state: RunState, ended_at: float | None = None) -> None:
        """Store the run's new state. It is written soon; `close` waits for it.

        Args:
            state: the state.
            ended_at: when it ended, unless it goes on; Unix time; by default now.
        """
        self._marked = True
        at = time.time() if ended_at is None else ended_at
        self._writer.change("mark", (state, None if state == "running" else at))
        if state != "running":
            self._writer.change("happening", astuple(Happening(at=at, kind="end", what=state)))

    # Reading

    def counts(self) -> Counts:
        """How many items ended in each state. Reads every row: about 0.3 s a million."""
        return self._reader.counts()

    def ended_from(self, start: int) -> int:
        """See `RunReader.ended_from`."""
        return self._reader.ended_from(start)

    @property
    def total(self) -> int | None:
        """The rows of the whole input; None if that is not known."""
        return self._reader.info().total

    def finished(self, start: int = 0, *, rows: bool = False) -> Iterator[Finished]:
        """See `RunReader.finished`."""
        return self._reader.finished(start, rows=rows)

    def fact(self, name: str) -> Any:
        """See `RunReader.fact`."""
        return self._reader.fact(name)

    def items(self) -> Iterator[Item]:
        """The finished items, complete, in index order; constant memory."""
        return self._reader.items()

    def failed(self) -> Iterator[Item]:
        """The failed and unsent items, in index order; constant memory."""
        return self._reader.items("failed")

    def item(self, index: int) -> Item | None:
        """One item; None if it is not finished."""
        return self._reader.item(index)

    async def journalled(self, index: int) -> dict[str, JournalEntry]:
        """The steps of one item that earlier processes journalled, by place."""
        return await asyncio.to_thread(self._reader.journal, index) if self._had_journal else {}

    def unsettled(self) -> Unsettled:
        """Attempts of earlier processes that died before their end. They may have been paid for nothing."""
        return self._reader.unsettled()

    # Closing

    async def close(self) -> None:
        """Commit everything and leave a single file. A run without a final state is marked as interrupted.

        Raises:
            StoreError: the disk failed, and no caller has been told yet.
        """
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """`close`, blocking: for use without an event loop, from any thread. Harmless if already done."""
        atexit.unregister(self.close_now)
        try:
            if not self._marked:
                self.mark("interrupted")
            self._reader.close()
        finally:
            self._writer.close()

    def abandon(self) -> None:
        """In a forked child: leave the run to the parent, which has the writer thread."""
        atexit.unregister(self.close_now)
        self._lock.abandon()
        self._writer.abandon()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _abandon_all() -> None:
    for run in list(_OPEN):
        run.abandon()


os.register_at_fork(after_in_child=_abandon_all)


def remove(path: str | os.PathLike[str]) -> bool:
    """Remove a run file, unless somebody is writing it. Returns whether it is gone."""
    place = Place.of(path)
    try:
        lock = Lock.acquire(place)
    except StoreError:
        return False
    try:
        for beside in ("-wal", "-shm", "-journal"):
            place.beside(beside).unlink(missing_ok=True)
        place.path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        lock.release()
    return True
