"""A route over two simulated servers, over HTTP, beside LiteLLM's Router: ``python -m benchmarks.routes``.

Each server takes 1,200 requests a minute, and no burst. One of them dies for 20 s, or its limit is halved. Shown are
the seconds until the last answer, beside the best that the limits allow; the requests that were refused (429); and
the rows that were lost. ``hedge`` shows how long the slowest calls take with and without hedging, ``cost`` what a
route adds to a call in CPU. LiteLLM is installed into an environment of its own, or ``--peer`` names an interpreter
that has it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Struct

from flatout import Call, Client, Limits, Route
from flatout.journey import Journey, set_journey
from flatout.testing import ProviderSettings, simulate

from .layers import Echo
from .server import in_own_process

RPM = 1_200
EACH: dict[str, Any] = {"rpm": RPM, "burst": 1.0, "latency": 2.0}
LATENCY_LAST = 4.0
"""Seconds that the last answer may take."""

PEER_FAILS = 300.0
"""Seconds after which the other router is given up."""


class Job(Struct, frozen=True):
    """A job of two servers.

    Attributes:
        name: what happens.
        calls: how many calls it has.
        first: what distinguishes the first server.
        best: seconds in which the limits allow all calls to be sent.
    """

    name: str
    calls: int
    first: dict[str, Any]
    best: float


JOBS = {
    "well": Job("both are well", 1_600, {}, 40.0),
    "dies": Job("one is down from 10 s to 30 s", 1_600, {"outage": (10.0, 30.0), "outage_as": "refused"}, 50.0),
    "halves": Job("one takes half from 10 s on", 1_600, {"changes": ((10.0, {"rpm": RPM / 2}),)}, 50.0),
}


class Took(Struct, frozen=True):
    """How a job went."""

    seconds: float
    refused: int
    lost: int

    def line(self, name: str, job: Job) -> str:
        over = self.seconds / (job.best + LATENCY_LAST)
        return f"  {name:<26}{self.seconds:>8.1f} s{over:>7.2f} ×{self.refused:>9,}{self.lost:>7,}"


def _provider(ready: Connection, settings: ProviderSettings, seed: int) -> None:
    simulate(settings, port=0, seed=seed, announce=ready.send)


@contextmanager
def servers(*all_settings: dict[str, Any]) -> Iterator[list[str]]:
    """Servers in processes of their own, whose clocks start now; yields their base URLs."""
    with ExitStack() as stack:
        urls = [
            stack.enter_context(in_own_process(_provider, ProviderSettings(**settings), seed))
            for seed, settings in enumerate(all_settings)
        ]
        yield urls


def reset(urls: Sequence[str]) -> None:
    for url in urls:
        urllib.request.urlopen(urllib.request.Request(_root(url) + "/__reset", method="POST")).close()


def refused(urls: Sequence[str]) -> int:
    stats = (json.load(urllib.request.urlopen(_root(url) + "/__stats")) for url in urls)
    return sum(each["refused"] for each in stats)


def _root(url: str) -> str:
    return url.removesuffix("/v1")


def config(urls: Sequence[str], **limits: Any) -> dict[str, Any]:
    names = [chr(ord("a") + place) for place in range(len(urls))]
    endpoints = {name: {"base_url": url} for name, url in zip(names, urls, strict=True)}
    return {"endpoints": endpoints, "limits": dict.fromkeys(names, limits)}


async def run(urls: Sequence[str], calls: int) -> tuple[float, int]:
    async with Client(Route("a/m", "b/m"), config=config(urls, rpm=RPM)) as client:
        began = time.monotonic()
        results = await client.gather(f"question {number}" for number in range(calls))
        return time.monotonic() - began, sum(not result.ok for result in results)


def measure(job: Job, peer: str | None) -> None:
    with servers(EACH | job.first, EACH) as urls:
        reset(urls)
        seconds, lost = asyncio.run(run(urls, job.calls))
        print(Took(seconds, refused(urls), lost).line("flatout", job), flush=True)
        for way in ("plain", "tuned") if peer is not None else ():
            reset(urls)
            script = Path(__file__).with_name("routes_peer.py")
            command = [peer, str(script), way, str(RPM), str(job.calls), *urls]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PEER_FAILS)
            if done.returncode:
                print(f"  LiteLLM: skipped ({(done.stderr.strip().splitlines() or ['it failed'])[-1]})")
                return
            found = json.loads(done.stdout.splitlines()[-1])
            print(Took(found["seconds"], refused(urls), found["lost"]).line(found["name"], job), flush=True)


@contextmanager
def interpreter(given: str | None) -> Iterator[str | None]:
    """The interpreter that has LiteLLM. If it cannot be installed: None, and the reason is printed."""
    if given is not None:
        yield given
        return
    with TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        done = subprocess.run([python, "-m", "pip", "install", "-q", "litellm"], capture_output=True, text=True)
        if done.returncode:
            print(f"LiteLLM: skipped ({(done.stderr.strip().splitlines() or ['pip failed'])[-1]})")
        yield None if done.returncode else python


async def slowest(urls: Sequence[str], hedge: float, calls: int, per_second: float) -> list[float]:
    """Seconds of each call, in order of size, when calls come evenly."""
    route = Route("a/m", "b/m", order="spread", hedge=hedge)
    async with Client(route, config=config(urls, rpm=60_000)) as client:

        async def ask(number: int) -> float:
            await asyncio.sleep(number / per_second)
            return (await client.result(f"question {number}")).elapsed

        return sorted(await asyncio.gather(*map(ask, range(calls))))


def hedging() -> None:
    calls = 1_000
    slow = {"latency": 1.0, "latency_p99": 15.0}
    print(f"hedge: {calls:,} calls, 25 a second, to two servers of 1 s in the median and 15 s in the 99th percentile")
    for hedge in (0.0, 0.05):
        with servers(slow, slow) as urls:
            reset(urls)
            took = asyncio.run(slowest(urls, hedge, calls, 25.0))
            stats = [json.load(urllib.request.urlopen(_root(url) + "/__stats")) for url in urls]
            more = sum(each["received"] for each in stats) / calls - 1.0
        p50, p95, p99 = (took[int(share * calls)] for share in (0.5, 0.95, 0.99))
        print(f"  hedge={hedge:<6g} p50 {p50:5.2f} s  p95 {p95:5.2f} s  p99 {p99:5.2f} s  {more:5.1%} more requests")


async def cpu(model: str, concurrency: int, width: int, calls: int) -> float:
    """Microseconds of CPU a call, with so many calls at a time."""
    ends = config([f"http://127.0.0.1:{port}/v1" for port in (1, 2, 3)])["endpoints"]
    limits = Limits(concurrency=concurrency)
    async with Client(model, transport=Echo(), config={"endpoints": ends}, limits=limits) as client:
        answer, call = client._engine.stack.answer, Call("question")

        async def ask(count: int) -> None:
            for _ in range(count):
                set_journey(Journey(asyncio.get_running_loop().time()))
                await answer(call)

        await asyncio.gather(*(ask(10) for _ in range(width)))
        began = time.process_time()
        await asyncio.gather(*(ask(calls // width) for _ in range(width)))
        return (time.process_time() - began) / calls * 1e6


def cost(rounds: int = 15, calls: int = 2_000) -> None:
    routes = {1: "a/m", 2: Route("a/m", "b/m"), 3: Route("a/m", "b/m", "c/m")}
    print("cost: CPU µs a call in process, the least of all rounds: a target, and what a route of two or three adds")
    for name, most, width in (("room", 60, 1), ("all wait", 12, 400)):
        used: dict[int, list[float]] = {number: [] for number in routes}
        for _ in range(rounds):
            for number, model in routes.items():
                used[number].append(asyncio.run(cpu(model, most // number, width, calls)))
        best = {number: min(values) for number, values in used.items()}
        print(f"  {name:<10}{best[1]:6.1f}" + "".join(f"   +{best[number] - best[1]:.1f}" for number in (2, 3)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=[*JOBS, "hedge", "cost"], help="well, dies, halves, hedge, cost")
    parser.add_argument("--peer", help="an interpreter that has LiteLLM")
    options = parser.parse_args()
    jobs = [JOBS[name] for name in options.what if name in JOBS]
    with interpreter(options.peer) if jobs else ExitStack() as peer:
        for job in jobs:
            print(f"{job.calls:,} calls, {job.name}: at best {job.best:.0f} s, and the last answer's time")
            print(f"  {'':<26}{'took':>10}{'of best':>9}{'429s':>9}{'lost':>7}", flush=True)
            measure(job, peer if isinstance(peer, str) else None)
    if "hedge" in options.what:
        hedging()
    if "cost" in options.what:
        cost()


if __name__ == "__main__":
    sys.exit(main())
