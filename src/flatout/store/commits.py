"""Commit changes in one transaction. If a row is refused, all are written one by one, so that it fails alone.

A fault concerns either one row, whose caller hears of it, or the machine: then nothing of the transaction is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

from flatout.errors import RunDamaged, StoreError
from flatout.text.halves import readable

from . import course, database
from .database import Place
from .ledger import LedgerChange
from .ledger import changes as queries_of_ledger
from .queries import queries
from .watch import Watch

RunChange = Literal["note", "failed", "owe", "lose", "item", "entry", "row", "total", "command", "fact", "mark"]
CourseChange = Literal["stretch", "happening"]
ChangeKind = RunChange | LedgerChange | CourseChange
Waiting = asyncio.Future[None] | None
"""The caller that waits for a change; None if nobody does."""

Changes = tuple[Sequence[tuple[Any, ...]], Waiting]
"""The parameters of one statement for each row, and the caller that waits for all of them."""

# In the order of execution. An attempt is recorded before its item settles it, and is marked as failed before its item
# sums up what is unsettled.
_STATEMENTS: dict[ChangeKind, str] = {
    "note": queries("attempts")["note"],
    "failed": queries("attempts")["failed"],
    "owe": queries("run")["owe"],
    "lose": queries("attempts")["lose"],
    "item": queries("items")["finish"],
    "entry": queries("journal")["enter"],
    "row": queries("items")["revise"],
    "total": queries("run")["set_total"],
    "command": queries("run")["set_command"],
    "fact": queries("run")["set_fact"],
    "mark": queries("run")["mark"],
    **queries_of_ledger(),
    **course.changes(),
}
_ANY_NUMBER: frozenset[ChangeKind] = frozenset({"result", "unrun", "miss", "back", "reopen"})  # of changed rows
_SQL = queries("connection")
_COUNTS = queries("items")["counts"]

# Faults of a single row, as opposed to the machine's.
_ROW_FAULTS = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    UnicodeError,
    OverflowError,
    TypeError,
    ValueError,
)


class _AlreadyAnswered(ValueError):
    """The item already has an answer, which is never replaced."""


class Commits:
    """Commits changes to a run file that is open for writing.

    Args:
        connection: ready for writing; `close` closes it.
        place: for messages.
    """

    def __init__(self, connection: sqlite3.Connection, place: Place) -> None:
        self._connection = connection
        self._place = place
        self._watch = Watch(place, connection)
        self._synchronous = True

    def write(
        self, groups: Sequence[Mapping[ChangeKind, list[Changes]]], *, durable: bool
    ) -> dict[Waiting, StoreError]:
        """Write groups of changes in one transaction. A bad row fails alone.

        Args:
            groups: the changes by kind.
            durable: whether to wait for the disk, and not only for the operating system.

        Returns:
            Why rows were refused, by the callers that wait for them.

        Raises:
            StoreError: the machine failed; nothing is written.
        """
        try:
            with self._watch.transaction():
                self._set_durability(durable)
                try:
                    return self._transact(groups, self._write_fast)
                except _ROW_FAULTS:
                    return self._transact(groups, self._write_singly)
        # Whatever it is, waiting callers must be told: if the writer died silently, the program would hang.
        except BaseException as error:
            database.take_back(self._connection)
            raise self._explain(error) from error

    def check(self) -> None:
        """Check that the file is in its place, and that nothing is missing in it.

        Raises:
            StoreError: it is not.
        """
        try:
            self._watch.check_place()
            self._watch.check_whole()
        except (StoreError, sqlite3.Error) as error:
            raise self._explain(error) from error

    def close(self, *, sound: bool) -> None:
        """Close the connection.

        Args:
            sound: whether nothing has failed; the log is then merged into the file.
        """
        if sound:
            database.retire(self._connection)
        else:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()

    def _set_durability(self, durable: bool) -> None:
        if durable is not self._synchronous:
            self._connection.execute(_SQL["durable" if durable else "handed_over"])
            self._synchronous = durable

    def _transact(
        self,
        groups: Sequence[Mapping[ChangeKind, list[Changes]]],
        write: Callable[[ChangeKind, list[Changes]], dict[Waiting, StoreError]],
    ) -> dict[Waiting, StoreError]:
        rejected: dict[Waiting, StoreError] = {}
        self._connection.execute(_SQL["begin"])
        try:
            for kind in _STATEMENTS:
                pieces = [piece for group in groups for piece in group.get(kind, ()) if piece[0]]
                if pieces:
                    rejected.update(write(kind, pieces))
        except _ROW_FAULTS:
            self._connection.execute(_SQL["rollback"])
            raise
        self._connection.execute(_SQL["commit"])
        return rejected

    def _write_fast(self, kind: ChangeKind, pieces: list[Changes]) -> dict[Waiting, StoreError]:
        cursor = self._connection.executemany(_STATEMENTS[kind], chain.from_iterable(rows for rows, _ in pieces))
        if kind not in _ANY_NUMBER and cursor.rowcount != sum(len(rows) for rows, _ in pieces):
            raise _AlreadyAnswered
        return {}

    def _write_singly(self, kind: ChangeKind, pieces: list[Changes]) -> dict[Waiting, StoreError]:
        """Write row by row, so that a bad row fails alone."""
        rejected: dict[Waiting, StoreError] = {}
        for parameters, waiting in ((parameters, waiting) for rows, waiting in pieces for parameters in rows):
            try:
                self._write_one(kind, parameters)
            except _ROW_FAULTS as error:
                refusal = StoreError(f"{self._place.name} does not take {_subject(kind, parameters)}: {error}")
                rejected.setdefault(waiting, refusal)
        return rejected

    def _write_one(self, kind: ChangeKind, parameters: tuple[Any, ...]) -> None:
        try:
            changed = self._connection.execute(_STATEMENTS[kind], parameters).rowcount
        except UnicodeEncodeError:
            # A lone surrogate, which some JSON decoders let through. The answer was paid for, so keep the rest of it.
            whole = tuple(readable(p) if isinstance(p, str) else p for p in parameters)
            changed = self._connection.execute(_STATEMENTS[kind], whole).rowcount
        if changed != 1 and kind not in _ANY_NUMBER:
            raise _AlreadyAnswered("it already has an answer")

    def _explain(self, error: BaseException) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if isinstance(error, sqlite3.Error):
            explained = database.explain(error, self._place)
            if isinstance(explained, RunDamaged):
                return explained
        what = database.what_failed(error, self._place)
        remedy = "make room, and run it" if what == "the disk is full" else "run it"
        return StoreError(f"{what}: {self._what_is_safe()}; {remedy} again to continue")

    def _what_is_safe(self) -> str:
        try:
            answered = self._connection.execute(_COUNTS).fetchone()[0]
        except sqlite3.Error:
            return f"what was finished before is safe in {self._place.name}"
        return f"{answered:,} {'answer is' if answered == 1 else 'answers are'} safe in {self._place.name}"


def _subject(kind: ChangeKind, parameters: tuple[Any, ...]) -> str:
    number = parameters[-1] if kind == "row" else parameters[0]
    return {"note": "an attempt of item", "entry": "a journal entry of item"}.get(kind, "item") + f" {number}"
