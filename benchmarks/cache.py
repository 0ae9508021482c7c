"""What the cache of answers costs: a miss, a hit, and 100,000 lookups, ``python -m benchmarks.cache``.

A miss and a hit are CPU of the event loop's thread, beyond the same calls without the layer; ``in all`` includes the
cache's own thread, until it has written the answers. Medians of rounds that alternate; the calls are 2 KB, in windows
of 50.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from benchmarks.rounds import medians
from flatout.durable.asked import asked
from flatout.journey import Journey, reset_journey, set_journey
from flatout.layers.cache import Cache, KeyOf
from flatout.providers import codec_for, registry
from flatout.providers.kept import read_again
from flatout.providers.question import Questions
from flatout.store.answers import Answers
from flatout.store.answers_shelf import AnswersFile
from flatout.values import Call, Reply, Target, Usage
from flatout.values.kept import Kept
from flatout.values.secret import Secret

WINDOW = 50  # calls that begin in one turn of the loop
AHEAD = 1_000  # calls that a client without limits reads ahead
PROMPT = "Explain the CAP theorem in three sentences. " * 43
REPLY = Reply(
    text="Of consistency, availability and partition tolerance, a system keeps two. " * 9,
    finish_reason="stop",
    usage=Usage(input_tokens=412, output_tokens=150),
    model="gpt-5-mini",
)
MOST = {"miss": 25.0, "hit": 60.0, "lookups": 2.0}
"""Microseconds of a miss and a hit, seconds of 100,000 lookups."""

Ask = Callable[[Call], Awaitable[Reply]]


def cache_over(answers: Answers) -> Cache:
    endpoint = replace(registry.find("openai"), api_key=Secret("sk-benchmark"))
    target = Target(endpoint, "gpt-5-mini")

    async def find(_: Call) -> KeyOf:
        return Questions(target, codec_for(target)).key

    describe = partial(asked, model="openai/gpt-5-mini", servers=lambda _: None)
    return Cache(answers, None, find=find, read=read_again, describe=describe, wall=time.time)


async def reply(_: Call) -> Reply:
    return REPLY


async def timed(ask: Ask, calls: list[Call], answers: Answers | None = None) -> tuple[float, float]:
    """Microseconds of a call: of this thread, and of the process, until a cache has written its answers."""

    async def one(call: Call) -> None:
        token = set_journey(Journey(0.0))
        try:
            await ask(call)
        finally:
            reset_journey(token)

    began = time.thread_time(), time.process_time()
    for start in range(0, len(calls), WINDOW):
        await asyncio.gather(*(one(call) for call in calls[start : start + WINDOW]))
    if answers is not None:
        await written(answers)
    ended = time.thread_time(), time.process_time()
    return (ended[0] - began[0]) / len(calls) * 1e6, (ended[1] - began[1]) / len(calls) * 1e6


async def written(answers: Answers) -> None:
    """Wait until the cache has written everything."""
    while answers._unwritten:  # noqa: ASYNC110 - it has no event for this
        await asyncio.sleep(0.01)


async def path(count: int, rounds: int, folder: Path) -> dict[str, tuple[float, float]]:
    measured: dict[str, list[tuple[float, float]]] = {"bare": [], "miss": [], "hit": []}
    answers = Answers(AnswersFile(folder / "path.cache"))
    cache = cache_over(answers)
    for turn in range(rounds):
        calls = [Call(f"{turn} {n} {PROMPT}", temperature=0, max_tokens=500) for n in range(count)]
        measured["bare"].append(await timed(reply, calls))
        through: Ask = lambda call: cache(call, reply)  # noqa: E731
        measured["miss"].append(await timed(through, calls, answers))
        measured["hit"].append(await timed(through, calls))
    await answers.close()
    bare = medians(measured["bare"])
    return {name: tuple(a - b for a, b in zip(medians(measured[name]), bare, strict=True)) for name in ("miss", "hit")}


async def lookups(count: int, folder: Path) -> float:
    answers = Answers(AnswersFile(folder / "many.cache"))
    keys = [n.to_bytes(32, "big") for n in range(count)]
    kept = Kept.of(REPLY, at=0.0, cost=0.001, whole=False)
    for key in keys:
        answers.put(key, kept, lambda: b"{}")
    await written(answers)
    began = time.perf_counter()
    for start in range(0, count, AHEAD):
        found = await asyncio.gather(*map(answers.get, keys[start : start + AHEAD]))
        assert None not in found
    took = time.perf_counter() - began
    await answers.close()
    return took


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=1_000)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--lookups", type=int, default=100_000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(path(given.calls, given.rounds, Path(folder)))
        for name, (loop, whole) in found.items():
            print(f"{name:8} {loop:6.1f} µs of the event loop, {whole:6.1f} µs in all (at most {MOST[name]:.0f} µs)")
        took = asyncio.run(lookups(given.lookups, Path(folder)))
        print(f"lookups  {took:6.2f} s for {given.lookups:,} (at most {MOST['lookups']:.0f} s for 100,000)")


if __name__ == "__main__":
    main()
