"""The run file when the machine fails: kill -9, a full disk, a failing disk, files cut short.

What is promised is tested here. What cannot be: SQLite's log that was cut short *after* it was synced (deleted, copied
half, a disk that lies about fsync) looks like an older, sound log. Then the newest answers are missing and nobody can
tell; the rows that are there are whole, and the run goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flatout.errors import RunDamaged, StoreError
from flatout.store import Item, RunFile, RunReader, database

PAGE = 4096
FRAME = PAGE + 24  # of the log, after its header of 32 bytes
JOB = {"model": "m"}


def item(index: int) -> Item:
    return Item(
        index=index,
        fingerprint=index.to_bytes(16, "big"),
        state="answered",
        answer=f"{index} " * 60,
        cost=0.25,
        attempts=1,
        finished_at=float(index),
    )


def read_all(path: Path) -> list[Item]:
    with RunReader.open(path) as reader:
        return list(reader.items())


def copy(path: Path, to: Path) -> Path:
    to.parent.mkdir(exist_ok=True)
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copyfile(source, to.with_name(to.name + suffix))
    return to


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.flatout"


# A disk that fails, at every statement in turn


class Faulty(sqlite3.Connection):
    """A connection whose n-th statement of a kind fails, before or after it takes effect."""

    kind = ""
    after = False
    left = 0
    error: Exception
    seen = 0

    def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
        return self._run(super().execute, statement, *rest)

    def executemany(self, statement: str, *rest: Any) -> sqlite3.Cursor:
        return self._run(super().executemany, statement, *rest)

    def _run(self, real: Callable[..., sqlite3.Cursor], statement: str, *rest: Any) -> sqlite3.Cursor:
        cls = type(self)
        if not cls.kind or not statement.startswith(cls.kind):
            return real(statement, *rest)
        cls.seen += 1
        if cls.seen == cls.left:
            if cls.after:
                real(statement, *rest)
            raise cls.error
        return real(statement, *rest)


def disk_error(code: int, name: str, text: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[Faulty]:
    monkeypatch.setattr(database, "connection_class", Faulty)
    for name, value in {"kind": "", "after": False, "left": 1, "seen": 0, "error": FULL}.items():
        monkeypatch.setattr(Faulty, name, value, raising=False)
    return Faulty


FULL = disk_error(sqlite3.SQLITE_FULL, "SQLITE_FULL", "database or disk is full")
WRITE = disk_error(sqlite3.SQLITE_IOERR_WRITE, "SQLITE_IOERR_WRITE", "disk I/O error")
FSYNC = disk_error(sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC", "disk I/O error")


@pytest.mark.parametrize("left", [1, 2, 5])
@pytest.mark.parametrize(
    ("kind", "error", "after", "words"),
    [
        ("COMMIT", FULL, False, "the disk is full: {} safe in {}; make room, and run it again to continue"),
        ("COMMIT", FSYNC, False, "the disk failed (SQLITE_IOERR_FSYNC): {} safe in {}; run it again to continue"),
        ("COMMIT", FSYNC, True, "the disk failed (SQLITE_IOERR_FSYNC): {} safe in {}; run it again to continue"),
        (
            "INSERT INTO items",
            WRITE,
            False,
            "the disk failed (SQLITE_IOERR_WRITE): {} safe in {}; run it again",
        ),
        ("BEGIN", FULL, False, "the disk is full: {} safe in {}; make room, and run it again to continue"),
        ("PRAGMA synchronous", FULL, False, "the disk is full: {} safe in {}; make room, and run it again"),
    ],
)
def test_a_fault_is_told_to_all_and_ends_the_writing(
    path: Path,
    faulty: type[Faulty],
    kind: str,
    error: sqlite3.OperationalError,
    after: bool,
    words: str,
    left: int,
) -> None:
    """A full disk would hang the run, lose answers that were reported as done, or be retried for ever."""
    faulty.error, faulty.after, faulty.left = error, after, left
    acknowledged: list[Item] = []
    failures: list[StoreError] = []

    async def finish(run: RunFile, index: int) -> None:
        try:
            await run.note_attempt(index, 1, "t", 1.0, 0.5)
            await run.finish(item(index))
        except StoreError as failed:
            failures.append(failed)
        else:
            acknowledged.append(item(index))

    async def main() -> None:
        run = RunFile.open(path, job=JOB, group_rows=4, group_seconds=0.001)
        faulty.kind = kind
        async with asyncio.timeout(20):
            for start in range(0, 80, 16):
                await asyncio.gather(*(finish(run, index) for index in range(start, start + 16)))
            faulted_at = faulty.seen
            for late in (
                run.finish(item(200)),
                run.note_attempt(200, 1, "t", 1.0, None),
                run.journal(1, "", b"", "", b""),
            ):
                with pytest.raises(StoreError, match=r"safe in"):
                    await late
            run.mark("interrupted")
            await run.close()
            assert faulty.seen == faulted_at  # nothing is tried again

    asyncio.run(main())
    assert len(acknowledged) + len(failures) == 80
    assert failures
    assert len(set(map(id, failures))) == len(failures)
    faulty.kind = ""
    found = read_all(path)
    assert all(row in found for row in acknowledged)
    counted = len(found) if after else len(acknowledged)
    shown = f"{counted} answer{' is' if counted == 1 else 's are'}"
    assert str(failures[0]).startswith(words.format(shown, path))
    RunFile.open(path, job=JOB).close_now()
    assert [left.name for left in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("error", "after"),
    [(FULL, False), (WRITE, False), (FSYNC, False), (FSYNC, True)],
    ids=["full", "io", "fsync", "late"],
)
def test_whichever_commit_fails_nothing_that_was_reported_is_lost(
    path: Path, faulty: type[Faulty], error: sqlite3.OperationalError, after: bool
) -> None:
    """Some one commit among many would be taken for done although the disk does not have it."""

    async def finish(run: RunFile, index: int) -> int | None:
        try:
            await run.note_attempt(index, 1, "t", 1.0, 0.5)
            await run.finish(item(index))
        except StoreError:
            return None
        return index

    async def main(place: Path) -> set[int | None]:
        run = RunFile.open(place, job=JOB, group_rows=4, group_seconds=0.0)
        faulty.seen, faulty.kind = 0, "COMMIT"
        done: set[int | None] = set()
        async with asyncio.timeout(20):
            for start in range(0, 24, 8):
                done.update(await asyncio.gather(*(finish(run, index) for index in range(start, start + 8))))
            with contextlib.suppress(StoreError):
                await run.close()
        faulty.kind = ""
        return done - {None}

    faulty.error, faulty.after = error, after
    for failing in range(1, 100):
        faulty.left = failing
        place = path.with_name(f"{failing}.flatout")
        acknowledged = asyncio.run(main(place))
        assert {row.index for row in read_all(place)} >= acknowledged
        if faulty.seen < failing:  # every commit has had its turn
            break
        run = RunFile.open(place, job=JOB)
        asyncio.run(run.finish(item(99)))
        run.close_now()
    assert failing > 6
    assert acknowledged == set(range(24))


def test_a_fault_while_closing_is_told(path: Path, faulty: type[Faulty]) -> None:
    """A run whose last words could not be written would end as if all were well."""
    run = RunFile.open(path, job=JOB)
    faulty.kind = "COMMIT"
    with pytest.raises(StoreError, match="the disk is full: 0 answers are safe"):
        run.close_now()
    run.close_now()
    assert [left.name for left in path.parent.iterdir()] == [path.name]


def test_a_failing_checkpoint_loses_nothing(path: Path, faulty: type[Faulty]) -> None:
    """A disk that is full at the very end would make a finished run look failed, or lose it."""
    run = RunFile.open(path, job=JOB)
    asyncio.run(run.finish(item(0)))
    faulty.kind = "PRAGMA wal_checkpoint"
    run.close_now()
    assert read_all(path) == [item(0)]


def test_an_unforeseen_failure_hangs_nobody(path: Path, faulty: type[Faulty]) -> None:
    """A bug in the writing thread would leave the whole run waiting without a word."""
    run = RunFile.open(path, job=JOB)
    faulty.kind, faulty.error = "COMMIT", RuntimeError("surprise")
    with pytest.raises(StoreError, match=r"writing failed \(surprise\): 0 answers are safe"):
        asyncio.run(asyncio.wait_for(run.finish(item(0)), 20))
    run.close_now()


# Real full disks, in a process of their own

FILLING = """
    import asyncio, json, resource, signal, sys
    sys.path.insert(0, {here!r})
    from tests.crash.test_store_faults import *
    path, limit = Path(sys.argv[1]), int(sys.argv[2])
    async def main():
        run = RunFile.open(path, job=JOB, group_rows=20, group_seconds=0.001)
        acknowledged, messages = [], []
        async def finish(index):
            try:
                await run.finish(item(index))
                acknowledged.append(index)
            except StoreError as failed:
                messages.append(str(failed))
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        for start in range(0, 20_000, 100):
            await asyncio.gather(*map(finish, range(start, start + 100)))
            if messages:
                break
        await run.close()
        print(json.dumps([acknowledged, messages[-1]]))
    asyncio.run(main())
"""


def fill(path: Path, limit: int) -> tuple[list[int], str]:
    script = textwrap.dedent(FILLING).format(here=str(Path(__file__).parents[2]))
    command = [sys.executable, "-c", script, str(path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    acknowledged, message = json.loads(done.stdout)
    return acknowledged, message


@pytest.mark.parametrize("limit", [200_000, 333_333, 1_000_001])
def test_a_file_that_may_not_grow(path: Path, limit: int) -> None:
    """A quota or ulimit would crash the run, or lose answers that were reported as done."""
    acknowledged, message = fill(path, limit)
    assert acknowledged
    assert f"the disk failed (SQLITE_IOERR_WRITE): {len(acknowledged):,} answers are safe in {path}" in message
    assert {row.index for row in read_all(path)} >= set(acknowledged)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=1500k", "none", str(place)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only who may mount can make a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full(small_disk: Path) -> None:
    """The commonest fault of all would lose answers; and after making room the run could not go on."""
    path = small_disk / "answers.flatout"
    acknowledged, message = fill(path, 0)
    assert acknowledged
    assert f"the disk is full: {len(acknowledged):,} answers are safe in {path}; make room" in message
    assert {row.index for row in read_all(path)} >= set(acknowledged)
    roomy = small_disk.parent / "roomy" / path.name
    copy(path, roomy)
    run = RunFile.open(roomy, job=JOB)
    asyncio.run(run.finish(item(50_000)))
    run.close_now()
    assert {row.index for row in read_all(roomy)} >= {*acknowledged, 50_000}


# Files cut short


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, list[int]]]]:
    """A run killed with answers both in its file and its log; the log's length after each acknowledged group."""
    path = tmp_path_factory.mktemp("crashed") / "answers.flatout"
    run = RunFile.open(path, job=JOB, group_seconds=0.0)

    async def finish(first: int, last: int) -> None:
        await asyncio.gather(*(run.finish(item(index)) for index in range(first, last)))

    asyncio.run(finish(0, 150))
    run.close_now()
    run = RunFile.open(path, job=JOB, group_seconds=0.0)
    log = path.with_name(path.name + "-wal")
    lengths = []
    for first in range(150, 190, 10):
        asyncio.run(finish(first, first + 10))
        lengths.append((log.stat().st_size, list(range(first + 10))))
    dead = copy(path, path.parent / "dead" / path.name)
    run.close_now()
    return dead, lengths


def cut(path: Path, suffix: str, size: int, to: Path) -> Path:
    copy(path, to)
    os.truncate(to.with_name(to.name + suffix), size)
    return to


def test_a_file_cut_short_is_never_taken_for_whole(tmp_path: Path, crashed: tuple[Path, Any]) -> None:
    """Answers would be missing from an export without a word."""
    dead, _ = crashed
    whole = read_all(copy(dead, tmp_path / "whole" / dead.name))
    assert [row.index for row in whole] == list(range(190))
    closed = tmp_path / "whole" / dead.name
    RunFile.open(closed, job=JOB).close_now()
    detected = 0
    for source in (dead, closed):
        pages = source.stat().st_size // PAGE
        sizes = [*(page * PAGE for page in range(1, pages)), 100]
        if source is dead:  # a file of no bytes, or of one, is new where there is no log
            sizes += [0, 1]
        else:  # with a log, part of a page may be the trace of a power loss
            sizes += [pages * PAGE - 1, PAGE + 1]
        for size in sizes:
            short = cut(source, "", size, tmp_path / f"cut-{size}-{source is dead}" / dead.name)
            for look in (read_all, resumed):
                try:
                    assert look(short) == whole
                except RunDamaged:
                    detected += 1
    assert detected


def resumed(path: Path) -> list[Item]:
    """What a process finds that goes on with the run."""
    run = RunFile.open(path, job=JOB)
    try:
        rows = [run.item(found.index) for found in run.finished()]
        return [row for row in rows if row is not None]
    finally:
        run.close_now()


def test_a_log_cut_after_the_last_synced_byte_loses_nothing(tmp_path: Path, crashed: tuple[Path, Any]) -> None:
    """A power loss, which may take whatever was not synced, would take answers that were reported as done."""
    dead, lengths = crashed
    total = dead.with_name(dead.name + "-wal").stat().st_size
    draw = random.Random(7)
    for synced, acknowledged in lengths:
        for size in {synced, min(synced + 1, total), min(synced + FRAME, total), draw.randint(synced, total)}:
            short = cut(dead, "-wal", size, tmp_path / f"{synced}-{size}" / dead.name)
            assert {row.index for row in read_all(short)} >= set(acknowledged)


def test_a_log_cut_short_anywhere_leaves_whole_rows_in_order(tmp_path: Path, crashed: tuple[Path, Any]) -> None:
    """What nobody can notice should at least be harmless: no torn row, no gap, and the run goes on."""
    dead, lengths = crashed
    total = dead.with_name(dead.name + "-wal").stat().st_size
    for size in [0, 1, 31, 32, *range(32 + FRAME, total, FRAME), *range(32 + 777, total, 3 * FRAME)]:
        short = cut(dead, "-wal", size, tmp_path / str(size) / dead.name)
        found = resumed(short)
        assert found == [item(index) for index in range(len(found))]
        assert len(found) in {150, *(len(acknowledged) for _, acknowledged in lengths)}
        run = RunFile.open(short, job=JOB)
        asyncio.run(run.finish(item(500)))
        run.close_now()
        assert read_all(short) == [*found, item(500)]


# Real kills

WORKING = """
    import asyncio, os, sys
    sys.path.insert(0, {here!r})
    from tests.crash.test_store_faults import *
    async def main():
        run = RunFile.open(sys.argv[1], job=JOB, group_rows=16, group_seconds=0.002)
        done = {{found.index for found in run.finished()}}
        os.write(1, b"open\\n")
        todo = (index for index in range(1_000_000) if index not in done)
        async def work():
            for index in todo:
                await run.note_attempt(index, 1, "t", 1.0, 0.5)
                os.write(1, b"sent %d\\n" % index)
                await run.finish(item(index))
                os.write(1, b"done %d\\n" % index)
        await asyncio.gather(*(work() for _ in range({workers})))
    asyncio.run(main())
"""
WORKERS = 24


def test_kill_9_at_any_instant_loses_nothing(path: Path) -> None:
    """The promise of the run file: what was reported as done survives, and only what was in flight is paid again."""
    script = textwrap.dedent(WORKING).format(here=str(Path(__file__).parents[2]), workers=WORKERS)
    draw = random.Random(3)
    done: set[int] = set()
    sent: list[int] = []
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
            told = [process.stdout.readline() for _ in range(draw.randrange(400))]  # it gets there on any machine
            time.sleep(draw.uniform(0.0, 0.003))
            process.kill()
            for word, number in (line.split() for line in [*told, *process.stdout.read().splitlines()]):
                (done.add if word == b"done" else sent.append)(int(number))
        with RunReader.open(path) as reader:
            found = list(reader.items())
            assert reader.holder() is None
            lost = {attempt.index for attempt in reader.unsettled().attempts}
        assert found == [item(row.index) for row in found]
        there = {row.index for row in found}
        assert done <= there
        assert set(sent) - there <= lost  # what may have been paid for nothing is known
    assert len(done) > 100
    # What was sent twice was in flight at a kill.
    assert len(sent) - len(set(sent)) <= 20 * WORKERS
    run = RunFile.open(path, job=JOB)
    run.close_now()
    assert [left.name for left in path.parent.iterdir()] == [path.name]


# A folder where nothing may be written


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Makes the test's folder read-only, for root too: root is somebody else meanwhile."""
    user = os.geteuid()

    def enter() -> None:
        for folder in tmp_path.parents[:3]:  # pytest's own, which are ours alone; one more where tests run side by side
            if folder.owner() == tmp_path.owner() and folder.name.startswith(("pytest-", "popen-")):
                folder.chmod(0o755)
        tmp_path.chmod(0o555)
        if user == 0:
            os.seteuid(65534)

    yield enter
    os.seteuid(user)
    tmp_path.chmod(0o755)


def test_a_read_only_folder_is_read_and_not_written(path: Path, read_only: Callable[[], None]) -> None:
    """A run on a backup or a shared disk could not be looked at."""
    run = RunFile.open(path, job=JOB)
    asyncio.run(run.finish(item(0)))
    run.close_now()
    shutil.copyfile(path, path.with_name("still-wal"))
    other = sqlite3.connect(path.with_name("still-wal"))
    other.execute("PRAGMA journal_mode = WAL")
    other.close()
    path.chmod(0o644)  # shared by its owner
    read_only()
    for name in (path, path.with_name("still-wal")):
        assert read_all(name) == [item(0)]
    with pytest.raises(StoreError, match="cannot be written there: Permission denied"):
        RunFile.open(path, job=JOB)


def test_answers_in_a_log_are_not_hidden_by_a_read_only_folder(path: Path, read_only: Callable[[], None]) -> None:
    """The newest answers of a crashed run would be missing from an export without a word."""
    run = RunFile.open(path, job=JOB)
    asyncio.run(run.finish(item(0)))
    crashed = copy(path, path.with_name("crashed"))
    run.close_now()
    read_only()
    with pytest.raises(StoreError, match="has a log beside it, and its folder is read-only: copy both"):
        RunReader.open(crashed)
