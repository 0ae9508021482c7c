"""Holding the input against what a run file has of it, while both stream by.

Each finished row was asked with some content, of which the file keeps a fingerprint. An input that has changed since
would stand beside answers to other questions, so the first row that differs is named and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Collection

from flatout.durable import content, fingerprint
from flatout.durable_run import Stored, mismatch
from flatout.errors import RunMismatch
from flatout.store import Finished, RunFile
from flatout.values import Call

from .recipe import Recipe
from .rows import Row


class Verification:
    """Compares rows with their fingerprints, as `flatout.runs.check.check` comes by them.

    What differs is kept until `conclude`: an input that is unusable further down is told as that, and not as another
    job's.

    Args:
        store: the run file.
        name: its name, for messages.
        recipe: how a row becomes a call.
        again: the states of rows that are to be asked again.

    Attributes:
        kept: rows that need no asking.
    """

    def __init__(self, store: RunFile, name: str, recipe: Recipe, again: Collection[str]) -> None:
        self.kept = 0
        self._store = store
        self._name = name
        self._recipe = recipe
        self._again = again
        self._stored = Stored(store.finished())
        self._difference: RunMismatch | None = None

    def __call__(self, row: Row, call: Call | None) -> None:
        """Compare a row. Every row comes by, in order, with its call where that was made already."""
        known = self._stored.take(row.index)
        if known is None or self._difference is not None:
            return
        try:
            compare(self._store, self._name, row, content(call or self._recipe.call(row)), known)
        except RunMismatch as difference:
            self._difference = difference
        self.kept += known.state not in self._again

    def conclude(self, source: str, rows: int | None) -> None:
        """Refuse an input that differs, or one that has become shorter than ``rows``; None for one cut by a limit.

        Raises:
            RunMismatch: naming the row, the column or parameter, and both values.
        """
        if self._difference is not None:
            raise self._difference
        if rows is not None:
            self._stored.check_nothing_left(self._name, rows, f"{source} has only")


def compare(store: RunFile, name: str, row: Row, made: bytes, known: Finished) -> None:
    """Hold a row's `content` against its fingerprint.

    Raises:
        RunMismatch: they differ.
    """
    if fingerprint(made) != known.fingerprint:
        raise mismatch(name, row.at, store.item(known.index), made, row.columns)
