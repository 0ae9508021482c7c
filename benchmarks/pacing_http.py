"""The cases of `benchmarks.pacing` over HTTP and in real time, side by side.

Each run has two processes to itself, the provider (`flatout.testing.simulate`) and the client: one that is busy for a
second then delays no other. The provider's clock starts with the client's, through ``/__reset``. No run begins while
the machine is busy, or another has just begun: a climb in a process that gets no turn hears late of what is refused.
"""

from __future__ import annotations

import asyncio
import multiprocessing as mp
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from unittest.mock import patch

import aiohttp
from msgspec import structs

import flatout.transports.http  # noqa: F401  # imported with the first call otherwise, and that takes half a second
from flatout.testing import ProviderSettings, simulate

from .machine import Machine
from .pacing_run import Case, Measured, client, drive, wrong_by
from .server import in_own_process

RunT = TypeVar("RunT")

RATE = 250.0
"""Requests per second of all runs together, so that the machine is not what is measured."""

RUNS = 24
"""Runs side by side at most, each some 120 MB."""

APART = 10.0
"""Seconds between the beginnings of two runs, which take most: two interpreters start, and then the client climbs."""

OVERTIME = 180.0
"""Seconds that a run may take beyond its time."""


def shortened(case: Case, minutes: float) -> Case:
    """The case for so many minutes, and for one after the moment from which it is measured at least."""
    least = case.measured_from + 60.0
    return structs.replace(case, seconds=min(case.seconds, max(least, minutes * 60.0)))


def start(jobs: Sequence[tuple[float, Callable[[], RunT]]], machine: Machine) -> list[asyncio.Task[RunT]]:
    """Begin runs, each with its requests per second, as many at a time as the machine has room for.

    Returns:
        A task for each, in their order. The busiest runs go first, the others fill the gaps; those about as busy go in
        the order given, so that the first results are there soon.
    """
    room = _Room(machine)
    order = sorted(range(len(jobs)), key=lambda index: -round(jobs[index][0], -1))
    tasks = {index: asyncio.create_task(_run(room, *jobs[index])) for index in order}
    return [tasks[index] for index in range(len(jobs))]


async def _run(room: _Room, rate: float, job: Callable[[], RunT]) -> RunT:
    async with room.share(rate):
        with ProcessPoolExecutor(1, mp_context=mp.get_context("spawn")) as pool:
            return await asyncio.get_running_loop().run_in_executor(pool, job)


class _Room:
    """Keeps the runs side by side below `RATE` and `RUNS`, and their beginnings apart."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._turn = asyncio.Condition()
        self._begin = asyncio.Lock()
        self._next_at = 0.0
        self._rate = 0.0
        self._runs = 0

    @asynccontextmanager
    async def share(self, rate: float) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        async with self._begin:
            async with self._turn:
                await self._turn.wait_for(lambda: not self._runs or (self._rate + rate <= RATE and self._runs < RUNS))
                self._rate += rate
                self._runs += 1
            await asyncio.sleep(max(0.0, self._next_at - loop.time()))
            await self._machine.calm()
            self._next_at = loop.time() + APART
        try:
            yield
        finally:
            async with self._turn:
                self._rate -= rate
                self._runs -= 1
                self._turn.notify_all()


def run_http(case: Case, seed: int) -> Measured:
    """One run of a case over HTTP, in a process of its own: it sets the environment, and may patch the estimator."""
    with (
        TemporaryDirectory() as cache,  # what a client learnt of a target is kept there: it shall know nothing
        patch.dict(os.environ, XDG_CACHE_HOME=cache),
        wrong_by(case.error, seed),
        in_own_process(_serve, case.settings, seed) as url,
    ):
        return asyncio.run(_drive(case, url, seed))


async def _drive(case: Case, url: str, seed: int) -> Measured:
    origin = url.removesuffix("/v1")
    async with aiohttp.ClientSession(raise_for_status=True) as session, asyncio.timeout(case.seconds + OVERTIME):

        async def stats() -> dict[str, Any]:
            async with session.get(f"{origin}/__stats") as answer:
                found: dict[str, Any] = await answer.json()
                return found

        async with client(case, url, seed) as made:
            async with session.post(f"{origin}/__reset"):
                began = asyncio.get_running_loop().time()
            return await drive(case, made, began, stats)


def _serve(ready: Connection, settings: ProviderSettings, seed: int) -> None:
    simulate(settings, port=0, seed=seed, announce=ready.send)
