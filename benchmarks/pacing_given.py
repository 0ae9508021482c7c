"""Right limits given, on servers drawn at random: ``python -m benchmarks.pacing_given requests`` (or ``tokens``).

Each seed draws a provider (its limit, how it enforces it, how long its answers take, what its headers tell) and a
short job. Flatout runs it with the right limit given, again (it remembers the first run), and with nothing given; so do
two scripts that everybody has written once: *all at once* sends everything and obeys Retry-After; *naive* does so
behind a semaphore. Times are multiples of the better of the two scripts.

Even seeds are for choosing constants, odd ones for judging: ``--seeds 40`` runs 40 odd ones, ``--even`` the even ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from flatout import Call, Client, Limits
from flatout.layer import Request
from flatout.store.memory import Learnt, Memory
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

LATENCIES = ((0.3, 3.0), (1.0, 3.0), (2.0, 20.0), (8.0, 60.0))
LONGEST_BACKOFF = 60.0
WORKERS = 64
CHARACTERS = 4.4


class Job(Struct, frozen=True):
    """A provider, what is asked of it, and the limits that it has."""

    settings: ProviderSettings
    calls: int
    limits: Limits
    lengths: tuple[float, float] | None = None  # the median of prompts in tokens, and the 99th percentile's multiple
    max_tokens: int | None = None

    def prompts(self, seed: int) -> Iterator[Call]:
        """The job's calls."""
        chance = Random(seed)
        for index in range(self.calls):
            text = f"prompt {index}"
            if self.lengths is not None:
                median, tail = self.lengths
                tokens = min(median * tail * 2, median * tail ** (chance.gauss() / 2.326))
                text += " " + "def some words " * int(tokens * CHARACTERS / 15)
            yield Call(text, max_tokens=self.max_tokens)


class Yesterday(Memory):
    """Remembers each run as one of the day before, for on the virtual clock the next one begins as soon as it ends."""

    def keep(self, target: str, learnt: Learnt) -> None:
        super().keep(target, replace(learnt, at=learnt.at - 86_400.0))


class Came(Struct, frozen=True):
    """What a run came to."""

    seconds: float
    refused: int
    lost: int


def server(chance: Random) -> dict[str, Any]:
    """How a provider enforces a limit and what it tells of it."""
    kind = chance.choice(["bucket", "bucket", "bucket", "sliding", "fixed"])
    median, p99 = chance.choice(LATENCIES)
    return {
        "limit": kind,
        "burst": chance.choice([1.0, 60.0, 0.5 * 240 ** chance.random()]),
        "latency": median,
        "latency_p99": p99,
        "headers": chance.choice(["", "", "openai", "openai", "azure", "mistral", "anthropic"]),
        "stale_headers": chance.choice([0.0, 0.0, 2.0]),
        "retry_after": chance.choice(["seconds", "seconds", "ms", ""]),
    }


def requests(seed: int) -> Job:
    """A short job under a limit on requests."""
    chance = Random(seed)
    rpm = round(20 * 1_500 ** chance.random())
    calls = round(50 * 20 ** chance.random())
    return Job(ProviderSettings(rpm=rpm, **server(chance)), calls, Limits(rpm=rpm))


def tokens(seed: int) -> Job:
    """A job under a limit on tokens, with the lengths of conversations or of code."""
    chance = Random(seed)
    tpm = round(60_000 * 50 ** chance.random())
    prompt, tail, output = chance.choice([(120.0, 20.0, 150), (900.0, 12.0, 250), (300.0, 40.0, 60)])
    max_tokens = chance.choice([None, None, 1_024, 2_048])
    reserve = chance.random() < 0.5
    settings = ProviderSettings(tpm=tpm, reserve_max_tokens=reserve, output_tokens=output, **server(chance))
    each = max(1.7 * prompt, max_tokens or 0) if reserve else 1.7 * prompt + output
    calls = min(2_000, max(50, round(tpm / each * 4 ** chance.uniform(-1, 1))))
    return Job(settings, calls, Limits(tpm=tpm), (prompt, tail), max_tokens)


async def flatout(job: Job, wire: SimulatedTransport, seed: int, *, limits: Limits, memory: Path | None) -> int:
    async with Client(
        "m", base_url="http://sim/v1", config={}, seed=seed, deadline=1e5, limits=limits, transport=wire
    ) as made:
        if memory is not None:
            made._engine.stack.limiters._memory = Yesterday(memory)
        return sum(not result.ok for result in await made.gather(job.prompts(seed)))


async def script(job: Job, wire: SimulatedTransport, seed: int, *, workers: int | None) -> int:
    """What everybody writes: all at once, or as many as there are workers."""
    gate = asyncio.Semaphore(workers) if workers else nullcontext()
    chance = Random(seed)

    async def one(call: Call) -> bool:
        body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": call.prompt}]}
        if call.max_tokens is not None:
            body["max_tokens"] = call.max_tokens
        request, attempt = Request("POST", "http://sim/v1/chat/completions", {}, json.dumps(body).encode()), 0
        async with gate:
            while (response := await wire.send(request)).status == 429:
                told = float(response.headers.get("retry-after", 0))
                told = max(told, float(response.headers.get("retry-after-ms", 0)) / 1000)
                await asyncio.sleep(max(told, min(LONGEST_BACKOFF, chance.uniform(0.5, 1.0) * 2**attempt)))
                attempt += 1
        return response.status == 200

    return sum(not good for good in await asyncio.gather(*map(one, job.prompts(seed))))


def measure(job: Job, seed: int, ask: Any) -> Came:
    model = ProviderModel(job.settings, seed)
    model.start(0.0)

    async def main() -> Came:
        lost = await ask(job, SimulatedTransport(model), seed)
        return Came(asyncio.get_running_loop().time(), model.stats()["refused"], lost)

    return run_virtual(main(), seed=seed, limit=1e6)


CONTENDERS = ("given", "again", "nothing", "all at once", "naive")


def run(table: str, seed: int) -> tuple[Job, dict[str, Came]]:
    """All contenders on one seed's provider."""
    job: Job = TABLES[table](seed)
    found = {}
    with TemporaryDirectory() as folder:
        given = partial(flatout, limits=job.limits, memory=Path(folder))
        found["given"] = measure(job, seed, given)
        found["again"] = measure(job, seed, given)
    found["nothing"] = measure(job, seed, partial(flatout, limits=Limits(), memory=None))
    found["all at once"] = measure(job, seed, partial(script, workers=None))
    found["naive"] = measure(job, seed, partial(script, workers=WORKERS))
    return job, found


TABLES = {"requests": requests, "tokens": tokens}


def _row(table: str, seed: int, job: Job, found: dict[str, Came]) -> str:
    s, best = job.settings, min(found["all at once"].seconds, found["naive"].seconds)
    limit = f"{s.rpm:,.0f} RPM" if s.rpm else f"{s.tpm:,.0f} TPM"
    how = f"{s.limit} {s.burst:.1f} s" if s.limit == "bucket" else s.limit
    what = f"{seed:4} {job.calls:5} at {limit:13} {how:14} {s.headers or '-':9} {s.retry_after or '-':7} {s.latency:g}"
    if s.tpm:
        what += f" {'max' if s.reserve_max_tokens else 'use'} {job.max_tokens or '-'!s:5}"
    return f"{what:70}" + "".join(
        f"{came.seconds / best:8.2f} {came.refused:5}" + (f" LOST {came.lost}" if came.lost else "")
        for came in found.values()
    ) + f"  {best:7.1f} s"  # fmt: skip


def _summary(rows: list[dict[str, Came]]) -> None:
    print(f"\n{'':14}{'time: median':>14}{'worst tenth':>14}{'worst':>8}{'refused: median':>18}{'worst':>8}{'lost':>6}")
    for name in CONTENDERS:
        times = sorted(each[name].seconds / min(each["all at once"].seconds, each["naive"].seconds) for each in rows)
        refused, lost = [each[name].refused for each in rows], sum(each[name].lost for each in rows)
        tenth = times[-max(1, len(times) // 10)]
        print(f"{name:14}{statistics.median(times):14.2f}{tenth:14.2f}{times[-1]:8.2f}"
              f"{statistics.median(refused):18g}{max(refused):8}{lost:6}")  # fmt: skip
    slower = sum(each["given"].seconds > 1.02 * each["nothing"].seconds for each in rows)
    print(f"nothing given was faster (by more than 2 %) than the truth given in {slower} of {len(rows)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--even", action="store_true", help="the even seeds")
    parser.add_argument("--only", type=int, nargs="*", help="these seeds alone")
    parser.add_argument("--rows", action="store_true", help="a line a seed, too")
    options = parser.parse_args()
    seeds = options.only or [2 * n + (not options.even) for n in range(options.seeds)]
    rows = []
    if options.rows:
        print(f"{'':70}" + "".join(f"{name:>14}" for name in CONTENDERS))
    with ProcessPoolExecutor() as pool:
        for seed, (job, found) in zip(seeds, pool.map(partial(run, options.table), seeds), strict=True):
            rows.append(found)
            if options.rows:
                print(_row(options.table, seed, job, found), flush=True)
    _summary(rows)


if __name__ == "__main__":
    main()
