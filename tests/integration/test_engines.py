"""flatout on Ray and Daft: the real engines, in processes that are killed.

``make .venv-engines`` installs them, in an environment of their own. The programs are in
`tests.support.engine_programs`. Ray listens on every interface, so each test has a network of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from flatout.testing import Faults
from tests.support import own_network
from tests.support.command_samples import Provider, eventually, provider

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-engines" / "bin" / "python"
PROGRAM = ROOT / "tests" / "support" / "engine_programs.py"

pytestmark = [
    pytest.mark.skipif(not PYTHON.exists(), reason="the engines are not installed: make .venv-engines"),
    pytest.mark.skipif(not own_network.available(), reason="needs a network of its own, so root on Linux"),
]

FAULTS = Faults(server_error=0.02, reset=0.01)
RPM = 6_000
BURST = 4
"""Seconds of requests that the provider's bucket holds. The programs are told of 1: a busy machine bunches requests."""

SLACK = RPM // 60 // 2
"""Calls of half a second: those that are sent while a process is killed, or whose answers are not yet written."""

PATIENCE = 600
ENGINES = ["ray", "daft"]


class Job:
    """A program over an engine, with all the processes that it starts."""

    def __init__(self, name: str, server: Provider, folder: Path, **settings: Any) -> None:
        self._folder = folder
        self._pids = folder / "pids"
        given = {"url": server.url, "rpm": RPM, "folder": str(folder / "ray"), "pids": str(self._pids), **settings}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1", "DAFT_PROGRESS_BAR": "0"}
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("w") as out, self._err.open("w") as err:  # a pipe that nobody reads would stop Ray
            self._process = subprocess.Popen(
                [str(PYTHON), str(PROGRAM), name, json.dumps(given)],
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**os.environ, **quiet},
            )

    def told(self) -> dict[str, Any]:
        """What the program says at its end."""
        assert self._process.wait(PATIENCE) == 0, self._err.read_text()[-3000:]
        lines = self._out.read_text().splitlines()
        told: dict[str, Any] = json.loads(*(line for line in lines if line.startswith('{"rows"')))  # Ray speaks, too
        return told

    def kill_worker(self) -> None:
        """Kill the process that makes the calls."""
        os.kill(int(self._pids.read_text().split()[-1]), signal.SIGKILL)

    def workers(self) -> int:
        """How many processes have made calls."""
        return len(set(self._pids.read_text().split()))

    def kill_keeper(self) -> None:
        """Kill the process that keeps the shared limits."""
        self._kill_named(b"ray::Keepers")

    def kill_raylet(self) -> None:
        """Kill what runs a machine for Ray. All that it started ends, and the program, which cannot go on."""
        self._kill_named(b"/raylet")
        self._process.wait(PATIENCE)
        self.kill()

    def _kill_named(self, name: bytes) -> None:
        found = [pid for pid in self._left() if name in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]]
        assert found
        for pid in found:
            _kill(pid)

    @property
    def over(self) -> bool:
        """Whether the program has ended."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill the program, and what it leaves behind."""
        self._process.kill()
        self._process.wait()
        self.sweep()

    def sweep(self) -> None:
        """End every process that this job has started and not ended."""
        eventually(lambda: not [_kill(pid) for pid in self._left()], PATIENCE)

    def _left(self) -> Iterator[int]:
        """The processes that work in the job's folder: Ray's may outlive their parents."""
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                if (place / "cwd").readlink() == self._folder:
                    yield int(place.name)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def jobs(server: Provider) -> Iterator[Callable[..., Job]]:
    """Start programs, in a folder of theirs with a short name: Ray makes sockets in it."""
    with tempfile.TemporaryDirectory(prefix="engine-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        started: list[Job] = []

        def start(name: str, **settings: Any) -> Job:
            started.append(Job(name, server, Path(folder), **settings))
            return started[-1]

        try:
            yield start
        finally:
            for job in started:
                job.kill()


def used(stats: Mapping[str, Any], rpm: float) -> float:
    """The share of a limit that was used, in the seconds between a job's first and its last ones."""
    seconds = [each for each in stats["admitted_per_second"] if each][1:-2]
    return sum(seconds) / len(seconds) / (rpm / 60)


def whole(rows: int) -> dict[str, Any]:
    """What a job says that has lost nothing."""
    return {"rows": rows, "ids": rows, "wrong": 0, "errors": {}}


def without_times(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name != "seconds"}


def uses_the_limit(name: str, rows: int) -> None:
    """A job with faults and stray refusals in a limit that the provider keeps."""
    with provider(latency=0.5, rpm=RPM, burst=BURST, faults=FAULTS) as server, jobs(server) as start:
        assert without_times(start(name, rows=rows).told()) == whole(rows)
        stats = server.stats()
        assert stats["refused"] == 0
        assert stats["faults"]
        assert used(stats, RPM) >= 0.95


def goes_on_after(kill: Callable[[Job], object], rows: int, *, name: str = "ray", kills: int = 1) -> None:
    """A job whose processes are killed, and what is paid again."""
    with provider(latency=0.5, rpm=RPM, burst=BURST) as server, jobs(server) as start:
        job, in_flight = start(name, rows=rows, cache="answers.cache"), 0
        for done in range(kills):
            server.wait_for((done + 1) * rows // (kills + 1))
            in_flight += server.stats()["in_flight"] + SLACK
            kill(job)
            if job.over:
                job = start(name, rows=rows, cache="answers.cache")
        assert without_times(job.told()) == whole(rows)
        assert server.received <= rows + in_flight


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_uses_the_limit_to_the_full_and_loses_nothing(name: str) -> None:
    """A cluster would wait most of the time, or lose rows, or be refused for its speed."""
    own_network.alone(lambda: uses_the_limit(name, 1_200))


def test_a_killed_actor_pays_only_for_what_was_in_flight() -> None:
    """Ray repeats the blocks of an actor that died: all their rows would be paid twice."""
    own_network.alone(lambda: goes_on_after(Job.kill_worker, 1_000))


@pytest.mark.parametrize("name", ENGINES)
def test_a_killed_program_run_again_pays_only_for_what_was_in_flight(name: str) -> None:
    """Whoever runs a job again after a crash would pay for all of it twice."""
    own_network.alone(lambda: goes_on_after(Job.kill, 1_000, name=name))


def test_several_actors_share_one_limit_while_its_keeper_is_killed() -> None:
    """A job that needs several actors would be refused for its speed, or stand still without the keeper."""

    def work() -> None:
        with provider(latency=0.5, rpm=RPM, burst=BURST) as server, jobs(server) as start:
            job = start("ray", rows=1_200, actors=2, shared="ray://team", block=100)
            server.wait_for(400)
            job.kill_keeper()
            assert without_times(job.told()) == whole(1_200)
            assert job.workers() == 2
            assert server.stats()["refused"] == 0

    own_network.alone(work)


@pytest.mark.soak
@pytest.mark.parametrize("name", [*ENGINES, "daft_on_ray"])
def test_a_long_job_uses_the_limit_to_the_full_and_loses_nothing(name: str) -> None:
    """A job of hours would slow down, or lose rows, where a short one does not."""
    own_network.alone(lambda: uses_the_limit(name, 20_000))


@pytest.mark.soak
def test_a_job_whose_actors_die_again_and_again_loses_nothing() -> None:
    """A cluster of machines that may be taken away at any time would pay for the same rows again and again."""
    own_network.alone(lambda: goes_on_after(Job.kill_worker, 6_000, kills=5))


@pytest.mark.soak
def test_a_job_whose_machine_dies_loses_nothing() -> None:
    """Ray's own process on a machine would take the answers with it."""
    own_network.alone(lambda: goes_on_after(Job.kill_raylet, 2_000))
