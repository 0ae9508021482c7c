"""Programs over Ray, Daft and other engines in processes of their own, and the cluster of Ray that they use.

``make .venv-engines`` installs the engines, in an environment of their own. The programs are in
`tests.support.engine_programs`. Ray listens on every interface, so all of it wants a network of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest

from flatout.testing import Faults

from . import own_network
from .command_samples import Provider, eventually, provider

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv-engines" / "bin"
PYTHON = BIN / "python"
PROGRAM = ROOT / "tests" / "support" / "engine_programs.py"

ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "DAFT_PROGRESS_BAR": "0",
}
MEMORY = 150_000_000
"""Bytes of the object store of each of Ray's nodes."""

installed = pytest.mark.skipif(not PYTHON.exists(), reason="the engines are not installed: make .venv-engines")
needs_engines = [
    installed,
    pytest.mark.skipif(not own_network.available(), reason="needs a network of its own, so root on Linux"),
]

FAULTS = Faults(server_error=0.02, reset=0.01)
STRAY = Faults(server_error=0.01, reset=0.01, rate_limited=0.01)
"""The same, with refusals although no limit was reached. Each asks for a pause, so they belong to long jobs."""

RPM = 6_000
BURST = 4
"""Seconds of requests that the provider's bucket holds. The programs are told of 1: a busy machine bunches requests."""

SLACK = RPM // 60 // 2
"""Calls of half a second: those that are sent while a process is killed, or whose answers are not yet written."""

PATIENCE = 600

RECOVERY = 30
"""Seconds after a death in which the limit need not be used: a program, an actor or a node may have to start."""

PORT = 6379
ADDRESS = f"127.0.0.1:{PORT}"
"""Where a cluster is, in the network of its own."""


class Job:
    """A program over an engine.

    Args:
        name: the program's name.
        server: the provider that it asks.
        folder: its working directory.
        settings: its settings.
    """

    def __init__(self, name: str, server: Provider, folder: Path, **settings: Any) -> None:
        self._pids = folder / "pids"
        given = {"url": server.url, "rpm": RPM, "pids": str(self._pids), **settings}
        self._out, self._err = folder / "out", folder / "err"
        self._process = _started([PYTHON, PROGRAM, name, json.dumps(given)], folder, self._out, self._err)

    def told(self) -> dict[str, Any]:
        """What the program says at its end."""
        assert self._process.wait(PATIENCE) == 0, self._err.read_text()[-3000:]
        lines = self._out.read_text().splitlines()
        told: dict[str, Any] = json.loads(*(line for line in lines if line.startswith('{"rows"')))  # Ray speaks, too
        return {name: value for name, value in told.items() if name != "seconds"}

    def kill_worker(self) -> None:
        """Kill the process that makes the calls."""
        _kill(self.worker)

    @property
    def worker(self) -> int:
        """The process that was the last one to begin making calls."""
        return int(self._pids.read_text().split()[-1])

    def workers(self) -> int:
        """How many processes have made calls."""
        return len(set(self._pids.read_text().split()))

    @property
    def over(self) -> bool:
        """Whether the program has ended."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill the program. Ray ends what it has started in a cluster."""
        self._process.kill()
        self._process.wait()


class Cluster:
    """A cluster of Ray with all the processes that belong to it.

    Args:
        folder: its working directory, with a short name: Ray makes sockets in it.
        cpus: the processors of the first node.
    """

    def __init__(self, folder: Path, cpus: int = 2) -> None:
        self._folder = folder
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._start("--head", f"--port={PORT}", f"--temp-dir={folder / 'ray'}", "--include-dashboard=false", cpus=cpus)

    def add_node(self, cpus: int = 2) -> None:
        """Start another node, as another machine would."""
        self._start(f"--address={ADDRESS}", cpus=cpus)

    def kill_keeper(self) -> None:
        """Kill the process that keeps the shared limits."""
        [keeper] = [pid for pid in self._left() if b"ray::Keepers" in _command(pid)]
        _kill(keeper)

    def kill_idle_workers(self) -> None:
        """Kill the processes that wait for a task."""
        for pid in self._left():
            if b"ray::IDLE" in _command(pid):
                _kill(pid)

    def kill_node(self, worker: int) -> None:
        """Kill what runs the node of a worker for Ray. All that it has started there ends."""
        raylet = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        assert b"raylet" in _command(raylet)
        _kill(raylet)

    def close(self) -> None:
        """Kill every process that belongs to it: Ray's may outlive their parents."""
        for node in self._nodes:
            node.kill()
            node.wait()
        eventually(lambda: not [_kill(pid) for pid in self._left()], PATIENCE)

    def _start(self, *options: str, cpus: int) -> None:
        log = self._folder / f"node{len(self._nodes)}"
        command = [BIN / "ray", "start", "--block", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        more = [f"--num-cpus={cpus}", f"--object-store-memory={MEMORY}", *options]
        self._nodes.append(_started([*command, *more], self._folder, log, log))
        eventually(lambda: "Ray runtime started" in log.read_text(), PATIENCE)

    def _left(self) -> Iterator[int]:
        """The processes that work in its folder."""
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                if (place / "cwd").readlink() == self._folder:
                    yield int(place.name)


def _started(command: list[Any], folder: Path, out: Path, err: Path) -> subprocess.Popen[bytes]:
    """A process that writes into files: a pipe that nobody reads would stop Ray."""
    with out.open("a") as to_out, err.open("a") as to_err:
        return subprocess.Popen(
            [str(word) for word in command], stdout=to_out, stderr=to_err, cwd=folder, env={**os.environ, **ENVIRONMENT}
        )


def _command(pid: int) -> bytes:
    with suppress(OSError):  # it has just ended
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    return b""


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with tempfile.TemporaryDirectory(prefix="engine-", dir="/tmp", ignore_cleanup_errors=True) as made:
        yield Path(made)


@contextmanager
def cluster(cpus: int = 2) -> Iterator[Cluster]:
    """A cluster that runs until the block ends."""
    with folder() as place:
        made = Cluster(place, cpus)
        try:
            yield made
        finally:
            made.close()


@contextmanager
def jobs(server: Provider, **settings: Any) -> Iterator[Callable[..., Job]]:
    """Start programs that share a folder and these settings."""
    with folder() as place:
        started: list[Job] = []

        def start(name: str, **more: Any) -> Job:
            started.append(Job(name, server, place, **settings, **more))
            return started[-1]

        try:
            yield start
        finally:
            for job in started:
                job.kill()


def used(stats: Mapping[str, Any], rpm: float, died: Sequence[int] = ()) -> float:
    """The share of a limit that was used, in the seconds between a job's first and its last ones.

    Requests that meet a fault use it, too.

    Args:
        stats: what the provider has counted.
        rpm: the limit.
        died: seconds in which something died. Those that follow do not count: whatever it was has to start again.
    """
    admitted = list(enumerate(stats["admitted_per_second"]))
    between = list(dropwhile(lambda second: not second[1], admitted))[2:-3]
    counted = [each for at, each in between if not any(death <= at < death + RECOVERY for death in died)]
    return sum(counted) / len(counted) / (rpm / 60) * stats["received"] / stats["admitted"]


def whole(rows: int) -> dict[str, Any]:
    """What a job says that has lost nothing."""
    return {"rows": rows, "ids": rows, "wrong": 0, "errors": {}}


def uses_the_limit(name: str, rows: int, faults: Faults = FAULTS, **settings: Any) -> None:
    """A job with faults, in a limit that the provider keeps."""
    with (
        provider(latency=0.5, rpm=RPM, burst=BURST, faults=faults) as server,
        jobs(server, rows=rows, **settings) as start,
    ):
        told, stats = start(name).told(), server.stats()
        assert told == whole(rows), told
        assert stats["refused"] == 0
        assert stats["faults"]
        assert used(stats, RPM) >= 0.95, stats["admitted_per_second"]


def goes_on_after(
    kill: Callable[[Job], object], rows: int, *, at: int, name: str = "ray", again: int = 0, **settings: Any
) -> None:
    """A job that is killed after some of its rows.

    Args:
        kill: what kills it.
        rows: its rows.
        at: how many requests have arrived then.
        name: the program.
        again: how many answered rows may be paid twice.
        **settings: the program's.
    """
    with provider(latency=0.5, rpm=RPM, burst=BURST) as server, jobs(server, rows=rows, **settings) as start:
        job = start(name)
        server.wait_for(at)
        in_flight = server.stats()["in_flight"] + SLACK
        kill(job)
        if job.over:
            job = start(name)
        told = job.told()
        assert told == whole(rows), told
        assert server.received <= rows + in_flight + again, server.received
