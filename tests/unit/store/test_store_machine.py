"""Whatever is done to a run file, and whenever its process dies: what was acknowledged is there, once, unchanged."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from flatout.errors import StoreError
from flatout.store import Item, ItemState, RunFile, RunReader, database
from tests.support.store_samples import JOB, Watched, copy_as_if_killed, item, open_run

MEMORY = Path("/dev/shm")  # a crash of the process needs no disk, and hundreds of fsyncs take seconds

rows = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(["answered", "answered", "failed", "unsent"])),
    min_size=1,
    max_size=12,
)


class RunFileMachine(RuleBasedStateMachine):
    """`kept` is what was acknowledged, `tried` whatever was handed to `finish`: the file is between the two."""

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(database, "connection_class", Watched)
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.home = Path(self.folder.name)
        self.path = self.home / "0" / "answers.flatout"
        self.path.parent.mkdir()
        self.lives = 0
        self.moment = 0
        self.kept: dict[int, Item] = {}
        self.tried: dict[int, list[Item]] = {}
        self.runner = asyncio.Runner()
        self.run: RunFile | None = open_run(self.path)

    @precondition(lambda self: self.run is not None)
    @rule(rows=rows)
    def finish(self, rows: list[tuple[int, ItemState]]) -> None:
        self.runner.run(self._finish_all(rows))
        self._check(self.path)

    @precondition(lambda self: self.run is not None)
    @rule(rows=rows, cut=st.sets(st.integers(0, 11)))
    def finish_and_cancel(self, rows: list[tuple[int, ItemState]], cut: set[int]) -> None:
        self.runner.run(self._finish_all(rows, cut))

    @precondition(lambda self: self.run is not None)
    @rule(rows=rows, statements=st.integers(0, 8), tail=st.floats(0, 1))
    def kill_while_finishing(self, rows: list[tuple[int, ItemState]], statements: int, tail: float) -> None:
        """Take the files as they are before some statement; of the log, what was not synced only in part."""
        self.lives += 1
        next_life = self.home / str(self.lives) / self.path.name
        log = self.path.with_name(self.path.name + "-wal")
        synced = log.stat().st_size
        left = statements
        kept_then: dict[int, Item] | None = None

        def watch(_: Watched, __: str) -> None:
            nonlocal left, kept_then
            if left == 0:
                kept_then = dict(self.kept)
                copy_as_if_killed(self.path, next_life)
            left -= 1

        self.patch.setattr(Watched, "watch", watch)
        self.runner.run(self._finish_all(rows))
        self.patch.setattr(Watched, "watch", lambda *_: None)
        if kept_then is None:  # it had nothing more to do when it was killed
            kept_then = dict(self.kept)
            copy_as_if_killed(self.path, next_life)
        elif kept_then.keys() == self.kept.keys() and (found := next_life.with_name(log.name)).exists():
            content = found.read_bytes()
            if len(content) > synced and statements < 3:
                found.write_bytes(content[: synced + int((len(content) - synced) * tail)])
        assert self.run is not None
        self.run.close_now()
        self.path, self.kept = next_life, kept_then
        self._check(self.path)
        self.run = open_run(self.path)
        self._adopt()

    @precondition(lambda self: self.run is not None)
    @rule()
    def close(self) -> None:
        assert self.run is not None
        self.runner.run(self.run.close())
        self.run = None
        assert not [found for found in self.path.parent.iterdir() if found.suffix.startswith((".lock", ".flatout-"))]
        self._check(self.path)

    @precondition(lambda self: self.run is None)
    @rule()
    def resume(self) -> None:
        self.run = open_run(self.path)
        self._check(self.path)
        self._adopt()
        found = [(row.index, row.fingerprint, row.state) for row in self.run.finished()]
        assert found == [(index, row.fingerprint, row.state) for index, row in self.kept.items()]

    @precondition(lambda self: self.run is None)
    @rule()
    def start_over(self) -> None:
        self.run = open_run(self.path, fresh=True, job=JOB)
        self.kept.clear()
        self.tried.clear()
        self._check(self.path)

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        if self.run is not None:
            self.run.close_now()
        self.runner.close()
        self.patch.undo()
        self.folder.cleanup()

    async def _finish_all(self, rows: Iterable[tuple[int, ItemState]], cut: Iterable[int] = ()) -> None:
        tasks = [asyncio.ensure_future(self._finish(index, state)) for index, state in rows]
        await asyncio.sleep(0)
        for number in cut:
            if number < len(tasks):
                tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self, index: int, state: ItemState) -> None:
        self.moment += 1
        row = item(index, state, finished_at=float(self.moment))
        self.tried.setdefault(index, []).append(row)
        assert self.run is not None
        try:
            await self.run.finish(row)
        except StoreError as refused:
            assert "already has an answer" in str(refused)  # noqa: PT017 - it may succeed as well
            self.tried[index].remove(row)
        else:
            self.kept[index] = row

    def _check(self, path: Path) -> None:
        with RunReader.open(path) as reader:
            found = {row.index: row for row in reader.items()}
        for index, row in self.kept.items():
            # A row that was cancelled or cut off may have come after the acknowledged one, unless that was an answer.
            assert found[index] == row or (row.state != "answered" and found[index] in self.tried[index])
        for index, row in found.items():
            assert row in self.tried[index]

    def _adopt(self) -> None:
        """After a crash, what is in the file is what is known."""
        with RunReader.open(self.path) as reader:
            self.kept = {row.index: row for row in reader.items()}


RunFileMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestRunFile = RunFileMachine.TestCase
