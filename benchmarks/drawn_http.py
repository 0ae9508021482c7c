"""The servers of `benchmarks.drawn` over HTTP and in real time: ``python -m benchmarks.pacing drawn --http``.

Each drawn server listens in a process of its own, and is what it is on the virtual clock. Those that are too fast for a
machine that is shared are left out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from unittest.mock import patch

import aiohttp
import msgspec
from aiohttp import web

from flatout.layer import Request

from . import drawn
from .drawn import Counts, Outcome, Target
from .machine import Machine
from .pacing_http import OVERTIME, start
from .server import in_own_process

FASTEST = 40.0
"""Requests per second of the fastest server that is tried."""

BACKLOG = 1_024


def seeds(number: int) -> list[int]:
    """The first so many odd seeds whose servers are slow enough."""
    return list(islice(_slow(), number))


def _slow() -> Iterator[int]:
    return (seed for seed in count(1, 2) if drawn.drawn(seed).attainable <= FASTEST)


def outcomes(of: list[int], longest: float, machine: Machine) -> list[asyncio.Task[Outcome]]:
    """Begin a run on the server of each seed, for so many seconds at the most."""
    return start([(drawn.drawn(seed).attainable, partial(outcome, seed, longest)) for seed in of], machine)


def outcome(seed: int, longest: float) -> Outcome:
    """One run, in a process of its own: it sets the environment."""
    with (
        TemporaryDirectory() as cache,  # what a client learnt of a target is kept there: it shall know nothing
        patch.dict(os.environ, XDG_CACHE_HOME=cache),
        in_own_process(_serve, seed) as port,
    ):
        return asyncio.run(_drive(seed, f"http://127.0.0.1:{port}", longest))


async def _drive(seed: int, origin: str, longest: float) -> Outcome:
    server = drawn.drawn(seed)
    seconds = min(longest, server.seconds)

    async with aiohttp.ClientSession(raise_for_status=True) as session, asyncio.timeout(seconds + OVERTIME):

        async def counts(after: float = 0.0) -> Counts:
            await asyncio.sleep(after)
            async with session.get(f"{origin}/counts") as answer:
                return msgspec.json.decode(await answer.read(), type=Counts)

        async with drawn.client(f"{origin}/v1") as made, session.post(f"{origin}/begin"):
            warm = asyncio.create_task(counts(drawn.WARM))
            lost = await drawn.call(made, asyncio.get_running_loop().time() + seconds)
            return drawn.came(server, seconds, await warm, await counts(), lost)


def _serve(ready: Connection, seed: int) -> None:
    asyncio.run(_listen(ready, Target(drawn.drawn(seed))))


async def _listen(ready: Connection, target: Target) -> None:
    """Answer for a drawn server, until the process is ended."""

    async def complete(_: web.Request) -> web.Response:
        response = await target.send(Request("POST", "", {}, b""))
        headers = {"content-type": "application/json", **response.headers}
        return web.Response(status=response.status, headers=headers, body=response.body)

    async def counts(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(target.counts()))

    async def begin(_: web.Request) -> web.Response:
        target.began = asyncio.get_running_loop().time()
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", complete), web.get("/counts", counts), web.post("/begin", begin)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG).start()
    ready.send(runner.addresses[0][1])
    await asyncio.Event().wait()
