"""A run file that is gone from under its run: what was paid for is kept, and the run ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flatout.errors import StoreError
from flatout.store import RunFile, RunReader
from tests.support.store_samples import item, open_run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.flatout"


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for each in path.parent.glob("answers.flatout*"):
        if each.suffix != ".lock":
            each.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    other = path.with_name("other.flatout")
    open_run(other).close_now()
    other.replace(path)


async def broken_off(run: RunFile, path: Path, harm: Callable[[Path], None]) -> StoreError:
    """Ten items, the harm, and then one more; why the run ended."""
    await asyncio.gather(*(run.finish(item(n)) for n in range(10)))
    harm(path)
    with pytest.raises(StoreError) as told:
        await run.finish(item(10))
    with pytest.raises(StoreError):
        await run.note_attempt(11, 1, "m", 0.0, None)
    await run.close()
    return told.value


def answers(path: Path) -> list[int]:
    with RunReader.open(path) as reader:
        return [found.index for found in reader.items("answered")]


@pytest.mark.parametrize("harm", [delete, delete_all, move])
def test_a_deleted_file_is_put_back_whole(path: Path, harm: Callable[[Path], None]) -> None:
    """The run would go on to its end, and write nothing: everything that was paid for is gone with the file."""
    told = asyncio.run(broken_off(open_run(path), path, harm))
    assert "was deleted or moved while this run wrote it: it was put back, with all its answers" in str(told)
    assert answers(path) == list(range(11))
    assert path.stat().st_mode & 0o777 == 0o600
    open_run(path).close_now()
    assert answers(path) == list(range(11))


def test_a_replaced_file_is_left_alone_and_the_run_s_own_kept_beside_it(path: Path) -> None:
    """The answers would be lost, or somebody's file overwritten."""
    told = asyncio.run(broken_off(open_run(path), path, replace))
    kept = path.with_name("answers.flatout.rescued-1")
    assert f"was replaced while this run wrote it: what the run had is kept in {kept}" in str(told)
    assert answers(kept) == list(range(11))
    assert answers(path) == []


@pytest.mark.parametrize("marked", [False, True])  # if it is, nothing is written at the end
def test_a_file_that_is_gone_at_the_end_is_put_back(path: Path, marked: bool) -> None:
    """The last answers would be lost without a word, and the output be empty."""
    run = open_run(path)
    if marked:
        run.mark("finished")
    asyncio.run(run.finish(item(0)))
    path.unlink()
    with pytest.raises(StoreError, match="it was put back"):
        run.close_now()
    assert answers(path) == [0]


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM items WHERE item_index < 5",
        "DELETE FROM items",
        "DELETE FROM items; UPDATE run SET items = 0",
    ],
)
def test_results_that_another_program_deleted_are_missed(path: Path, harm: str) -> None:
    """The output would lack rows that were answered, with exit code 0."""

    def delete_rows(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(harm)

    told = asyncio.run(broken_off(open_run(path), path, delete_rows))
    assert "was changed by another program while this run wrote it" in str(told)
    assert "of its 10 results are left" in str(told)


def test_a_file_that_was_overwritten_in_place_is_noticed(path: Path) -> None:
    """The run would go on into a mixture of two files."""
    empty = path.with_name("empty.flatout")
    open_run(empty).close_now()

    def overwrite(path: Path) -> None:
        shutil.copyfile(empty, path)

    async def main() -> None:
        run = open_run(path)
        await run.finish(item(0, answer="long" * 500_000))  # large enough that the log is folded into the file
        await run.finish(item(1))
        overwrite(path)
        with pytest.raises(StoreError):
            await run.finish(item(2))
        with pytest.raises(StoreError):
            await run.finish(item(3))
        await run.close()

    asyncio.run(main())


def test_a_file_that_was_only_touched_goes_on(path: Path) -> None:
    """A back-up program that sets times would end every run."""

    async def main() -> None:
        async with open_run(path) as run:
            await run.finish(item(0))
            os.utime(path)
            with closing(sqlite3.connect(path)) as other:
                other.execute("UPDATE run SET command = 'mine'")
                other.commit()
            await run.finish(item(1))

    asyncio.run(main())
    assert answers(path) == [0, 1]


def test_results_that_were_deleted_before_the_end_are_missed(path: Path) -> None:
    """A run would end well although its last answers are gone: nothing is written after they were deleted."""
    run = open_run(path)
    run.mark("finished")
    asyncio.run(run.finish(item(0)))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DELETE FROM items")
    with pytest.raises(StoreError, match="0 of its 1 results are left"):
        run.close_now()
