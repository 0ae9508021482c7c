"""What flatout adds to a call, against the same posts from a bare loop: ``python -m benchmarks.call_path``.

``bare`` is an aiohttp session, a semaphore and ``json``: the least that could work, without any of the guarantees.
``naive`` is the tutorial: one shared httpx client and ``asyncio.gather``. The server runs in a process of its own; CPU
is this process' own. Rounds alternate; the figures are medians. One table starts a new process for each run, and counts
its imports and its first connections.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

from flatout.tasks.loop import loop_factory

from .contenders import bare, flat, naive
from .rounds import ratio
from .server import serving

COLD = (
    "import asyncio, sys; from benchmarks.contenders import {name}; asyncio.run({name}(sys.argv[1], {count}, {most}))"
)


def measure(
    run: Callable[[str, int, int], Awaitable[int]], url: str, count: int, concurrency: int, *, fast: bool = False
) -> tuple[float, float]:
    """CPU and wall seconds of one run, on uvloop if ``fast``."""

    async def main() -> int:
        return await run(url, count, concurrency)

    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    with asyncio.Runner(loop_factory=loop_factory() if fast else asyncio.SelectorEventLoop) as runner:
        good = runner.run(main())
    after, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
    assert good == count, f"{good} of {count}"
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def table(
    title: str, count: int, concurrency: int, delay: float, rounds: int, contenders: list[str], *, fast: bool = False
) -> None:
    runs = {"bare": bare, "flatout": flat, "naive": naive}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    with serving(delay) as url:
        for name in contenders:
            measure(runs[name], url, min(count, 500), min(concurrency, 100), fast=fast)
        for _ in range(rounds):
            for name in contenders:
                used, took = measure(runs[name], url, count, concurrency, fast=fast)
                cpu[name].append(used / count * 1e6)
                wall[name].append(took)
    print(f"\n{title}: {count:,} calls, {concurrency:,} in flight, answers after {delay:g} s, {rounds} rounds")
    print(f"{'':10}{'CPU µs/call':>12}{'× bare':>8}{'wall s':>9}{'× bare':>8}")
    base_cpu, base_wall = statistics.median(cpu["bare"]), statistics.median(wall["bare"])
    for name in contenders:
        c, w = ratio(cpu[name], cpu["bare"]), ratio(wall[name], wall["bare"])
        mine, took = statistics.median(cpu[name]), statistics.median(wall[name])
        print(f"{name:10}{mine:>12.0f}{c:>8.2f}{took:>9.2f}{w:>8.2f}")
    print(f"(medians; ratios are medians of the rounds' own; bare: {base_cpu:.0f} µs, {base_wall:.2f} s)")


def cold_table(count: int, concurrency: int, rounds: int) -> None:
    """The same with everything that comes before: each run is a process of its own, from its start to its end."""
    cpu: dict[str, list[float]] = {"bare": [], "flat": []}
    wall: dict[str, list[float]] = {"bare": [], "flat": []}
    with serving() as url:
        for number in range(rounds + 1):
            for name in cpu:
                used, took = cold(name, url, count, concurrency)
                if number:  # the first round compiles the modules
                    cpu[name].append(used)
                    wall[name].append(took)
    print(f"\nA new process each: {count:,} calls, {concurrency:,} in flight, {rounds} rounds")
    for name in cpu:
        c, w = ratio(cpu[name], cpu["bare"]), ratio(wall[name], wall["bare"])
        mine, took = statistics.median(cpu[name]), statistics.median(wall[name])
        print(f"{name:10}{mine * 1e3:>9.0f} ms of CPU{c:>8.2f} ×{took * 1e3:>9.0f} ms{w:>8.2f} ×")


def cold(name: str, url: str, count: int, concurrency: int) -> tuple[float, float]:
    """CPU and wall seconds of a process that makes one run."""
    program = COLD.format(name=name, count=count, most=concurrency)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", program, url], check=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-naive", action="store_true")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    others = [] if options.no_naive else ["naive"]
    table("CPU a call", 20_000, 500, 0.0, options.rounds, ["bare", "flatout"])
    table("CPU a call, both on uvloop", 20_000, 500, 0.0, options.rounds, ["bare", "flatout"], fast=True)
    table("Wide", 5_000, 5_000, 1.0, min(options.rounds, 3), ["bare", "flatout"])
    cold_table(2_000, 64, options.rounds)
    table("The tutorial's script", 1_000, 200, 0.0, 1, ["bare", "flatout", *others])


if __name__ == "__main__":
    main()
