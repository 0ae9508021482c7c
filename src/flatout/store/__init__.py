"""The run file: one SQLite file that records what a run has done. One process writes it, anyone may read it.

`RunFile` writes, `RunReader` reads, `salvage` recovers what is left of a damaged file. Modules are loaded when first
used: importing this package does not load SQLite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flatout._lazy import lazy

from .rows import (
    BegunAttempt,
    Choice,
    Counts,
    ErrorCount,
    Finished,
    History,
    Item,
    ItemState,
    JournalEntry,
    Noted,
    Ranked,
    Ranking,
    RunInfo,
    RunState,
    Summary,
    Tried,
    Unsettled,
)

if TYPE_CHECKING:
    from .damaged import salvage
    from .database import RunNotBegun
    from .histories import histories
    from .lock import Holder
    from .reader import RunReader
    from .run_file import RunFile, remove
else:  # not for type checkers: with a __getattr__ they accept misspelt names
    __getattr__ = lazy(
        __name__,
        {
            "damaged": ("salvage",),
            "database": ("RunNotBegun",),
            "histories": ("histories",),
            "lock": ("Holder",),
            "reader": ("RunReader",),
            "run_file": ("RunFile", "remove"),
        },
    )

__all__ = [
    "BegunAttempt",
    "Choice",
    "Counts",
    "ErrorCount",
    "Finished",
    "History",
    "Holder",
    "Item",
    "ItemState",
    "JournalEntry",
    "Noted",
    "Ranked",
    "Ranking",
    "RunFile",
    "RunInfo",
    "RunNotBegun",
    "RunReader",
    "RunState",
    "Summary",
    "Tried",
    "Unsettled",
    "histories",
    "remove",
    "salvage",
]
