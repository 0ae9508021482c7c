"""Files that are no run files, or can be none: one sentence each, and nothing is harmed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flatout.errors import RunDamaged, StoreError
from flatout.store import RunReader, read_only
from tests.support.store_samples import copy_as_if_killed, item, open_run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.flatout"


def fresh(path: Path) -> object:
    return open_run(path, fresh=True)


either = pytest.mark.parametrize("opening", [open_run, fresh, RunReader.open])
Opening = Callable[[Path], object]


@either
def test_a_folder(path: Path, opening: Opening) -> None:
    """A folder's name given by mistake would end in a traceback."""
    path.mkdir()
    with pytest.raises(StoreError, match="is a folder; a run is kept in a file"):
        opening(path)


@either
def test_no_such_folder(path: Path, opening: Opening) -> None:
    """A typing error in the path would end in a traceback."""
    with pytest.raises(StoreError, match="there is no folder"):
        opening(path / "deeper" / "x.flatout")


@either
@pytest.mark.parametrize("text", ['{"prompt": "x"}\n', "x" * 5000])
def test_a_file_of_text_is_left_alone(path: Path, opening: Opening, text: str) -> None:
    """The input file given as the run file would be overwritten, or moved away."""
    path.write_text(text)
    with pytest.raises(RunDamaged, match=r"answers\.flatout is not a run file"):
        opening(path)
    assert path.read_text() == text
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@either
def test_another_program_s_database_is_left_alone(path: Path, opening: Opening) -> None:
    """A user's own database would get our tables."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is an SQLite database of another program"):
        opening(path)
    assert path.read_bytes() == before


def test_an_empty_file_is_a_new_run(path: Path) -> None:
    """A file made with `touch` or mktemp would be refused."""
    path.touch()
    with pytest.raises(StoreError, match="has nothing in it yet"):
        RunReader.open(path)
    open_run(path).close_now()
    with RunReader.open(path) as found:
        assert found.counts().finished == 0


def test_a_file_that_was_killed_at_birth_is_a_new_run(path: Path) -> None:
    """A kill in the first millisecond would leave a file that nothing opens."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    open_run(path).close_now()


def test_a_missing_file_is_not_made_by_looking(path: Path) -> None:
    """`status` of a misspelt name would create a file."""
    with pytest.raises(StoreError, match="there is no run file"):
        RunReader.open(path)
    assert list(path.parent.iterdir()) == []


def test_an_emptied_file_with_a_log_is_damaged(path: Path) -> None:
    """SQLite would delete the log, and with it answers that could still be told to be missing."""

    async def main() -> Path:
        async with open_run(path) as run:
            await run.finish(item(0))
            return copy_as_if_killed(path, path.parent / "crashed" / path.name)

    crashed = asyncio.run(main())
    log = crashed.with_name(crashed.name + "-wal")
    crashed.write_bytes(b"")
    for opening in (open_run, RunReader.open):
        with pytest.raises(RunDamaged, match="it is empty, but the log beside it is not"):
            opening(crashed)
    kept = log.read_bytes()
    open_run(crashed, fresh=True).close_now()
    assert crashed.with_name(f"{crashed.name}.1-wal").read_bytes() == kept


def test_a_stale_log_of_a_deleted_file_is_no_hindrance(path: Path) -> None:
    """Whoever deletes a crashed run's file to start over would get a mixture, or an error."""

    async def main() -> Path:
        async with open_run(path) as run:
            await run.finish(item(0))
            return copy_as_if_killed(path, path.parent / "crashed" / path.name)

    crashed = asyncio.run(main())
    crashed.unlink()
    run = open_run(crashed)
    assert run.counts().finished == 0
    run.close_now()


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (8192, r"is damaged \(database disk image is malformed\); flatout export --salvage recovers"),
        (-1, "is damaged: its end is cut off"),
    ],
)
def test_a_damaged_run_may_be_put_aside(path: Path, size: int, words: str) -> None:
    """--fresh would be refused just when it is needed."""
    run = open_run(path)
    asyncio.run(run.finish(item(0, answer="long" * 5_000)))  # so that the last page holds no table's description
    run.close_now()
    cut = path.read_bytes()[:size]
    path.write_bytes(cut)
    with pytest.raises(RunDamaged, match=words):
        open_run(path)
    open_run(path, fresh=True).close_now()
    assert path.with_name(f"{path.name}.1").read_bytes() == cut


def failing_to_open(code: int) -> Callable[..., sqlite3.Connection]:
    """`connect` as SQLite behaves in a folder where it may not write: only an immutable view can be had."""
    real = read_only.connect

    def connect(place: object, mode: str) -> sqlite3.Connection:
        if mode == "immutable":
            return real(place, mode)  # type: ignore[arg-type] # handed through
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = code
        raise error

    return connect


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY_DIRECTORY])
def test_a_read_only_folder_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A run on a read-only disk could not be exported; or, worse, would be shown without its newest answers."""
    run = open_run(path)
    asyncio.run(run.finish(item(0)))
    crashed = copy_as_if_killed(path, path.parent / "crashed" / path.name)
    run.close_now()
    monkeypatch.setattr(read_only, "connect", failing_to_open(code))
    with RunReader.open(path) as found:
        assert found.item(0) == item(0)
    with pytest.raises(StoreError, match="has a log beside it, and its folder is read-only: copy both"):
        RunReader.open(crashed)


def test_a_read_only_folder_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in a read-only folder would start, pay, and lose its answers."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("flatout.store.lock.os.open", refuse)
    with pytest.raises(StoreError, match="cannot be written there: Permission denied"):
        open_run(path)


def test_values_of_the_wrong_type_are_damage(path: Path) -> None:
    """A file edited by hand would crash the export with a traceback, far from the cause."""
    run = open_run(path)
    asyncio.run(run.finish(item(0)))
    run.close_now()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE items SET seconds = 'long'")
        connection.commit()
    with RunReader.open(path) as found, pytest.raises(RunDamaged, match=r"damaged at item 0: .*seconds"):
        list(found.items())
