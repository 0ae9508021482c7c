"""Limits that the processes of one machine share, in a small file."""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import struct
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.errors import ConfigError
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Need
from flatout.store import byte_locks, shared_members
from flatout.store.shared import LOCKS, SharedLimits, forget
from flatout.store.shared_log import KEPT
from flatout.values import Limits, Usage

HOLD = """
import sys, time
from pathlib import Path
from flatout.store.shared import SharedLimits
with SharedLimits("name", "target", Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "limits"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 0.3)), min_size=5, max_size=120))
def test_processes_together_never_exceed_the_rate(tmp_path_factory, arrivals):
    """Four runs side by side would get four times the limit, and most of it refused."""
    folder = tmp_path_factory.mktemp("shared")
    shared = [SharedLimits("name", "target", folder) for _ in range(4)]
    pacers = [Pacer(Limits(rpm=600), 0.0, shared=one) for one in shared]
    now, admitted = 0.0, []
    for who, gap in arrivals:
        now += gap
        with pacers[who].exclusive:
            if pacers[who].ready_at(Need(), now)[0] <= now:
                pacers[who].admit(Need(), now)
                admitted.append(now)
    for one in shared:
        one.close()
    for place, begin in enumerate(admitted):
        assert sum(at < begin + 1 for at in admitted[place:]) <= 9.85 * 1.2 + 1


def test_together_they_use_it_all(folder):
    """Each would keep to a share of its own, and lie idle beside the others."""
    with closing(SharedLimits("name", "target", folder)) as one, closing(SharedLimits("name", "target", folder)) as two:
        pacers = [Pacer(Limits(rpm=600), 0.0, shared=shared) for shared in (one, two)]
        now = 0.0
        for turn in range(200):
            made = pacers[turn % 2 if turn < 100 else 0]
            now = max(now, made.ready_at(Need(), now)[0])
            made.admit(Need(), now)
        assert now == pytest.approx(200 / 9.85, abs=0.3)


def test_who_joins_takes_back_nothing_that_others_were_admitted(folder):
    """Each new program would begin with the others' share, and run past the limit."""
    with closing(SharedLimits("name", "target", folder)) as one, closing(SharedLimits("name", "target", folder)) as two:
        first = Pacer(Limits(tpm=600), 0.0, shared=one)
        first.admit(Need(500.0, 0.0), 1.0)
        before = first.ready_at(Need(100.0, 0.0), 1.0)
        assert Pacer(Limits(tpm=600), 1.0, shared=two).ready_at(Need(100.0, 0.0), 1.0) == before


def test_one_s_refusal_pauses_the_others(folder):
    """The others would run on into the limit."""
    with closing(SharedLimits("name", "target", folder)) as one, closing(SharedLimits("name", "target", folder)) as two:
        first, second = (Pacer(Limits(rpm=600), 0.0, shared=shared) for shared in (one, two))
        need = Need()
        first.admit(need, 1.0)
        first.refused(need, 30.0, None, 1.0, 1.0, 0.0)
        assert second.ready_at(Need(), 2.0) == (pytest.approx(31.0, abs=0.3), "pause")


def test_who_joins_keeps_as_many_in_flight_as_those_who_were_told_the_limit(folder):
    """Whoever joins a run whose limit is known would never have more than a thousand requests in flight."""
    with closing(SharedLimits("name", "target", folder)) as one, closing(SharedLimits("name", "target", folder)) as two:
        first, need = Pacer(Limits(), 0.0, shared=one), Need()
        first.admit(need, 0.0)
        first.answered(need, Usage(), {"x-ratelimit-limit-requests": "600000"}, 0.0, 0.1, 0.1)
        late = Pacer(Limits(), 0.2, shared=two)
        assert late.found() == first.found() == {"rpm": 600_000.0}
        assert "concurrency" not in late.allows().keys() | first.allows().keys()


def test_other_names_and_other_targets_share_nothing(folder):
    """One model's run would be slowed by another's."""
    for name, target in (("name", "target"), ("other", "target"), ("name", "other"), ("nametarget", "")):
        with closing(SharedLimits(name, target, folder)) as shared:
            assert shared.paused_until == 0.0
            shared.paused_until = 1e9


@settings(max_examples=25, deadline=None)
@given(st.text() | st.sampled_from(["../../etc/passwd", "/tmp/x", "a/b", "..", "con", "x" * 5_000, "\0"]))
def test_names_never_become_paths(tmp_path_factory, name):
    """A name from a configuration file would write where it likes."""
    folder = tmp_path_factory.mktemp("names") / "inner"
    name = name.encode("utf-8", "replace").decode()
    SharedLimits(name, name, folder).close()
    for file in folder.iterdir():
        assert set(file.stem) <= set("0123456789abcdef")
        assert file.stat().st_mode & 0o077 == 0
    assert [entry.name for entry in folder.parent.iterdir()] == ["inner"]


def test_a_name_is_forgotten_with_all_its_targets_and_no_other(folder):
    """Every run with workers would leave files behind, or take those of programs that share a limit."""
    for name, target in (("name", "a"), ("name", "b"), ("other", "a")):
        SharedLimits(name, target, folder).close()
    forget("name", folder)
    left = {file.stem[:16] for file in folder.iterdir()}
    assert len(left) == 1
    forget("other", folder)
    assert list(folder.iterdir()) == []


def test_a_process_that_is_killed_lets_go_of_the_lock(folder):
    """One kill -9 would stop every other run on the machine for good."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)
    with child, closing(SharedLimits("name", "target", folder)) as shared:
        assert child.stdout is not None
        assert select.select([child.stdout], [], [], 30)[0]
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError):
            fcntl.flock(shared._locks[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.kill()
        child.wait()
        with shared:
            shared.paused_until = 5.0
        assert shared.paused_until == 5.0


@pytest.mark.parametrize("stopped", [1, LOCKS - 1])
def test_a_process_that_is_stopped_with_the_lock_holds_up_nobody(folder, stopped):
    """Ctrl-Z in one terminal would freeze every other run that shares the limit, deadlines included."""
    with ExitStack() as stack:
        for _ in range(stopped):
            holder = stack.enter_context(closing(SharedLimits("name", "target", folder)))
            holder.__enter__()  # and never leaves: it was stopped
        one, two = (stack.enter_context(closing(SharedLimits("name", "target", folder))) for _ in range(2))
        pacers = [Pacer(Limits(rpm=600), 0.0, shared=shared) for shared in (one, two)]
        now = 0.0
        for turn in range(200):
            made = pacers[turn % 2]
            with made.exclusive:
                now = max(now, made.ready_at(Need(), now)[0])
                made.admit(Need(), now)
        assert now == pytest.approx(200 / 9.85, abs=0.5)
        with one, pytest.raises(BlockingIOError):  # the lock still keeps those out that are not stopped
            fcntl.flock(two._locks[two._turn % LOCKS], fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_wait_for_a_stopped_process_is_paid_once(folder):
    """Each call would wait for the lock anew: fifty a second at the most."""
    with closing(SharedLimits("name", "target", folder)) as one, closing(SharedLimits("name", "target", folder)) as two:
        one.__enter__()
        looks = []
        real = two._pass_over
        two._pass_over = lambda: (looks.append(1), real())
        for _ in range(100):
            with two:
                pass
        assert len(looks) == 1


def test_more_stopped_processes_than_locks_hold_up_nobody(folder):
    """The last resort would be to wait after all."""
    with ExitStack() as stack:
        for _ in range(LOCKS + 1):
            stack.enter_context(closing(SharedLimits("name", "target", folder))).__enter__()
        last = stack.enter_context(closing(SharedLimits("name", "target", folder)))
        with last:
            last.paused_until = 5.0
        assert last.paused_until == 5.0


def test_who_goes_on_after_being_stopped_takes_nothing_back(folder):
    """What others were admitted meanwhile would be admitted once more, and a pause be forgotten."""
    with closing(SharedLimits("name", "target", folder)) as one, closing(SharedLimits("name", "target", folder)) as two:
        with one:
            with two:
                two.paused_until = 9.0
                two.write("rpm", 50.0)
            one.paused_until = 3.0
            one.write("rpm", 60.0)
        assert (two.paused_until, two.read("rpm")) == (9.0, 60.0)
        with one:
            one.paused_until = 4.0
        assert two.paused_until == 4.0


def test_what_is_from_before_a_reboot_is_forgotten(folder):
    """The clock starts at 0 again, and an old pause would last for weeks."""
    with closing(SharedLimits("name", "target", folder)) as shared:
        shared.paused_until = 1e9
        shared.write("rpm", 1e9)
        shared.write("born", time.time() - time.monotonic() - 3_600)
    with closing(SharedLimits("name", "target", folder)) as shared:
        assert shared.paused_until == 0.0
        assert shared.read("rpm") == 0.0


def test_a_small_step_of_the_wall_clock_is_no_reboot(folder):
    """Each correction by the time server would let every run start anew, over the limit."""
    with closing(SharedLimits("name", "target", folder)) as shared:
        shared.paused_until = 1e9
        shared.write("born", time.time() - time.monotonic() - 10)
    with closing(SharedLimits("name", "target", folder)) as shared:
        assert shared.paused_until == 1e9


@pytest.mark.parametrize("content", [b"", b"x", struct.pack("d", float("nan")) * 7, b"\xff" * 56, os.urandom(500)])
def test_a_damaged_file_is_begun_anew(folder, content):
    """A crash while the file was made would end every run that follows."""
    SharedLimits("name", "target", folder).close()
    (file,) = folder.glob("*.limits")
    file.write_bytes(content)
    with closing(SharedLimits("name", "target", folder)) as shared:
        assert shared.paused_until == 0.0
        assert shared.gcra("rpm", 1.0, 1.0, 5.0).tat == 6.0


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """A run that should share would run past the limit instead, or end with a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be kept"):
        SharedLimits("name", "target", Path(tmp_path / "file" / "folder"))


def test_an_error_inside_lets_go_of_the_lock(folder):
    """One bug would stop the other runs as well."""
    with closing(SharedLimits("name", "target", folder)) as one, closing(SharedLimits("name", "target", folder)) as two:
        with suppress(ZeroDivisionError), one, one:
            _ = 1 / 0
        fcntl.flock(two._locks[0], fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_events_are_told_in_order_to_all_and_the_oldest_give_way(folder):
    """Programs would come to different ends, or the file grow for as long as they run."""
    with closing(SharedLimits("name", "target", folder)) as one, closing(SharedLimits("name", "target", folder)) as two:
        for number in range(KEPT + 10):
            (two if number % 2 else one).log.append((1.0, float(number), 0.0, 0.0, 0.0, 0.0))
        assert two.log.end == KEPT + 10
        assert two.log.since(9) is None
        assert [event[1] for event in two.log.since(10) or ()] == list(range(10, KEPT + 10))
        assert two.log.since(KEPT + 11) is None


def test_what_was_kept_is_read_whole_or_not_at_all(folder):
    """A program that is killed while it writes would leave half a state, and the next one would go on from it."""
    with closing(SharedLimits("name", "target", folder)) as one, closing(SharedLimits("name", "target", folder)) as two:
        with pytest.raises(ValueError, match="kept"):
            two.log.kept()
        one.log.append((1.0,) * 6)
        one.log.keep(b"state")
        assert two.log.kept() == (1, b"state")
        one.log.keep(b"x" * 1_000_000)
        assert two.log.kept() == (1, b"state")
        (file,) = folder.glob("*.limits")
        file.write_bytes(file.read_bytes().replace(b"state", b"stale"))
        with pytest.raises(ValueError, match="kept"):
            two.log.kept()


def test_who_goes_on_after_being_stopped_overwrites_no_event(folder):
    """Programs would come to different ends."""
    with closing(SharedLimits("name", "target", folder)) as one, closing(SharedLimits("name", "target", folder)) as two:
        with one:
            with two:
                two.log.append((2.0,) * 6)
            one.log.append((1.0,) * 6)
        assert two.log.since(0) == [(2.0,) * 6, (1.0,) * 6]
        for each in (one, two):
            fcntl.flock(each._locks[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(each._locks[0], fcntl.LOCK_UN)


MEMBER = """
import sys, time
from pathlib import Path
from flatout.store.shared import SharedLimits
shared = SharedLimits("name", "target", Path(sys.argv[1]))
with shared:
    for _ in range(3):
        shared.members.sent(1.0)
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("locks", [True, False], ids=["by locks", "by process ids"])
def test_what_a_killed_program_held_is_taken_back_and_no_one_else_s(folder, monkeypatch, locks):
    """Its slots would be gone for good, or those of a program that is alive be given to others."""
    if not locks:
        monkeypatch.setattr(byte_locks, "SET_LOCK", None)
    child = subprocess.Popen([sys.executable, "-c", MEMBER, str(folder)], stdout=subprocess.PIPE)
    with child, closing(SharedLimits("name", "target", folder)) as one, closing(SharedLimits("name", "target", folder)):
        assert child.stdout is not None
        assert select.select([child.stdout], [], [], 30)[0]
        one.members.sent(1.0)
        assert one.members.bury(1.0) == 0
        assert one.members.in_flight == 4
        child.kill()
        child.wait()
        assert one.members.bury(1.1) == 0  # somebody has just looked
        assert one.members.bury(2.0) == 3
        assert one.members.in_flight == 1
        assert len(one.members.others()) == 1


def test_rows_of_those_that_left_are_used_again_and_more_than_there_are_is_an_error(folder, monkeypatch):
    """Every run would take a row of the file with it, until no program could share any more."""
    monkeypatch.setattr(shared_members, "MOST", 3)
    for _ in range(5):
        SharedLimits("name", "target", folder).close()
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(closing(SharedLimits("name", "target", folder)))
        with pytest.raises(ConfigError, match="3 programs"):
            SharedLimits("name", "target", folder)


def test_files_of_an_older_format_are_not_touched(folder):
    """A program of an older version that runs beside a new one would read nonsense."""
    folder.mkdir()
    old = folder / (hashlib.sha256(b"name\0target").hexdigest()[:24] + ".limits")
    old.write_bytes(b"\0" * 64)
    SharedLimits("name", "target", folder).close()
    assert old.read_bytes() == b"\0" * 64
