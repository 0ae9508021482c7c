"""A program whose own work blocks its event loop: ``python -m benchmarks.blocked given`` (or ``told``, ``nothing``).

Each seed draws a provider (its limit, how it enforces it, what its headers tell), and how long the program blocks the
loop and how long it leaves it free between two blocks. The figures are what the provider accepted after the warm-up, as
a share of its limit, and how many requests it refused in all. Everything runs flat out and on the virtual clock.

- *flatout* is given the limit (``given``), or has it from headers (``told``), or is not told (``nothing``).
- *again* is the next run, which remembers the first.
- *a second* and *a minute* are the script of many tutorials: `asyncio.gather`, a semaphore, a leaky bucket that holds a
  second's or a minute's calls, and a wait for Retry-After.

Even seeds are for choosing constants, odd ones for judging: ``--seeds 40`` runs 40 odd ones, ``--even`` the even ones.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Struct

from benchmarks.pacing_given import Yesterday
from flatout import Client, Limits
from flatout.layer import Request
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, VirtualLoop, run_virtual
from flatout.testing._limits import LimitState, SlidingWindow, Window

WARM, SECONDS = 65.0, 65.0
"""Seconds before the count begins, and of the count: longer than the first minute, in which some may go ahead."""

CALLS = 1_000
"""About so many calls are counted; faster providers are watched for a shorter time."""

LEAST = 12.0
"""Seconds that a provider is watched at the least."""

WORKERS = 400


class Scene(Struct, frozen=True):
    """A provider, and a program that blocks its loop for ``block`` seconds and leaves it free for ``free``, in turn."""

    settings: ProviderSettings
    block: float
    free: float
    each_second: bool = False  # whether the provider enforces each second as well, and tells of the minute alone
    wavers: float = 0.3

    @property
    def rate(self) -> float:
        return (self.settings.rpm or 0.0) / 60


class Both(Struct):
    """Two limits at once. The provider tells only the first."""

    first: Window
    second: Window
    limit: float = 0.0

    def __post_init__(self) -> None:
        self.limit = self.first.limit

    def wait(self, now: float, amount: float) -> float:
        return max(self.first.wait(now, amount), self.second.wait(now, amount))

    def take(self, now: float, amount: float) -> None:
        self.first.take(now, amount)
        self.second.take(now, amount)

    def waste(self, now: float, amount: float) -> None:
        self.first.waste(now, amount)
        self.second.waste(now, amount)

    def read(self, now: float) -> LimitState:
        return self.first.read(now)

    def change(self, now: float, limit: float) -> None:
        self.first.change(now, limit)
        self.second.change(now, limit)


class Came(Struct, frozen=True):
    """What a run came to: the share of the limit that was used, how many were refused, and of how many."""

    used: float
    refused: int
    sent: int


Asks = Callable[[Scene, SimulatedTransport, Callable[[], bool]], Awaitable[None]]
"""Sends calls through a transport, as long as the last argument says."""

SERVERS: tuple[tuple[Any, float], ...] = (
    *(("bucket", burst) for burst in (0.5, 1.0, 2.0, 5.0, 20.0, 60.0)),
    *(("sliding", window) for window in (1.0, 10.0, 60.0)),
    *(("fixed", window) for window in (1.0, 10.0, 60.0)),
)


def drawn(seed: int, *, headers: bool) -> Scene:
    """The scene of a seed."""
    chance = Random(seed * 7919 + 29)
    kind, size = chance.choice(SERVERS)
    dialects: list[Any] = ["openai", "azure", "mistral", "anthropic"]
    whole = 1 if size >= 60.0 or kind == "bucket" else round(60 / size)  # a window counts whole calls
    settings = ProviderSettings(
        rpm=whole * max(1, round(60 * 100 ** chance.random() / whole)),
        limit=kind,
        burst=size,
        window=size if kind != "bucket" else 60.0,
        latency=chance.choice([0.1, 1.0, 4.0]),
        headers=chance.choice(dialects) if headers else "",
        retry_after=chance.choice(["seconds", "ms", ""]),
    )
    return Scene(
        settings,
        block=0.05 * 20 ** chance.random(),
        free=0.01 * 30 ** chance.random(),
        each_second=size == 60.0 and chance.random() < 0.25,
    )


def measure(
    scene: Scene, seed: int, ask: Callable[[Scene, SimulatedTransport, Callable[[], bool]], Awaitable[None]]
) -> Came:
    """Run one client against one provider, in a loop that is blocked again and again."""
    model = ProviderModel(scene.settings, seed)
    model.start(0.0)
    if scene.each_second and (minute := model._limits.requests) is not None:
        model._limits.requests = Both(minute, SlidingWindow(minute.limit, window=1.0))
    ends = WARM + max(LEAST, min(SECONDS, CALLS / scene.rate))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        blocking = asyncio.create_task(_block(loop, scene, Random(seed)))
        await ask(scene, SimulatedTransport(model), lambda: loop.time() < ends)
        blocking.cancel()

    run_virtual(main(), seed=seed, limit=1e6)
    stats = model.stats()
    admitted = stats["admitted_per_second"][int(WARM) : int(ends)]
    return Came(sum(admitted) / (scene.rate * (int(ends) - int(WARM))), stats["refused"], stats["received"])


async def _block(loop: VirtualLoop, scene: Scene, chance: Random) -> None:
    def about(seconds: float) -> float:
        return seconds * chance.uniform(1.0 - scene.wavers, 1.0 + scene.wavers)

    while True:
        await asyncio.sleep(about(scene.free))
        loop.block(about(scene.block))


async def flatout(
    scene: Scene, wire: SimulatedTransport, goes_on: Callable[[], bool], *, given: bool, memory: Path | None = None
) -> None:
    async def source() -> AsyncIterator[str]:
        number = 0
        while goes_on():
            yield f"prompt {number}"
            number += 1

    limits = Limits(rpm=scene.settings.rpm) if given else None
    async with Client(
        "m", base_url="http://sim/v1", config={}, seed=1, deadline=1e5, limits=limits, transport=wire
    ) as made:
        if memory is not None:
            made._engine.stack.limiters._memory = Yesterday(memory)
        async for _ in made.as_completed(source()):
            pass


async def script(scene: Scene, wire: SimulatedTransport, goes_on: Callable[[], bool], *, holds: float) -> None:
    loop, room, gate = asyncio.get_running_loop(), asyncio.Semaphore(WORKERS), asyncio.Lock()
    capacity = max(1.0, scene.rate * holds)
    level, at, tasks = 0.0, loop.time(), set()
    request = Request(
        "POST", "http://sim/v1/chat/completions", {}, b'{"model":"m","messages":[{"role":"user","content":"?"}]}'
    )

    async def acquire() -> None:
        nonlocal level, at
        async with gate:
            while True:
                level, at = max(0.0, level - (loop.time() - at) * scene.rate), loop.time()
                if level + 1.0 <= capacity + 1e-9:
                    break
                await asyncio.sleep((level + 1.0 - capacity) / scene.rate)
            level += 1.0

    async def one() -> None:
        try:
            while True:
                await acquire()
                response = await wire.send(request)
                if response.status != 429:
                    break
                told = float(response.headers.get("retry-after", 0))
                await asyncio.sleep(max(told, float(response.headers.get("retry-after-ms", 0)) / 1000, 0.5))
        finally:
            room.release()

    while goes_on():
        await room.acquire()
        tasks.add(task := asyncio.create_task(one()))
        task.add_done_callback(tasks.discard)
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def run(table: str, scripts: bool, seed: int) -> tuple[Scene, dict[str, Came]]:
    """All contenders on one seed's scene."""
    scene = drawn(seed, headers=table == "told")
    found = {}
    if table == "given":
        found["flatout"] = measure(scene, seed, partial(flatout, given=True))
        with TemporaryDirectory() as folder:
            for name in ("trying", "again"):
                found[name] = measure(scene, seed, partial(flatout, given=True, memory=Path(folder)))
    else:
        found["flatout"] = measure(scene, seed, partial(flatout, given=False))
    if scripts:
        found["a second"] = measure(scene, seed, partial(script, holds=1.0))
        found["a minute"] = measure(scene, seed, partial(script, holds=60.0))
    return scene, found


def _row(seed: int, scene: Scene, found: dict[str, Came]) -> str:
    s = scene.settings
    size = s.burst if s.limit == "bucket" else s.window
    what = f"{seed:4} {s.rpm:5.0f} RPM, {s.limit} {size:g}{' and 1' * scene.each_second} {s.headers}"
    figures = "".join(f"{100 * came.used:8.1f} {came.refused:5}" for came in found.values())
    return f"{what:42}{scene.block:5.2f}/{scene.free:.3f}{figures}"


def _summary(rows: list[dict[str, Came]]) -> None:
    heads = ("used: mean", "median", "worst tenth", "worst", "refused: runs", "in all", "share")
    print(f"\n{'':12}" + "".join(f"{head:>14}" for head in heads))
    for name in rows[0]:
        used = sorted(100 * each[name].used for each in rows)
        refused = [each[name].refused for each in rows]
        share = 100 * sum(refused) / sum(each[name].sent for each in rows)
        print(
            f"{name:12}{statistics.mean(used):14.1f}{statistics.median(used):14.1f}{used[len(used) // 10]:14.1f}"
            f"{used[0]:14.1f}{sum(map(bool, refused)):14}{sum(refused):14}{share:14.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=["given", "told", "nothing"])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--even", action="store_true", help="the even seeds")
    parser.add_argument("--only", type=int, nargs="*", help="these seeds alone")
    parser.add_argument("--rows", action="store_true", help="a line a seed, too")
    parser.add_argument("--no-scripts", action="store_true", help="flatout alone")
    options = parser.parse_args()
    seeds = options.only or [2 * n + (not options.even) for n in range(options.seeds)]
    rows = []
    with ProcessPoolExecutor() as pool:
        runs = pool.map(partial(run, options.table, not options.no_scripts), seeds)
        for seed, (scene, found) in zip(seeds, runs, strict=True):
            if options.rows:
                print(_row(seed, scene, found), flush=True)
            rows.append(found)
    _summary(rows)


if __name__ == "__main__":
    main()
