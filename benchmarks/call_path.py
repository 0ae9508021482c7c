"""What flatout adds to a call, against the same posts from a bare loop: ``python -m benchmarks.call_path``.

``bare`` is an aiohttp session, a semaphore and ``json``: the least that could work, without any of the guarantees.
``naive`` is the tutorial: one shared httpx client and ``asyncio.gather``. The server runs in a process of its own; CPU
is this process' own. Rounds alternate; the figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import time
from collections.abc import Awaitable, Callable

import aiohttp

from flatout import Client, Limits
from flatout.tasks.loop import loop_factory

from .server import serving

PROMPTS = [f"{i}: " + "Explain the CAP theorem in three sentences. " * 9 for i in range(1_000)]


def prompts(count: int) -> list[str]:
    return [PROMPTS[i % len(PROMPTS)] for i in range(count)]


async def bare(url: str, count: int, concurrency: int) -> int:
    gate = asyncio.Semaphore(concurrency)
    good = 0
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"authorization": "Bearer x"}) as session:

        async def one(prompt: str) -> None:
            nonlocal good
            async with gate:
                body = {"model": "bench", "messages": [{"role": "user", "content": prompt}]}
                async with session.post(f"{url}/chat/completions", json=body) as answer:
                    data = json.loads(await answer.read())
            good += bool(data["choices"][0]["message"]["content"])

        await asyncio.gather(*(one(prompt) for prompt in prompts(count)))
    return good


async def flat(url: str, count: int, concurrency: int) -> int:
    limits = Limits(concurrency=concurrency)
    async with Client("bench", base_url=url, api_key="x", limits=limits) as client:
        return sum(result.ok for result in await client.gather(prompts(count)))


async def naive(url: str, count: int, concurrency: int) -> int:
    import httpx

    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(limits=limits, timeout=None) as client:

        async def one(prompt: str) -> bool:
            body = {"model": "bench", "messages": [{"role": "user", "content": prompt}]}
            answer = await client.post(f"{url}/chat/completions", json=body)
            return bool(answer.json()["choices"][0]["message"]["content"])

        return sum(await asyncio.gather(*(one(prompt) for prompt in prompts(count))))


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
        c = statistics.median(a / b for a, b in zip(cpu[name], cpu["bare"], strict=True))
        w = statistics.median(a / b for a, b in zip(wall[name], wall["bare"], strict=True))
        mine, took = statistics.median(cpu[name]), statistics.median(wall[name])
        print(f"{name:10}{mine:>12.0f}{c:>8.2f}{took:>9.2f}{w:>8.2f}")
    print(f"(medians; ratios are medians of the rounds' own; bare: {base_cpu:.0f} µs, {base_wall:.2f} s)")


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
    table("The tutorial's script", 1_000, 200, 0.0, 1, ["bare", "flatout", *others])


if __name__ == "__main__":
    main()
