"""One run of a case of `benchmarks.pacing`: a client flat out against a simulated provider, and what came of it.

On the virtual clock here; over HTTP, which shares all of it but the clock and the network, in `benchmarks.pacing_http`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, nullcontext
from random import Random
from typing import Any
from unittest.mock import patch

from msgspec import Struct

from flatout import Call, Client, Limits
from flatout.layer import Transport
from flatout.policies.pacing.tokens import Estimator, Need
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

Stats = Callable[[], Awaitable[dict[str, Any]]]


class Case(Struct, frozen=True, kw_only=True):
    """One provider, one client, one kind of traffic.

    Attributes:
        rate: requests per second that the provider allows.
        tokens: tokens per second that it allows; then ``used`` counts tokens.
        error: by how much each guess of a call's tokens is off at most, besides what the estimator does not know.
    """

    name: str
    settings: ProviderSettings
    limits: Limits = Limits()
    seconds: float = 300.0
    calls: int | None = None
    best: float | None = None
    provider: str | None = None
    max_tokens: int | None = None
    words: tuple[int, int] = (5, 15)
    measured_from: float = 60.0
    rate: float = 0.0
    tokens: float = 0.0
    error: float = 0.0
    bound: str = ""


class Measured(Struct, frozen=True):
    """What one run of a case came to."""

    used: float
    refused: float
    seconds: float
    lost: int
    admitted: list[int]


def run(case: Case, seed: int) -> Measured:
    """One run of a case on the virtual clock, from its seed."""
    model = ProviderModel(case.settings, seed=seed)
    model.start(0.0)
    with wrong_by(case.error, seed):
        return run_virtual(_drive_virtual(case, model, seed), seed=seed, limit=1e6)


async def _drive_virtual(case: Case, model: ProviderModel, seed: int) -> Measured:
    async def stats() -> dict[str, Any]:
        return model.stats()

    async with client(case, "http://provider/v1", seed, SimulatedTransport(model)) as made:
        return await drive(case, made, 0.0, stats)


def wrong_by(error: float, seed: int) -> AbstractContextManager[Any]:
    """Make the guesses of tokens wrong at random, by a share that nothing can learn."""
    if not error:
        return nullcontext()
    guess, random = Estimator.guess, Random(seed)

    def wrong(self: Estimator, need: Need, call: Call) -> None:
        guess(self, need, call)
        need.input *= random.uniform(1.0 - error, 1.0 + error)
        need.output *= random.uniform(1.0 - error, 1.0 + error)

    return patch.object(Estimator, "guess", wrong)


def client(case: Case, url: str, seed: int, transport: Transport | None = None) -> Client:
    """The client of a case, for a provider at a base URL."""
    endpoint: dict[str, Any] = {"base_url": url}
    if case.provider is not None:
        endpoint["provider"] = case.provider
    return Client(
        "sim/model",
        config={"endpoints": {"sim": endpoint}},
        limits=case.limits,
        transport=transport,
        seed=seed,
        deadline=1e5,
    )


async def drive(case: Case, made: Client, began: float, stats: Stats) -> Measured:
    """Send a case's calls and read off what the provider counted.

    Args:
        case: what to send, and for how long.
        made: its client, which has sent nothing yet.
        began: the loop's time at the provider's second 0.
        stats: asks the provider what it counted so far.
    """
    loop = asyncio.get_running_loop()
    ends, lost = began + case.seconds, 0

    async def tokens_at(seconds: float) -> int:
        await asyncio.sleep(began + seconds - loop.time())
        return int((await stats())["tokens_admitted"])

    marks = [asyncio.create_task(tokens_at(at)) for at in (case.measured_from, case.seconds) if case.tokens]
    source = _count(case) if case.calls is not None else _until(case, ends)
    async with aclosing(made.as_completed(source)) as results:
        async for result in results:
            lost += not result.ok
            if case.calls is None and loop.time() >= ends:
                break  # what was read ahead would be paced for minutes more, and count as calm traffic
    seconds, seen = loop.time() - began, await stats()
    tokens = await asyncio.gather(*marks)
    admitted = seen["admitted_per_second"]
    first, last = int(case.measured_from), int(case.seconds)
    used = sum(admitted[first:last]) / (case.rate * (last - first)) if case.rate and last > first else float("nan")
    if tokens:
        used = (tokens[1] - tokens[0]) / (case.tokens * (last - first))
    return Measured(used, seen["refused"] / max(1, seen["received"]), seconds, lost, admitted)


def _call(case: Case, index: int) -> Call:
    low, high = case.words
    words = low if low == high else low + (index * 2_654_435_761 % 2**32) * (high - low) // 2**32
    return Call(f"{index} " + "some words " * (words // 2), max_tokens=case.max_tokens)


def _count(case: Case) -> Iterator[Call]:
    assert case.calls is not None
    return (_call(case, index) for index in range(case.calls))


async def _until(case: Case, ends: float) -> AsyncIterator[Call]:
    loop = asyncio.get_running_loop()
    index = 0
    while loop.time() < ends:
        yield _call(case, index)
        index += 1
