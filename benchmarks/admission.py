"""What it costs to let a call go, with 10,000 waiting: ``python -m benchmarks.admission``.

``decision`` is the policies' alone, as the queue takes it: may the next go, then let it go; ``answer`` is what they
learn from an answer. ``limit`` is the whole layer, from the arrival of a call to its permit and back, with a task for
each call; ``semaphore`` is the same tasks behind an `asyncio.Semaphore`, the least that could bound them. CPU of one
process; medians of rounds that alternate.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial

from benchmarks.rounds import added, medians
from flatout.events import Events
from flatout.journey import Journey, set_journey
from flatout.layers.limit import Limit
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Estimator, Need
from flatout.values import Call, Limits, Reply, Usage

WAITING, ROUNDS = 10_000, 20
IN_FLIGHT = 100
CALL = Call("Explain the CAP theorem in three sentences. " * 9)
PLENTY = 6e9
"""Units per minute of limits that are counted but never reached, so that what is measured is work and not waiting."""

MODES = {
    "concurrency": Limits(concurrency=IN_FLIGHT),
    "requests": Limits(rpm=PLENTY, concurrency=IN_FLIGHT),
    "requests and tokens": Limits(rpm=PLENTY, tpm=1e4 * PLENTY, concurrency=IN_FLIGHT),
}


def known(limits: Limits) -> tuple[Pacer, float]:
    """A pacer whose limits are given, and the present."""
    return Pacer(limits, 0.0), 1e6


def hosted() -> tuple[Pacer, float]:
    """A pacer of a server of one's own."""
    pacer = Pacer(Limits(adaptive="concurrency"), 0.0)
    if pacer.aimd is not None:
        pacer.aimd.limit = IN_FLIGHT
    return pacer, 1e6


def climbing() -> tuple[Pacer, float]:
    """A pacer that has met no limit yet."""
    pacer = Pacer(Limits(), 0.0)
    decide(pacer, 0.0, 2)
    return pacer, 1.0


def holding() -> tuple[Pacer, float]:
    """A pacer that goes on below a limit which it has found, and looks above it now and then."""
    return Pacer(Limits(), 0.0, learnt=100.0), 0.0


def among_others() -> tuple[Pacer, float]:
    """A pacer that has found that others use its limit, too: half of it, and now more, now less."""
    pacer, now = Pacer(Limits(), 0.0, learnt=60.0), 0.0
    room, since = 20.0, 0.0
    while ", among" not in repr(pacer):
        need = Need()
        now = max(now, pacer.ready_at(need, now)[0])
        pacer.admit(need, now)
        left = 75.0 if now % 14.0 < 7.0 else 25.0
        room, since = min(20.0, room + left * (now - since)), now
        if room < 1.0:
            pacer.refused(need, None, {}, now, now, 0.0)
        else:
            room -= 1.0
            pacer.answered(need, USAGE, {}, now, now, 0.0)
    return pacer, now


STATES: dict[str, Callable[[], tuple[Pacer, float]]] = {
    **{name: partial(known, limits) for name, limits in MODES.items()},
    "your own server": hosted,
    "unknown: climb": climbing,
    "unknown: hold and look": holding,
    "unknown, among others": among_others,
}
USAGE = Usage(input_tokens=100, output_tokens=50)


def policies(state: Callable[[], tuple[Pacer, float]]) -> tuple[float, float]:
    """Microseconds for a decision and an admission, and for an answer."""
    return decide(*state(), ROUNDS)


def decide(pacer: Pacer, now: float, rounds: int) -> tuple[float, float]:
    """The same, for so many rounds of up to `IN_FLIGHT` calls that are let go, and then are answered."""
    decisions, answers, calls = 0.0, 0.0, 0
    for _ in range(rounds):
        needs = [Need(100.0, 50.0) for _ in range(IN_FLIGHT)]
        began = time.process_time()
        for need in needs:
            at, _ = pacer.ready_at(need, now)
            if at == math.inf:
                break
            now = max(now, at)
            pacer.admit(need, now)
        sent = time.process_time()
        gone = needs[: pacer.in_flight]
        for need in gone:
            pacer.answered(need, USAGE, {}, now - 1.0, now, 0.0)
        decisions, answers = decisions + sent - began, answers + time.process_time() - sent
        calls += len(gone)
    return decisions / calls * 1e6, answers / calls * 1e6


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
    alone: dict[str, list[tuple[float, float]]] = {name: [] for name in STATES}
    whole: dict[str, list[float]] = {name: [] for name in MODES}
    for _ in range(options.rounds):
        base.append(semaphore())
        for name, state in STATES.items():
            alone[name].append(policies(state))
        for name, limits in MODES.items():
            whole[name].append(limit(limits))
    print(f"\n{WAITING:,} waiting, {IN_FLIGHT} in flight; µs of CPU a call, medians of {options.rounds} rounds")
    print(f"{'limits':24}{'decision':>10}{'answer':>10}{'limit':>10}{'semaphore':>11}{'the layer adds':>16}")
    for name, each in alone.items():
        decided, answered = medians(each)
        print(f"{name:24}{decided:>10.2f}{answered:>10.2f}" + _layer(whole.get(name), base))


def _layer(whole: list[float] | None, base: list[float]) -> str:
    """What the whole layer takes, where it was measured, beside a semaphore."""
    if whole is None:
        return ""
    return f"{statistics.median(whole):>10.2f}{statistics.median(base):>11.2f}{added(whole, base):>16.2f}"


if __name__ == "__main__":
    main()
