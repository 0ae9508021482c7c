"""Output files: whole or not at all, their owner's alone, and nothing left behind by writers that were killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flatout.runs.output.whole import whole

KILLED = """
import os, signal, sys
from pathlib import Path
from flatout.runs.output.whole import whole
with whole(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> object:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_new_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    """Every user of the machine could read the answers."""
    with whole(tmp_path / "out") as file:
        file.write(b"x")
    assert mode(tmp_path / "out") == 0o600


@pytest.mark.parametrize("shared", [0o644, 0o660, 0o400])
def test_one_that_replaces_another_has_its_mode(tmp_path: Path, shared: int) -> None:
    """A team that reads the output would be shut out by the next run, or others let in."""
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "out").chmod(shared)
    with whole(tmp_path / "out") as file:
        file.write(b"new")
    assert mode(tmp_path / "out") == shared
    assert (tmp_path / "out").read_bytes() == b"new"


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Each export that is killed would leave a hidden file of gigabytes for ever."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    with whole(tmp_path / "other") as file:
        file.write(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_writers_side_by_side_leave_each_other_alone(tmp_path: Path) -> None:
    """Two exports into one folder would lose one of the outputs."""
    with whole(tmp_path / "a") as one, whole(tmp_path / "b") as two:
        one.write(b"1")
        two.write(b"2")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}


def test_links_and_pipes_that_look_like_leftovers_harm_nobody(tmp_path: Path) -> None:
    """A planted link would have its file removed, a pipe hang the export."""
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".flatout-1.tmp").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / ".flatout-2.tmp")
    with whole(tmp_path / "out") as file:
        file.write(b"x")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """A full disk would cost the last good output."""
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "out"):
        _ = 1 / 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": b"old"}
