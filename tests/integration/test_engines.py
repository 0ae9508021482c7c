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

PATIENCE = 180
ENGINES = ["ray", "daft"]


class Job:
    """A program over an engine, with all the processes that it starts."""

    def __init__(self, name: str, server: Provider, folder: Path, **settings: Any) -> None:
        self._folder = folder
        self._pids = folder / "pids"
        given = {"url": server.url, "rpm": RPM, "folder": str(folder / "ray"), "pids": str(self._pids), **settings}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1", "DAFT_PROGRESS_BAR": "0"}
        self._process = subprocess.Popen(
            [str(PYTHON), str(PROGRAM), name, json.dumps(given)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, **quiet},
        )

    def told(self) -> dict[str, Any]:
        """What the program says at its end."""
        out, err = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, err[-3000:]
        [line] = [each for each in out.splitlines() if each.startswith('{"rows"')]  # Ray may speak after it
        told: dict[str, Any] = json.loads(line)
        return told

    def kill_worker(self) -> None:
        """Kill the process that makes the calls."""
        os.kill(int(self._pids.read_text().split()[-1]), signal.SIGKILL)

    def kill(self) -> None:
        """Kill the program, and what it leaves behind."""
        self._process.kill()
        self._process.communicate()
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


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_uses_the_limit_to_the_full_and_loses_nothing(name: str) -> None:
    """A cluster would wait most of the time, or lose rows, or be refused for its speed."""

    def work() -> None:
        with provider(latency=0.5, rpm=RPM, burst=BURST, faults=FAULTS) as server, jobs(server) as start:
            assert without_times(start(name, rows=1_200).told()) == whole(1_200)
            stats = server.stats()
            assert stats["refused"] == 0
            assert stats["faults"]
            assert used(stats, RPM) >= 0.95

    own_network.alone(work)


def test_a_killed_actor_pays_only_for_what_was_in_flight() -> None:
    """Ray repeats the blocks of an actor that died: all their rows would be paid twice."""

    def work() -> None:
        with provider(latency=0.5, rpm=RPM, burst=BURST) as server, jobs(server) as start:
            job = start("ray", rows=1_000, cache="answers.cache")
            server.wait_for(400)
            job.kill_worker()
            in_flight = server.stats()["in_flight"]
            assert without_times(job.told()) == whole(1_000)
            assert server.received <= 1_000 + in_flight + SLACK

    own_network.alone(work)


@pytest.mark.parametrize("name", ENGINES)
def test_a_killed_program_run_again_pays_only_for_what_was_in_flight(name: str) -> None:
    """Whoever runs a job again after a crash would pay for all of it twice."""

    def work() -> None:
        with provider(latency=0.5, rpm=RPM, burst=BURST) as server, jobs(server) as start:
            job = start(name, rows=1_000, cache="answers.cache")
            server.wait_for(400)
            in_flight = server.stats()["in_flight"]
            job.kill()
            assert without_times(start(name, rows=1_000, cache="answers.cache").told()) == whole(1_000)
            assert server.received <= 1_000 + in_flight + SLACK

    own_network.alone(work)
