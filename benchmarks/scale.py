"""A large file through the command, against a fast server on the same machine: memory, pace and the cost of going on.

    python -m benchmarks.scale [--rows 1000000] [--small 10000] [--concurrency 64]

Runs ``flatout run`` on a small and on a large JSONL of 350 bytes a row, each in a process of its own, and prints what
should not depend on the number of rows: the peak memory (as a ratio), and the pace of the last tenth (against that of
the first). Then the finished large run is gone on with, which asks nothing.

Last figures (two cores, shared; Linux, Python 3.11): see docs/durability.md.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
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


def command(folder: Path, url: str, concurrency: int) -> Ran:
    arguments = ["run", "in.jsonl", "-o", "out.jsonl", "-m", "bench", "--base-url", url, "-q"]
    given = [sys.executable, "-m", "flatout", *arguments, "--concurrency", str(concurrency)]
    environment = {**os.environ, "FLATOUT_API_KEY": "none"}
    began = time.perf_counter()
    process = subprocess.Popen(given, cwd=folder, env=environment)
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


def measured(folder: Path, rows: int, url: str, concurrency: int) -> Ran:
    folder.mkdir()
    write_input(folder / "in.jsonl", rows)
    ran = command(folder, url, concurrency)
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
    with tempfile.TemporaryDirectory() as name, serving() as url:
        small = measured(Path(name) / "small", asked.small, url, asked.concurrency)
        large = measured(Path(name) / "large", asked.rows, url, asked.concurrency)
        first, last = paces(Path(name) / "large" / "out.jsonl.flatout")
        again = command(Path(name) / "large", url, asked.concurrency)
    print(f"memory, large against small:   {large.peak / small.peak:6.2f}  (to be at most 1.2)")
    print(f"pace, last against first tenth: {last / first:5.2f}  (to be at least 0.9; {first:.0f}, {last:.0f} rows/s)")
    print(f"going on with the finished run: {again.seconds:5.1f} s, peak {again.peak:.1f} MB")


if __name__ == "__main__":
    main()
