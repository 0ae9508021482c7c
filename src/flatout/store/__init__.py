"""The run file: one SQLite file that records what a run has done. One process writes it, anyone may read it.

`RunFile` writes, `RunReader` reads, `salvage` recovers what is left of a damaged file. Modules are loaded when first
used: importing this package does not load SQLite.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .rows import (
    Attempt,
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
    from .lock import Holder
    from .reader import RunReader
    from .run_file import RunFile, remove

__all__ = [
    "Attempt",
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
    "RunReader",
    "RunState",
    "Summary",
    "Tried",
    "Unsettled",
    "remove",
    "salvage",
]

_LAZY = {"Holder": "lock", "RunFile": "run_file", "RunReader": "reader", "remove": "run_file", "salvage": "damaged"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
