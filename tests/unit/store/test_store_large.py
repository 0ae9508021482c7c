"""Run files with large answers: they are read a few at a time."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import astuple

from flatout.store import RunFile, RunReader
from flatout.store.ledger import Batch, Placed
from tests.support.store_samples import item, open_run

LARGE, ROWS = 2 * 1024 * 1024, 12


async def answered(run: RunFile) -> None:
    await run.finish_all(astuple(item(index, answer="x" * LARGE)) for index in range(ROWS))


async def told(run: RunFile) -> None:
    batch = Batch(number=1, target="a/b", key="k", stamp="s", state="intended", rows=ROWS, size=1, intended_at=1.0)
    await run.ledger.intend(batch, b"", [Placed(index, 1, None, bytes(16)) for index in range(ROWS)])
    for index in range(ROWS):
        await run.ledger.results(1, [(index, "answered", 200, bytes(LARGE))])


@pytest.mark.parametrize(
    ("written", "read"), [(answered, lambda run: run.items()), (told, lambda run: run.ledger.rows())]
)
def test_large_rows_are_read_a_few_at_a_time(
    tmp_path: Path, written: Callable[[RunFile], Any], read: Callable[[RunReader], Any]
) -> None:
    """A run whose answers are of 50 MB each could not be collected or exported: 200 of them would be in memory."""
    run = open_run(tmp_path / "large.flatout")
    asyncio.run(written(run))
    run.close_now()
    with RunReader.open(tmp_path / "large.flatout") as reader:
        tracemalloc.start()
        try:
            assert sum(1 for _ in read(reader)) == ROWS
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert most < ROWS * LARGE / 2
