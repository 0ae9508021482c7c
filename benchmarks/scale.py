"""A large file through the command, against a fast server on the same machine: memory, pace and the cost of going on.

    python -m benchmarks.scale [--rows 1000000] [--small 10000] [--concurrency 64]

Runs ``flatout run`` on a small and on a large JSONL of 350 bytes a row, each in a process of its own, and prints what
should not depend on the number of rows: the peak memory (as a ratio), and what a row takes in the last tenth (against
the first): in CPU, and in time, which is worth something on a quiet machine only. Then the finished large run is gone
on with, which asks nothing.

Last figures (two cores, shared; Linux, Python 3.11) are in docs/durability.md.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.server import serving

TEXT = "The quick brown fox jumps over the lazy dog while 14 engineers watch. " * 5


class Ran(NamedTuple):
    """What one process took: seconds, CPU seconds and peak memory in MB."""

    seconds: float
    cpu: float
    peak: float


def write_input(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for index in range(rows):
            file.write(f'{{"id": "row-{index}", "prompt": "{index}: {TEXT[:310]}"}}\n')


Sample = tuple[int, float]
"""Rows begun so far, and the process's CPU seconds."""


def sample(pid: int, run_file: Path) -> Sample | None:
    """How far a run is; None before it has begun, and where there is no /proc."""
    with (
        suppress(OSError, sqlite3.Error, TypeError),
        closing(sqlite3.connect(f"file:{run_file}?mode=ro", uri=True)) as connection,
    ):
        (rows,) = connection.execute("SELECT max(rowid) FROM attempts").fetchone()
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return int(rows), sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return None


def cpu_a_row(samples: list[Sample], first: float, last: float) -> float:
    """CPU seconds a row between two shares of the run."""
    rows = samples[-1][0]
    part = [each for each in samples if first * rows <= each[0] <= last * rows]
    return (part[-1][1] - part[0][1]) / (part[-1][0] - part[0][0])


def command(folder: Path, url: str, concurrency: int, samples: list[Sample] | None = None) -> Ran:
    arguments = ["run", "in.jsonl", "-o", "out.jsonl", "-m", "bench", "--base-url", url, "-q"]
    given = [sys.executable, "-m", "flatout", *arguments, "--concurrency", str(concurrency)]
    environment = {**os.environ, "FLATOUT_API_KEY": "none"}
    began = time.perf_counter()
    process = subprocess.Popen(given, cwd=folder, env=environment)
    while samples is not None and not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if (now := sample(process.pid, folder / "out.jsonl.flatout")) and (not samples or now[0] > samples[-1][0]):
            samples.append(now)
        time.sleep(0.5)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the command ended with {process.returncode}")
    return Ran(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def paces(run_file: Path) -> tuple[float, float]:
    """Rows a second in the first and in the last tenth."""
    with closing(sqlite3.connect(run_file)) as connection:
        times = sorted(at for (at,) in connection.execute("SELECT finished_at FROM items"))
    tenth = len(times) // 10
    return tenth / (times[tenth] - times[0]), tenth / (times[-1] - times[-1 - tenth])


def measured(folder: Path, rows: int, url: str, concurrency: int, samples: list[Sample] | None = None) -> Ran:
    folder.mkdir()
    write_input(folder / "in.jsonl", rows)
    ran = command(folder, url, concurrency, samples)
    with (folder / "out.jsonl").open("rb") as file:
        written = sum(1 for _ in file)
    if written != rows:
        raise SystemExit(f"{written} rows written of {rows}")
    print(
        f"{rows:>9,} rows: {ran.seconds:8.1f} s, {ran.cpu / rows * 1e6:6.0f} µs CPU a row, peak {ran.peak:6.1f} MB",
        flush=True,
    )
    return ran


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    asked = parser.parse_args()
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory() as name, serving() as url:
        small = measured(Path(name) / "small", asked.small, url, asked.concurrency)
        large = measured(Path(name) / "large", asked.rows, url, asked.concurrency, samples)
        first, last = paces(Path(name) / "large" / "out.jsonl.flatout")
        again = command(Path(name) / "large", url, asked.concurrency)
    print(f"memory, large against small:   {large.peak / small.peak:6.2f}  (to be at most 1.2)")
    if len(samples) > 40:
        tenths = [cpu_a_row(samples, tenth / 10, (tenth + 1) / 10) * 1e6 for tenth in range(10)]
        print(f"CPU a row, first against last tenth: {tenths[0] / tenths[-1]:.2f}  (to be at least 0.9)")
        print(f"  µs in each tenth: {' '.join(f'{each:.0f}' for each in tenths)}")
    print(f"pace, last against first tenth: {last / first:5.2f}  (to be at least 0.9; {first:.0f}, {last:.0f} rows/s)")
    print(f"going on with the finished run: {again.seconds:5.1f} s, {again.cpu:.1f} s CPU, peak {again.peak:.1f} MB")


if __name__ == "__main__":
    main()
