"""Processes that are forked from one that writes a run, and whom the run's files belong to."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flatout.errors import StoreError
from flatout.store import RunReader, lock
from tests.support.store_samples import item, open_run

FORKS = """
import asyncio, os, signal, sys, time
from tests.support.store_samples import *
run = open_run(Path(sys.argv[1]))
asyncio.run(run.finish(item(0)))
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
print(os.getpid(), flush=True)
try:
    asyncio.run(run.finish(item(1)))
except Exception as error:
    print(error, flush=True)
run.close_now()
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.flatout"


def test_a_forked_worker_neither_writes_nor_holds_the_lock(path: Path) -> None:
    """While one worker of a killed program lives, the run could not be gone on with; or both would write the file."""
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", FORKS, str(path)], env=here, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        worker = int(one.stdout.readline())
        try:
            assert "belongs to the process that opened it" in one.stdout.readline()
            assert one.wait(30) == -signal.SIGKILL
            run = open_run(path)
            assert run.counts().finished == 1
            run.close_now()
        finally:
            os.kill(worker, signal.SIGKILL)


def modes(path: Path) -> dict[str, str]:
    return {each.name.removeprefix(path.name): oct(stat.S_IMODE(each.stat().st_mode)) for each in path.parent.iterdir()}


def test_all_that_a_run_keeps_is_its_owner_s_alone(path: Path) -> None:
    """Every user of the machine could read the prompts and answers."""
    run = open_run(path)
    asyncio.run(run.finish(item(0)))
    assert modes(path) == {"": "0o600", "-wal": "0o600", "-shm": "0o600", ".lock": "0o600"}
    run.close_now()
    assert modes(path) == {"": "0o600"}


def test_a_file_that_its_owner_shares_stays_shared(path: Path) -> None:
    """A team that reads a run's file would be shut out by the next resume."""
    open_run(path).close_now()
    path.chmod(0o640)
    run = open_run(path)
    assert modes(path)["-wal"] == "0o640"
    assert modes(path)[".lock"] == "0o600"  # who may open it may lock it
    run.close_now()
    assert modes(path) == {"": "0o640"}


def test_a_lock_that_others_could_take_is_closed_to_them(path: Path) -> None:
    """Whoever may open a lock left by an older version could hold the run up for ever."""
    side = path.with_name(path.name + ".lock")
    side.touch(0o644)
    run = open_run(path)
    assert modes(path)[".lock"] == "0o600"
    run.close_now()


def test_a_lock_that_another_user_planted_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a shared folder somebody could hold a run up, and nobody would know why."""
    path.with_name(path.name + ".lock").touch(0o600)
    monkeypatch.setattr(lock.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StoreError, match=r"answers\.flatout\.lock beside it belongs to another user"):
        open_run(path)
    monkeypatch.undo()
    open_run(path).close_now()
    with RunReader.open(path) as reader:
        assert reader.counts().finished == 0
