"""What a program beside a run costs the run.

Two equal runs differ by some percent, and a program that is busy beside a run slows its processor, whatever it does. So
one run is measured, which keeps its processor busy. In turn, for a stretch of seconds each, the program turns to this
run, and to another one that is slow. A run whose rows become dearer with time, or a machine whose speed drifts, does
the same to two stretches that follow each other, and their order changes each time.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.scale import sample, write_input
from benchmarks.server import serving

Turned = Callable[[Path], AbstractContextManager[object]]
"""A block during which a program is busy with the run that writes this output."""

ROWS_A_SECOND = 8_000
"""More than a run answers, so that its input lasts."""

STARTS = 60.0
"""Seconds that a run, and what looks at it, may take to be under way."""

FIRST = 5_000
"""Rows of a run that are not counted."""


class Paid(NamedTuple):
    """CPU seconds a row of two stretches that follow each other: with a program at the run, and elsewhere."""

    here: float
    elsewhere: float


def price(program: Callable[[Path, Path], AbstractContextManager[Turned]], pairs: int, seconds: float) -> list[Paid]:
    """Run ``pairs`` times two stretches of ``seconds``. ``program`` is given the two runs' outputs."""
    with tempfile.TemporaryDirectory() as folder, serving() as url:
        source = Path(folder, "in.jsonl")
        write_input(source, int(ROWS_A_SECOND * (2 * pairs * seconds + STARTS)))
        busy, slow = Path(folder, "busy", "out.jsonl"), Path(folder, "slow", "out.jsonl")
        with running(source, busy, url, "--concurrency", "200") as run, running(source, slow, url, "--rpm", "600"):
            run_file, found = busy.with_name("out.jsonl.flatout"), []
            await_rows(run.pid, run_file)
            with program(busy, slow) as turned:
                for number in range(pairs):
                    order = [busy, slow] if number % 2 else [slow, busy]
                    paid = {output: stretch(run.pid, run_file, turned(output), seconds) for output in order}
                    found.append(Paid(paid[busy], paid[slow]))
                return found


def await_rows(run: int, run_file: Path) -> None:
    ends = time.monotonic() + STARTS
    while (now := sample(run, run_file)) is None or now[0] < FIRST:
        if time.monotonic() > ends:
            raise TimeoutError("the run did not begin")
        time.sleep(0.1)


def stretch(run: int, run_file: Path, turned: AbstractContextManager[object], seconds: float) -> float:
    """CPU seconds that the run's process takes for a row meanwhile."""
    with turned:
        before = sample(run, run_file)
        time.sleep(seconds)
        after = sample(run, run_file)
    if before is None or after is None:
        raise SystemExit("the run has ended, or cannot be measured on this system")
    return (after[1] - before[1]) / (after[0] - before[0])


@contextmanager
def running(source: Path, output: Path, url: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run of the command in a folder of its own, which is killed at the end."""
    output.parent.mkdir()
    given = ["run", str(source), "-o", output.name, "-m", "bench", "--base-url", url, "-q", *options]
    environment = {**os.environ, "FLATOUT_API_KEY": "none"}
    process = subprocess.Popen([sys.executable, "-m", "flatout", *given], cwd=output.parent, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def cpu_of(process: int) -> float:
    """CPU seconds that a process has taken, in all its threads."""
    threads = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


def told(name: str, paid: list[Paid]) -> str:
    """The price in a sentence: the mean of the pairs without the dearest and cheapest tenth, and its standard error."""
    ratios = sorted(here / elsewhere - 1 for here, elsewhere in paid)
    cut = len(ratios) // 10
    kept = ratios[cut : len(ratios) - cut]
    error = statistics.stdev(kept) / len(kept) ** 0.5
    return f"{name:10} {statistics.mean(kept):+.2%} CPU of the run (± {error:.2%}, {len(paid)} pairs of stretches)"
