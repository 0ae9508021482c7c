"""What an outage costs, on the virtual clock: ``python -m benchmarks.outages`` (``--drawn 40`` for outages at random).

``naive`` is what everybody writes: a semaphore, and for each call attempts with a backoff of its own that doubles.
Shown are the calls that were lost, how long it took after the outage's length was taken off, as a multiple of what it
takes without one, and the requests per second that met the outage, from its third second on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Callable
from random import Random
from typing import Any

from msgspec import Struct

from flatout import Client, ConnectError, Limits
from flatout.layer import Request, Response
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

CALLS, RPM = 8_000, 10_000
SLOW: dict[str, Any] = {"latency": 2.0, "latency_p99": 20.0}
ATTEMPTS = 6


class Outage(Struct, frozen=True):
    """When nothing is answered, and what comes instead: a status, or 0 for refused connections.

    Attributes:
        kills: whether what is under way when it begins fails, too.
        after: seconds that a failure takes.
    """

    begins: float
    ends: float
    status: int
    kills: bool = False
    after: float = 0.02


class Case(Struct, frozen=True, kw_only=True):
    name: str
    calls: int = CALLS
    limits: Limits | None = None
    outage: Outage | None = None
    settings: dict[str, Any] = {}
    workers: int = 500


class Failing(SimulatedTransport):
    """A provider with an outage. Keeps the times of the requests that met it."""

    def __init__(self, model: ProviderModel, outage: Outage | None) -> None:
        super().__init__(model)
        self.outage = outage
        self.met: list[float] = []

    async def send(self, request: Request) -> Response:
        outage, now = self.outage, asyncio.get_running_loop().time()
        if outage is None or now >= outage.ends:
            return await super().send(request)
        if now >= outage.begins:
            self.met.append(now)
            await asyncio.sleep(outage.after)
            return self._failure(outage)
        if not outage.kills:
            return await super().send(request)
        try:
            async with asyncio.timeout_at(outage.begins):
                return await super().send(request)
        except TimeoutError:
            return self._failure(outage)

    def _failure(self, outage: Outage) -> Response:
        if not outage.status:
            raise ConnectError("no connection to the provider: connection refused")
        body = b'{"error": {"message": "the provider is down", "type": "server_error"}}'
        return Response(outage.status, {"content-type": "application/json"}, body)


async def flatout(case: Case, wire: Failing, seed: int) -> int:
    options: dict[str, Any] = {"base_url": "http://sim/v1", "config": {}, "seed": seed, "deadline": 1e5}
    async with Client("m", transport=wire, limits=case.limits, **options) as client:
        return sum(not result.ok for result in await client.gather([f"prompt {n}" for n in range(case.calls)]))


async def naive(case: Case, wire: Failing, seed: int) -> int:
    gate, chance = asyncio.Semaphore(case.workers), Random(seed)

    async def one(prompt: str) -> bool:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()
        for attempt in range(ATTEMPTS):
            async with gate:
                try:
                    response = await wire.send(Request("POST", "http://sim/v1/chat/completions", {}, body))
                    if response.status == 200:
                        return True
                    told = float(response.headers.get("retry-after", 0))
                except ConnectError:
                    told = 0.0
                await asyncio.sleep(max(told, chance.uniform(0.5, 1.0) * 2**attempt))
        return False

    return sum(not good for good in await asyncio.gather(*(one(f"prompt {n}") for n in range(case.calls))))


Run = Callable[[Case, Failing, int], Any]


def measure(run: Run, case: Case, seed: int) -> tuple[int, float, float]:
    """Calls lost, seconds taken, and the requests per second that met the outage after it had lasted for two."""
    wire = Failing(ProviderModel(ProviderSettings(**{**SLOW, **case.settings}), seed), case.outage)

    async def main() -> tuple[int, float]:
        lost = await run(case, wire, seed)
        return lost, asyncio.get_running_loop().time()

    lost, seconds = run_virtual(main(), seed=seed, limit=1e6)
    outage = case.outage
    if outage is None or outage.ends - outage.begins <= 2:
        return lost, seconds, 0.0
    late = sum(at >= outage.begins + 2 for at in wire.met)
    return lost, seconds, late / (outage.ends - outage.begins - 2)


RATE = {"rpm": float(RPM), "burst": 1.0}
GIVEN, SLOTS = Limits(rpm=RPM), Limits(concurrency=500)


def cases() -> list[Case]:
    """The outages of the table."""
    made = [
        Case(name=f"3 s of {status}, concurrency=500", limits=SLOTS, outage=Outage(10, 13, status))
        for status in (500, 502)
    ]
    for status in (503, 500, 0):
        for limits, name in ((GIVEN, "rpm given"), (SLOTS, "concurrency=500")):
            what = f"20 s of {status or 'refused connections'}, {name}"
            made.append(Case(name=what, limits=limits, outage=Outage(10, 30, status)))
    for limits, name in ((GIVEN, "rpm given"), (SLOTS, "concurrency=500")):
        made.append(
            Case(name=f"all in flight dies, 3 s of 500, {name}", limits=limits, outage=Outage(10, 13, 500, True))
        )
    for status in (0, 500):
        for limits, name in ((GIVEN, "rpm given"), (SLOTS, "concurrency=500"), (None, "nothing given")):
            what = f"{status or 'refused'} for the first 5 s, {name}"
            made.append(Case(name=what, calls=2_000, limits=limits, outage=Outage(0, 5, status)))
    for limits, name in ((None, "nothing given"), (SLOTS, "concurrency=500")):
        slots = {"slots": 64, "queue": 64, "queue_status": 503, "rpm": None}
        made.append(
            Case(name=f"64 slots, a queue of 64, {name}", calls=2_000, limits=limits, settings=slots, workers=64)
        )
    return made


def drawn(seed: int) -> Case:
    """An outage of 1 s to 10 min, at random."""
    chance = Random(seed)
    length = 10 ** chance.uniform(0, 2.778)
    begins = chance.uniform(0, 45)
    outage = Outage(begins, begins + length, chance.choice([0, 500, 502, 503, 529]), chance.random() < 0.3)
    limits = chance.choice([GIVEN, SLOTS])
    return Case(
        name=f"seed {seed}: {length:.0f} s of {outage.status} from {begins:.0f} s", limits=limits, outage=outage
    )


def show(case: Case, seed: int, contenders: dict[str, Run]) -> tuple[int, float, float]:
    """Print a case's line. Returns what flatout's was."""
    mine = (0, 0.0, 0.0)
    print(f"{case.name:52}", end="", flush=True)
    calm = Case(name="", calls=case.calls, limits=case.limits, settings=case.settings, workers=case.workers)
    for name, run in contenders.items():
        _, ideal, _ = measure(naive if "slots" in case.settings else run, calm, seed)
        lost, seconds, rate = measure(run, case, seed)
        length = case.outage.ends - case.outage.begins if case.outage is not None else 0.0
        times = (seconds - length) / ideal
        print(f"{lost:>8}{times:>8.2f}{rate:>8.2f}", end="", flush=True)
        if name == "flatout":
            mine = (lost, times, rate)
    print()
    return mine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drawn", type=int, default=0, help="so many outages at random instead of the table")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--no-naive", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    contenders: dict[str, Run] = {"flatout": flatout} if options.no_naive else {"flatout": flatout, "naive": naive}
    print(f"{'':52}" + "".join(f"{name + ' lost':>8}{'× ideal':>8}{'req/s':>8}" for name in contenders))
    todo = [drawn(options.first + n) for n in range(options.drawn)] if options.drawn else cases()
    all_of = [show(case, options.first + 1, contenders) for case in todo if options.only in case.name]
    lost, times, rates = zip(*all_of, strict=True)
    print(f"flatout: {sum(lost)} lost; × ideal {statistics.median(times):.2f} (worst {max(times):.2f}); "
          f"requests per second in an outage: worst {max(rates):.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
