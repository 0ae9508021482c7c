"""A run that was killed while its file was made one again: readers and the next run cope."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flatout.store import RunReader
from tests.support.store_samples import item, open_run


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A file with a hot journal: half of a transaction is in it, and the journal says how to take that back."""
    path = tmp_path / "answers.flatout"
    run = open_run(path)
    asyncio.run(run.finish(item(0, answer="long" * 5_000)))
    run.close_now()
    crashed = tmp_path / "crashed" / path.name
    crashed.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("UPDATE items SET answer = 'half' || answer")
        connection.execute("UPDATE run SET command = hex(zeroblob(100000))")  # more than fits: it is spilt to the file
        for suffix in ("", "-journal"):
            shutil.copyfile(f"{path}{suffix}", f"{crashed}{suffix}")
        connection.execute("ROLLBACK")
    assert crashed.with_name(f"{crashed.name}-journal").stat().st_size > 0
    return crashed


def test_a_reader_takes_back_what_was_half_done(left: Path) -> None:
    """`status` and `export` would refuse the file, and give a wrong reason."""
    with RunReader.open(left) as reader:
        found = reader.item(0)
        assert found is not None
        assert found.answer == "long" * 5_000
    assert [path.name for path in left.parent.iterdir()] == [left.name]


def test_the_next_run_takes_it_back_too(left: Path) -> None:
    """The run could not be gone on with."""
    run = open_run(left)
    assert run.counts().answered == 1
    run.close_now()
