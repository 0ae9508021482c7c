"""Exports of run files in which rows are damaged: all others are written, and the damaged ones are named."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flatout.errors import RunDamaged
from flatout.runs.output.claim import Claim
from flatout.runs.output.export import export
from tests.support.store_samples import item, open_run

HARM = {
    "a wrong type": "UPDATE items SET seconds = 'long' WHERE item_index = 3",
    "no UTF-8": "UPDATE items SET answer = CAST(x'ff' AS TEXT) WHERE item_index = 3",
    "no JSON in the row": "UPDATE items SET input = '{' WHERE item_index = 3",
    "no object in the row": "UPDATE items SET input = '5' WHERE item_index = 3",
    "no JSON in the answer": "UPDATE items SET output = '{' WHERE item_index = 3",
    "no such state": "PRAGMA ignore_check_constraints = 1; UPDATE items SET state = 'x' WHERE item_index = 3",
}


def run_of(folder: Path, harm: str) -> Path:
    path = folder / "answers.flatout"
    run = open_run(path)

    async def fill() -> None:
        await asyncio.gather(*(run.finish(item(n)) for n in range(500)))

    asyncio.run(fill())
    run.close_now()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(harm)
    return path


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("waits", ["{", "[1]", '{"batch": "x"}'])
def test_damaged_waits_cost_no_answer(tmp_path: Path, waits: str) -> None:
    """An answer that was paid for would be lost with a figure that nobody asked for."""
    path, output = run_of(tmp_path, f"UPDATE items SET waits = '{waits}' WHERE item_index = 3"), tmp_path / "out.jsonl"
    assert export(path, output, claim=Claim(overwrite=True)) == 500
    found = rows(output)
    assert found[3]["answer"] == found[2]["answer"]
    assert (found[3]["queued_seconds"], found[2]["queued_seconds"]) == (None, 0.5)


@pytest.mark.parametrize("kind", HARM)
def test_a_damaged_row_costs_no_other_its_place(tmp_path: Path, kind: str) -> None:
    """One bad byte would cost five hundred answers that were paid for."""
    path, output = run_of(tmp_path, HARM[kind]), tmp_path / "out.jsonl"
    with pytest.raises(RunDamaged, match=r"1 row could not be read: 4; all others are written"):
        export(path, str(output))
    assert len(rows(output)) == 499
    output.unlink()
    told: list[str] = []
    assert export(path, str(output), warn=told.append) == 499
    assert told == ["1 row could not be read: 4"]


@pytest.mark.parametrize("kind", HARM)
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_salvage_counts_what_is_missing(tmp_path: Path, kind: str, suffix: str) -> None:
    """Nobody would know that rows are missing, or which."""
    path, told = run_of(tmp_path, HARM[kind]), []
    assert export(path, str(tmp_path / f"out.{suffix}"), salvaged=True, warn=told.append) == 499
    assert told == ["1 row could not be read: 4"]


def test_many_damaged_rows_are_counted_and_the_first_named(tmp_path: Path) -> None:
    """A screen full of numbers, or no number at all."""
    path, told = run_of(tmp_path, "UPDATE items SET seconds = 'x' WHERE item_index % 2 = 1"), []
    assert export(path, str(tmp_path / "out.jsonl"), warn=told.append) == 250
    assert told == ["250 rows could not be read: 2, 4, 6, 8, 10 and 245 more"]


def test_a_run_file_that_lost_results_writes_no_output(tmp_path: Path) -> None:
    """A file that was replaced between the run's end and its output would pass for the run's own."""
    path, output = run_of(tmp_path, "DELETE FROM items WHERE item_index > 100"), tmp_path / "out.jsonl"
    output.write_text("the last good output")
    with pytest.raises(RunDamaged, match="has 101 of this run's 500 results: another program replaced it"):
        export(path, str(output), at_least=500, claim=Claim(overwrite=True))
    assert output.read_text() == "the last good output"
