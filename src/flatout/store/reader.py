"""Read a run file: while it is being written, after a crash, or in a read-only folder.

A reader holds the file only for one batch of rows. SQLite cannot merge its log into the file beyond the point that some
reader still sees. An export into a pipe may take hours, and a reader that kept one view for all that time would let the
log grow for hours. The price is small: rows come in order, each once and complete, but rows that finish during the
reading may or may not be among them.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
from msgspec import structs

from flatout.errors import RunDamaged, StoreError
from flatout.values.route import Share

from . import versions
from .course import CourseReader
from .database import Place, RunNotBegun, check_version, explained, first_rows
from .job import check_same_job
from .ledger import LedgerReader
from .lock import Holder, holder
from .queries import queries
from .read_only import open_to_read
from .rows import (
    NONE_AGAIN,
    AskedAgain,
    BegunAttempt,
    Choice,
    Counts,
    ErrorCount,
    Finished,
    History,
    Item,
    JournalEntry,
    Noted,
    Ranked,
    Ranking,
    RunInfo,
    Summary,
    Tried,
    Unsettled,
)
from .schema import check_schema

Damaged = Callable[[int], object]
"""A callback for the index of an item that cannot be read."""

LAST = 2**63 - 1
"""The highest index that a file can hold."""

_ITEMS = queries("items")
_ATTEMPTS = queries("attempts")
_NOTHING = "has nothing in it yet"
_WITHOUT_COURSE = _ITEMS["items"].replace("seconds, provider_seconds,", "seconds, NULL,")
_RANKED_WITHOUT_COURSE = _ITEMS["ranked"].replace("provider_seconds", "NULL")
_WITHOUT_TRAILS = _WITHOUT_COURSE.replace("CAST(trail AS BLOB)", "NULL")

_SHARE = Share.__struct_fields__
_PLACE = re.compile(r"\$\[(\d+)\]")  # of a column

_LIGHT_BATCH = 5_000
"""Rows read at once, without their long columns."""

_LATEST = 10_000
"""Attempts whose reasons are counted."""

_BATCH = 200
"""Whole items read at once; each may hold a long prompt."""

_LONG = tuple(Item.__struct_fields__.index(name) for name in ("input", "prompt", "answer", "output"))
"""The columns of an item that may be long."""


class RunReader:
    """A read-only view of a run file. Each method sees what is committed when it is called.

    Every method raises `RunDamaged` if what it reads is damaged, and `StoreError` if the file cannot be read.
    """

    def __init__(self, place: Place, connection: sqlite3.Connection, version: int) -> None:
        self._place = place
        self._version = version
        self._connection = connection
        self._items = _ITEMS["items"]
        if version < versions.COURSE:
            self._items = _WITHOUT_COURSE if version >= versions.TRAILS else _WITHOUT_TRAILS

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, half_upgraded: bool = False) -> Self:
        """Open a run file for reading. This locks nothing, and changes nothing except what a kill left half done.

        Args:
            path: the file.
            half_upgraded: accept a file that is between two versions.

        Raises:
            StoreError: the file does not exist or may not be read, another program or version wrote it, or it holds
                something that flatout did not make.
            RunDamaged: it is not a readable run file.
        """
        place = Place.of(path)
        if not place.path.exists():
            raise StoreError(f"there is no run file {place.name}")
        place.check_not_emptied()
        connection, version = open_to_read(place)
        try:
            check_version(version, place)
            if version < versions.READABLE:
                if not version:
                    raise RunNotBegun(f"{place.name} {_NOTHING}")
                raise StoreError(f"{place.name} was written by an older flatout; continue the run to update it")
            with explained(place):
                check_schema(connection, version, place.name, half_upgraded=half_upgraded)
        except StoreError:
            connection.close()
            raise
        return cls(place, connection, version)

    def close(self) -> None:
        """Close. Harmless if already done."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # The run

    @property
    def name(self) -> str:
        """The run file, as it was named."""
        return self._place.name

    def info(self) -> RunInfo:
        """The job, the command, the state, the total and the times."""
        rows = self._rows(queries("run")["run"])
        if not rows:
            raise RunNotBegun(f"{self._place.name} {_NOTHING}")
        job, command, state, total, keep_prompts, created_at, opened_at, ended_at = rows[0]
        try:
            described = msgspec.json.decode(job, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise RunDamaged(f"{self._place.name} is damaged: its job cannot be read ({error})") from error
        return RunInfo(
            job=described,
            command=command,
            state=state,
            total=total,
            keep_prompts=bool(keep_prompts),
            created_at=created_at,
            opened_at=opened_at,
            ended_at=ended_at,
        )

    def check_job(self, job: Mapping[str, Any]) -> None:
        """Refuse another job than the file's, as `RunFile.open` does.

        Raises:
            RunMismatch: the file belongs to another job.
        """
        check_same_job(self.name, self.info().job, job, self._holds_nothing)

    def _holds_nothing(self) -> bool:
        return self._version >= versions.COURSE and bool(self._one(queries("run")["holds_nothing"])[0])

    def fact(self, name: str) -> Any:
        """The value that `RunFile.set_fact` stored under a name; None if there is none."""
        if self._version < versions.FACTS:
            return None
        found = self._rows(queries("run")["fact"], (name,))
        return msgspec.json.decode(found[0][0]) if found else None

    def holder(self) -> Holder | None:
        """The process that writes the run now; None if there is none."""
        return holder(self._place)

    def counts(self) -> Counts:
        """How many items ended in each state."""
        return Counts(*self._one(_ITEMS["counts"]))

    def ended(self, again: AskedAgain = NONE_AGAIN) -> Counts:
        """`counts` without the items that are asked again. Reads only those without an answer, in a file of today."""
        if self._version < versions.INDEXED:
            summary = self.summary(again)
            return Counts(summary.answered, summary.failed, summary.unsent)
        return Counts(*self._one(_ITEMS["ended"], structs.asdict(again)))

    def ended_from(self, start: int) -> int:
        """How many items from an index on were answered or failed."""
        (count,) = self._one(_ITEMS["ended_from"], (start,))
        return int(count)

    def summary(self, again: AskedAgain = NONE_AGAIN) -> Summary:
        """Counts, tokens and money, and how much of each is unknown. Reads the whole file: 0.5 s a million items.

        Args:
            again: the items that are asked again, and do not count as finished.
        """
        return Summary(*self._one(_ITEMS["summary"], structs.asdict(again)))

    def shares(self) -> dict[str, Share]:
        """What each target of a route did, by its name, in the order of answers. Reads the whole file."""
        if self._version < versions.TRAILS:
            return {}
        found = self._rows(_ITEMS["shares"])
        return {target: msgspec.convert(dict(zip(_SHARE, sums, strict=True)), Share) for target, *sums in found}

    def spent(self) -> float:
        """US dollars that all processes have spent on the run. Unknown costs count by their estimates."""
        return float(self._one(queries("run")["spent"])[0])

    def has_answers(self) -> bool:
        """Whether at least one item has an answer."""
        return bool(self._one(_ITEMS["has_answers"])[0])

    def unusable(self) -> bool:
        """Whether a model said something in at least one item that has no usable answer."""
        return bool(self._one(_ITEMS["unusable"])[0])

    def has_cached(self) -> bool:
        """Whether an answer of at least one item came from a cache: it took no attempt."""
        return bool(self._one(_ITEMS["has_cached"])[0])

    def has_trails(self) -> bool:
        """Whether at least one item had a choice of targets."""
        return self._version >= versions.TRAILS and bool(self._one(_ITEMS["has_trails"])[0])

    def errors(self, again: AskedAgain = NONE_AGAIN) -> list[ErrorCount]:
        """Failures by class, most frequent first, each with its first example; see `ended`."""
        return [ErrorCount(*row) for row in self._rows(_ITEMS["errors"], structs.asdict(again))]

    def unsettled(self) -> Unsettled:
        """Attempts whose process died before they ended. They may have been paid for nothing."""
        rows = self._rows(_ATTEMPTS["unsettled"], {"in_flight": self.holder() is None})
        return Unsettled(tuple(BegunAttempt(*row) for row in rows))

    def reasons(self, most: int = 1) -> list[tuple[str, int]]:
        """Why attempts failed that were followed by others, among the latest attempts: the most frequent first."""
        return self._rows(_ATTEMPTS["reasons"], {"latest": _LATEST, "most": most})

    # Its items

    def items(
        self, select: Choice = "all", *, first: int = 0, last: int = LAST, damaged: Damaged | None = None
    ) -> Iterator[Item]:
        """Items in index order: all, only the answered, or only the failed (including the unsent).

        Uses constant memory. See the module's docstring for what a reader sees of a run in progress. ``damaged`` is
        called with the index of each item that cannot be read; without it, the first one raises `RunDamaged`.
        """
        if select not in ("all", "answered", "failed"):
            raise ValueError(f"select is 'all', 'answered' or 'failed', not {select!r}")
        while True:
            try:
                asked = {"first": first, "last": last, "choice": select, "most": _BATCH}
                batch = [self._item(row) for row in self.select(self._items, asked, long=_LONG)]
                indices = [item.index for item in batch]
            except RunDamaged:
                if damaged is None:
                    raise
                indices = [index for (index,) in self._rows(_ITEMS["indices"], (first, last, _BATCH))]
                batch = self._one_by_one(indices, select, damaged)
            yield from batch
            if not indices:
                return
            first = indices[-1] + 1

    def _one_by_one(self, indices: list[int], select: Choice, damaged: Damaged) -> list[Item]:
        """Those items that can be read."""
        found: list[Item] = []
        for index in indices:
            try:
                found += self.batch(index, index, select)
            except RunDamaged:
                damaged(index)
        return found

    def batch(self, first: int, last: int, select: Choice = "all", most: int = _BATCH) -> list[Item]:
        """The first items with an index from ``first`` to ``last``, both included."""
        rows = self._rows(self._items, {"first": first, "last": last, "choice": select, "most": most})
        return [self._item(row) for row in rows]

    def item(self, index: int) -> Item | None:
        """One item; None if it is not finished."""
        found = self.batch(index, index)
        return found[0] if found else None

    def finished(self, start: int = 0, *, rows: bool = False) -> Iterator[Finished]:
        """Index, fingerprint and state of the finished items, in index order from ``start``; constant memory.

        Args:
            start: the first index.
            rows: read the input's own rows too, which takes longer.
        """
        statement, most = (_ITEMS["finished_rows"], _BATCH) if rows else (_ITEMS["finished"], _LIGHT_BATCH)
        while batch := self._rows(statement, (start, most)):
            for row in batch:
                yield Finished(*row)
            start = batch[-1][0] + 1

    def journal(self, index: int) -> dict[str, JournalEntry]:
        """The journalled steps of one item by place, in the order in which they were first written."""
        return {place: JournalEntry(*rest) for place, *rest in self._rows(queries("journal")["journal"], (index,))}

    def has_journal(self) -> bool:
        """Whether any step of any item is journalled."""
        return bool(self._one(queries("journal")["any"])[0])

    def history(self, index: int) -> History:
        """Everything that is known about one item, finished or not. Reads every attempt: about 0.1 s a million."""
        return History(
            index=index,
            item=self.item(index),
            attempts=tuple(Tried(*row) for row in self._rows(_ATTEMPTS["tried"], (index,))),
            journal=tuple(Noted(*row) for row in self._rows(queries("journal")["noted"], (index,))),
        )

    def ranked(self, by: Ranking, most: int) -> list[Ranked]:
        """The slowest or costliest finished items, or the failed ones in input order. Reads all items."""
        statement = _ITEMS["ranked"] if self._version >= versions.COURSE else _RANKED_WITHOUT_COURSE
        return [Ranked(*row) for row in self._rows(statement, {"by": by, "most": most})]

    def named(self, id: str, most: int = 10) -> list[int]:
        """The indices of the finished items with an id. Reads all items."""
        return [index for (index,) in self._rows(_ITEMS["named"], (id, most))]

    def index_answers(self) -> None:
        """Prepare for `answered`. The index is temporary: nothing is written to the file."""
        with explained(self._place):
            for statement in ("list_answers", "index_answers"):
                self._connection.execute(_ITEMS[statement])

    def answered(self, fingerprint: bytes) -> Item | None:
        """The first answered item with a fingerprint; None if there is none. Call `index_answers` first."""
        found = self._rows(_ITEMS["answered"], (fingerprint,))
        return self.item(found[0][0]) if found else None

    def highest_index(self) -> int:
        """The highest index of a finished item; -1 if there is none."""
        (highest,) = self._one(_ITEMS["last_index"])
        return -1 if highest is None else int(highest)

    @property
    def ledger(self) -> LedgerReader | None:
        """The ledger of the batch lane; None in a file of an earlier version, which has none."""
        return LedgerReader(self, former=self._version < versions.ANSWERS) if self._version >= versions.LEDGER else None

    @property
    def course(self) -> CourseReader | None:
        """The course of the run; None in a file of an earlier version, which has none."""
        return CourseReader(self, former=self._version < versions.DEEDS) if self._version >= versions.COURSE else None

    @property
    def knows_failed(self) -> bool:
        """Whether the file says of an attempt in doubt whether it has failed. One of an earlier version does not."""
        return self._version >= versions.FAILED

    def select(self, statement: str, parameters: Any = (), *, long: Sequence[int] = ()) -> list[tuple[Any, ...]]:
        """Run a statement that reads, for the parts of the file with a module of their own.

        See `flatout.store.database.first_rows` for ``long``.
        """
        if not long:
            return self._rows(statement, parameters)
        with explained(self._place):
            return first_rows(self._connection.execute(statement, parameters), long)

    def _item(self, row: tuple[Any, ...]) -> Item:
        try:
            return msgspec.convert(row, Item)
        except msgspec.ValidationError as error:
            why = _PLACE.sub(lambda place: f"$.{Item.__struct_fields__[int(place[1])]}", str(error))
            raise RunDamaged(f"{self._place.name} is damaged at item {row[0]}: {why}") from error

    def _one(self, statement: str, parameters: Any = ()) -> tuple[Any, ...]:
        return self._rows(statement, parameters)[0]

    def _rows(self, statement: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        with explained(self._place):
            return self._connection.execute(statement, parameters).fetchall()
