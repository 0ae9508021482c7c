"""Rows to store, and ways to watch the store at work."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

from flatout.store import Item, ItemState, RunFile

JOB = {"model": "a", "temperature": 0.5}


def item(index: int, state: ItemState = "answered", **changes: Any) -> Item:
    answered = state == "answered"
    fields: dict[str, Any] = {
        "index": index,
        "id": f"row-{index}",
        "fingerprint": index.to_bytes(16, "big"),
        "input": b'{"text": "%d"}' % index,
        "prompt": b'{"messages": []}',
        "state": state,
        "answer": f"answer {index} é" if answered else None,
        "output": b'{"label": "ham"}' if answered else None,
        "error": None if answered else "RateLimited",
        "error_message": None if answered else f"too fast {index}",
        "finish_reason": "stop" if answered else None,
        "model": "openai/m",
        "input_tokens": 10,
        "output_tokens": 3,
        "cost": 0.25,
        "attempts": 1,
        "seconds": 0.5,
        "waits": b'{"provider": 0.5}',
        "finished_at": 1_790_000_000.0 + index,
    }
    return Item(**fields | changes)


def open_run(path: Path, **options: Any) -> RunFile:
    """A run whose writer waits only an instant for more rows, so that tests are fast."""
    return RunFile.open(path, **{"job": JOB, "group_seconds": 0.0} | options)


def copy_as_if_killed(path: Path, to: Path) -> Path:
    """Copy the files as a kill -9 would leave them now."""
    to.parent.mkdir(exist_ok=True)
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copyfile(source, to.with_name(to.name + suffix))
    return to


class Watched(sqlite3.Connection):
    """A connection that calls `watch` with each statement before it runs. If `watch` raises, so does the statement."""

    def watch(self, statement: str) -> None:
        """Tests replace this method."""

    def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
        self.watch(statement)
        return super().execute(statement, *rest)

    def executemany(self, statement: str, *rest: Any) -> sqlite3.Cursor:
        self.watch(statement)
        return super().executemany(statement, *rest)
