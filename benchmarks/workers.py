"""What several workers gain: rows a second and CPU a row of ``flatout run --workers N``, beside one process.

    python -m benchmarks.workers [--rows 40000] [--workers 2] [--concurrency 500] [--rounds 3]

Each round runs the command once with one process and once with N workers, against a server in a process of its own that
answers at once. The pace is that between the first and the last answer, so it has neither the start nor the check of
the input in it. CPU a row is what 1,000 rows more cost, for the same reason.

The server and the workers share the machine, and one process uses more than one processor already: the server runs
beside it, and so does its own thread that writes the run file. So the last line says what the CPU time allows: the rows
that all processors would make if none was ever idle, against those that one process made.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from benchmarks.rounds import ratio
from benchmarks.scale import write_input
from benchmarks.server import serving

SMALL = 2_000


class Ran(NamedTuple):
    """Rows a second between the first and the last answer, and CPU seconds of the command and of the server."""

    pace: float
    command: float
    server: float


def cpu_of(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def command(source: Path, url: str, workers: int, concurrency: int) -> Ran:
    """Run the command in an empty folder."""
    (server,) = multiprocessing.active_children()
    assert server.pid is not None
    before = cpu_of(server.pid)
    with tempfile.TemporaryDirectory() as folder:
        given = ["run", str(source), "-o", "out.jsonl", "-m", "bench", "--base-url", url, "-q"]
        given += ["--concurrency", str(concurrency), "--workers", str(workers)]
        environment = {**os.environ, "FLATOUT_API_KEY": "none"}
        process = subprocess.Popen([sys.executable, "-m", "flatout", *given], cwd=folder, env=environment)
        _, status, used = os.wait4(process.pid, 0)  # with the workers, which the command has waited for
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"the command ended with {process.returncode}")
        with closing(sqlite3.connect(Path(folder, "out.jsonl.flatout"))) as connection:
            found = connection.execute("SELECT count(*), max(finished_at) - min(finished_at) FROM items").fetchone()
    return Ran(found[0] / found[1], used.ru_utime + used.ru_stime, cpu_of(server.pid) - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    counts = (1, asked.workers)
    paces: dict[int, list[float]] = {count: [] for count in counts}
    costs: dict[int, list[float]] = {count: [] for count in counts}
    serves: list[float] = []
    with tempfile.TemporaryDirectory() as folder, serving() as url:
        large, small = Path(folder, "large.jsonl"), Path(folder, "small.jsonl")
        write_input(large, asked.rows)
        write_input(small, SMALL)
        for number in range(asked.rounds):
            for count in counts:
                few = command(small, url, count, asked.concurrency)
                many = command(large, url, count, asked.concurrency)
                more = (asked.rows - SMALL) / 1e6
                paces[count].append(many.pace)
                costs[count].append((many.command - few.command) / more)
                serves.append((many.server - few.server) / more)
                load = os.getloadavg()[0]
                cost = f"CPU {costs[count][-1]:4.0f} µs a row, server {serves[-1]:3.0f} µs"
                print(
                    f"round {number + 1}, workers {count}: {many.pace:7,.0f} rows/s, {cost}, load {load:.1f}",
                    flush=True,
                )
    one, several, server = (statistics.median(each) for each in (costs[1], costs[asked.workers], serves))
    cores = os.cpu_count() or 1
    allowed = cores * 1e6 / (several + server) / statistics.median(paces[1])
    gain = ratio(paces[asked.workers], paces[1])
    print(f"rows a second, {asked.workers} workers against one process, median: {gain:.2f} ×")
    print(f"CPU a row: one process {one:.0f} µs, {asked.workers} workers {several:.0f} µs; the server {server:.0f} µs")
    print(f"what that allows on {cores} processors without other work: {allowed:.2f} ×")


if __name__ == "__main__":
    main()
