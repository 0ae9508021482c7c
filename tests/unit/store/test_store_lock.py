"""One writer at a time: named, and freed by its death."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from flatout.errors import RunLocked, StoreError
from flatout.store import RunReader, lock
from flatout.store.database import Place
from tests.support.store_samples import open_run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.flatout"


def test_a_second_writer_is_told_who_writes(path: Path) -> None:
    """Two processes would pay for the same calls and spoil each other's file."""
    run = open_run(path)
    with pytest.raises(RunLocked, match=rf"answers.flatout is being written by process {os.getpid()} since \d\d:\d\d"):
        open_run(path)
    link = path.with_name("other-name.flatout")
    link.symlink_to(path)
    with pytest.raises(RunLocked):
        open_run(link)
    run.close_now()
    open_run(link).close_now()


def test_another_process_is_told_too(path: Path) -> None:
    """The lock would hold within one program only."""
    script = "import sys; from tests.support.store_samples import *; open_run(Path(sys.argv[1]))"
    run = open_run(path)
    here = {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], env=here, capture_output=True, text=True, timeout=30
    )
    assert f"RunLocked: {path} is being written by process {os.getpid()} since" in done.stderr
    run.close_now()


def test_a_reader_is_told_who_writes(path: Path) -> None:
    """`status` could not tell a running run from a killed one."""
    run = open_run(path)
    with RunReader.open(path) as reader:
        holder = reader.holder()
        assert holder is not None
        assert holder.pid == os.getpid()
        run.close_now()
        assert reader.holder() is None


def test_those_who_only_look_do_not_keep_a_writer_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `watch` open on a busy machine, a run could now and then not be continued: "another process writes it"."""
    side = path.with_name(path.name + ".lock")
    side.touch(mode=0o600)
    looks = os.open(side, os.O_RDONLY)
    lock.fcntl.flock(looks, lock.fcntl.LOCK_SH)
    pauses = 0

    def pause(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 3 * lock._TRIES:
            os.close(looks)

    monkeypatch.setattr(lock.time, "sleep", pause)
    open_run(path).close_now()
    assert pauses == 3 * lock._TRIES


def test_a_dead_process_holds_nothing(path: Path) -> None:
    """After a kill -9 the run could not be resumed; all the less when another process has the dead one's id."""
    side = path.with_name(path.name + ".lock")
    side.write_text(json.dumps({"pid": os.getpid(), "host": "here", "since": 0.0}))
    open_run(path).close_now()
    assert not side.exists()


@pytest.mark.parametrize("text", ["", "garbage", '{"pid": "x"}'])
def test_a_holder_without_a_name_still_holds(path: Path, text: str) -> None:
    """A side file that is just being written would be taken for a free one, or crash the command."""
    run = open_run(path)
    path.with_name(path.name + ".lock").write_text(text)
    with pytest.raises(RunLocked, match="is being written by another process"):
        open_run(path)
    run.close_now()


def test_a_side_file_that_its_holder_just_removed_is_not_trusted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that start at the instant when a third ends would both write."""
    side = path.with_name(path.name + ".lock")
    real = lock.fcntl.flock
    removals = iter([True])

    def removed_meanwhile(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        if next(removals, False):
            side.unlink()

    monkeypatch.setattr(lock.fcntl, "flock", removed_meanwhile)
    run = open_run(path)
    assert side.exists()
    run.close_now()


def test_a_planted_link_is_not_followed(path: Path) -> None:
    """In a shared folder, someone's link could make us overwrite another file."""
    victim = path.with_name("victim")
    victim.write_text("precious")
    path.with_name(path.name + ".lock").symlink_to(victim)
    with pytest.raises(StoreError, match="cannot be written there"):
        open_run(path)
    assert victim.read_text() == "precious"


def test_a_full_disk_leaves_no_side_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed start would litter."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lock.os, "pwrite", full)
    with pytest.raises(StoreError, match="No space left"):
        open_run(path)
    assert list(path.parent.iterdir()) == []


def test_the_message_names_host_and_day_when_they_are_others() -> None:
    """A lock from another machine, or from yesterday, would look like one from here and now."""
    shown = str(lock.Holder(12, "elsewhere", 0.0))
    assert shown.startswith("process 12 on elsewhere since 19")


class Elsewhere:
    """A process on another machine, whose file system shares files but not locks.

    Args:
        path: the run file.
        alive: whether it counts its beat.
    """

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, *, alive: bool) -> None:
        self.side = path.with_name(f"{path.name}.lock")
        self.facts = lock.Holder(12, "elsewhere", 0.0, "another boot")
        self.alive, self.now = alive, 0.0
        self.side.write_bytes(json_of(self.facts))
        monkeypatch.setattr(lock.time, "sleep", self.sleep)
        monkeypatch.setattr(lock.time, "monotonic", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.alive and self.now >= lock.BEAT:
            self.facts = replace(self.facts, beat=self.facts.beat + 1)
            self.side.write_bytes(json_of(self.facts))


def json_of(facts: lock.Holder) -> bytes:
    return msgspec.json.encode(facts).ljust(256)


def test_a_writer_on_another_machine_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks hold within one machine only, two machines would write one file, and collect the same batches."""
    there = Elsewhere(path, monkeypatch, alive=True)
    with pytest.raises(RunLocked, match=r"by process 12 on elsewhere since .*, on another machine: end it there"):
        open_run(path)
    assert there.side.exists()


@pytest.mark.parametrize("host", ["elsewhere", "this machine, before it was started anew"])
def test_a_dead_process_on_another_machine_holds_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """After a power cut, or when a job moves to another machine, the run could not be resumed."""
    there = Elsewhere(path, monkeypatch, alive=False)
    there.side.write_bytes(json_of(replace(there.facts, host=host)))
    open_run(path).close_now()
    assert there.now >= lock.SILENCE
    assert not there.side.exists()


def test_a_dead_process_of_this_machine_is_not_watched(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each resume after a kill -9 would begin with twelve seconds of waiting."""
    there = Elsewhere(path, monkeypatch, alive=False)
    there.side.write_bytes(json_of(replace(there.facts, boot=lock.boot())))
    open_run(path).close_now()
    assert there.now == 0.0


def test_the_holder_counts_a_beat(path: Path) -> None:
    """Other machines would take a living process for a dead one."""
    side = path.with_name(f"{path.name}.lock")
    held = lock.Lock.acquire(Place.of(path))
    before = side.read_bytes()
    held.beat()
    first, second = (msgspec.json.decode(text, type=lock.Holder) for text in (before, side.read_bytes()))
    assert second == replace(first, beat=1)
    assert len(before) == len(side.read_bytes())
    assert not first.is_elsewhere
    held.release()
