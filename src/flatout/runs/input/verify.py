"""Compares the input with the run file while both stream past.

The run file keeps a fingerprint of the content that each finished row was asked with. If the input has changed since,
answers would stand beside other questions. So the first row that differs is named, and nothing is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from flatout.durable.mismatch import mismatch
from flatout.durable.records import content, fingerprint
from flatout.durable.run import Stored
from flatout.errors import RunMismatch
from flatout.runs.prompts.recipe import Recipe, row_id
from flatout.runs.stored import restored, stored
from flatout.store import Finished, RunFile, RunReader
from flatout.values import Call

from .rows import Row

_TOGETHER = 500  # rows that are written in one commit


class Verification:
    """Compares the rows that `flatout.runs.input.check.check` passes with their fingerprints.

    A difference is held back until `conclude`. If the input turns out to be unusable further down, that error is
    reported instead.

    Args:
        store: the run file.
        name: its name, for messages.
        recipe: how a row becomes a call.
        again: the states of rows that will be asked again.
        rows: whether the run file should keep the rows as they are now.

    Attributes:
        kept: the number of rows that need no asking.
        outdated: whether a row asks the same question as before, but its other columns changed.
    """

    def __init__(
        self, store: RunFile | RunReader, name: str, recipe: Recipe, again: Collection[str], *, rows: bool
    ) -> None:
        self.kept = 0
        self.outdated = False
        self._store = store
        self._name = name
        self._recipe = recipe
        self._again = again
        self._rows = rows
        self._stored = Stored(store.finished(rows=rows))
        self._difference: RunMismatch | None = None

    def __call__(self, row: Row, call: Call | None, kept: bytes) -> None:
        """Compare a row; see `flatout.runs.input.check.Verify`. All rows must pass, in order."""
        known = self._stored.take(row.index)
        if known is None or self._difference is not None:
            return
        try:
            compare(self._store, self._name, row, content(call or self._recipe.call(row)), known)
        except RunMismatch as difference:
            self._difference = difference
        self.kept += known.state not in self._again
        self.outdated |= self._rows and known.input != kept

    def conclude(self, source: str, rows: int | None) -> None:
        """Refuse an input that differs or has become shorter than ``rows``, which is None if the limit was reached.

        Raises:
            RunMismatch: naming the row, the column or parameter, and both values.
        """
        if self._difference is not None:
            raise self._difference
        if rows is not None:
            self._stored.check_nothing_left(self._name, rows, f"{source} has only")


class Revision:
    """Updates the rows in a run file if only the user's own columns changed in the input."""

    def __init__(self, store: RunFile) -> None:
        self._store = store
        self._waiting: list[tuple[int, str | None, bytes]] = []

    async def see(self, row: Row, known: Finished) -> None:
        """Look at a finished row."""
        kept = stored(row)
        if known.input != kept:
            self._waiting.append((known.index, row_id(row), kept))
        if len(self._waiting) >= _TOGETHER:
            await self.write()

    async def write(self) -> None:
        """Write the rows that are waiting."""
        waiting, self._waiting = self._waiting, []
        await asyncio.gather(*(self._store.revise(*each) for each in waiting))


def compare(store: RunFile | RunReader, name: str, row: Row, made: bytes, known: Finished) -> None:
    """Compare a row's `content` with its fingerprint.

    Raises:
        RunMismatch: they differ.
    """
    if fingerprint(made) != known.fingerprint:
        raise mismatch(name, row.at, store.item(known.index), made, restored(stored(row)))
