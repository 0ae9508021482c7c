"""What it costs to let a call go, with 10,000 waiting: ``python -m benchmarks.admission``.

``policies`` is the decision alone, as the queue takes it: may the next go, then let it go. ``limit`` is the whole
layer, from the arrival of a call to its permit and back, with a task for each call; ``semaphore`` is the same tasks
behind an `asyncio.Semaphore`, the least that could bound them. CPU of one process; medians of rounds that alternate.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial

from flatout.events import Events
from flatout.layer import Journey, set_journey
from flatout.layers.limit import Limit
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Estimator, Need
from flatout.values import Call, Limits, Reply

WAITING = 10_000
IN_FLIGHT = 100
CALL = Call("Explain the CAP theorem in three sentences. " * 9)
PLENTY = 6e9
"""Units per minute of limits that are counted but never reached, so that what is measured is work and not waiting."""

MODES = {
    "concurrency": Limits(concurrency=IN_FLIGHT),
    "requests": Limits(rpm=PLENTY, concurrency=IN_FLIGHT),
    "requests and tokens": Limits(rpm=PLENTY, tpm=1e4 * PLENTY, concurrency=IN_FLIGHT),
}


def policies(limits: Limits) -> float:
    """Microseconds for a decision and an admission."""
    pacer, now = Pacer(limits, 0.0), 1e6
    needs = [Need(100.0, 50.0) for _ in range(WAITING)]
    began = time.process_time()
    for need in needs:
        now += 1e-3
        if pacer.ready_at(need, now)[0] <= now:
            pacer.admit(need, now)
            pacer.in_flight = 0
    return (time.process_time() - began) / WAITING * 1e6


def tasks(ask: Callable[[], Awaitable[object]]) -> float:
    """Microseconds for each of so many tasks that wait at once."""

    async def main() -> float:
        began = time.process_time()
        await asyncio.gather(*(ask() for _ in range(WAITING)))
        return (time.process_time() - began) / WAITING * 1e6

    return asyncio.run(main())


def semaphore() -> float:
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def ask() -> None:
        set_journey(Journey(0.0))
        async with gate:
            await asyncio.sleep(0)

    return tasks(ask)


def limit(limits: Limits) -> float:
    plain = Limit("sim", lambda now: Pacer(limits, now - 60.0), Estimator(), Events())
    layer = partial(plain, service=plain.health.service("chat"))
    reply = Reply(text="")

    async def answer(call: Call) -> Reply:
        await asyncio.sleep(0)
        return reply

    async def ask() -> None:
        set_journey(Journey(0.0))
        await layer(CALL, answer)

    return tasks(ask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    base: list[float] = []
    rows: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in MODES}
    for _ in range(options.rounds):
        base.append(semaphore())
        for name, limits in MODES.items():
            rows[name][0].append(policies(limits))
            rows[name][1].append(limit(limits))
    print(f"\n{WAITING:,} waiting, {IN_FLIGHT} in flight; µs of CPU a call, medians of {options.rounds} rounds")
    print(f"{'limits':24}{'policies':>10}{'limit':>10}{'semaphore':>11}{'the layer adds':>16}")
    for name, (decided, whole) in rows.items():
        added = statistics.median(a - b for a, b in zip(whole, base, strict=True))
        print(
            f"{name:24}{statistics.median(decided):>10.2f}{statistics.median(whole):>10.2f}"
            f"{statistics.median(base):>11.2f}{added:>16.2f}"
        )


if __name__ == "__main__":
    main()
