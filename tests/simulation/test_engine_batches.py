"""Batches that an engine hands over side by side, to a model whose answers take seconds."""

from __future__ import annotations

import asyncio

import pytest

from flatout import Client, Limits
from flatout.tables._flow import answered
from flatout.tables._question import Question
from flatout.tables._workers import batches_at_once
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

pa = pytest.importorskip("pyarrow")

QUESTION = Question("{{ text }}")
SLOW = {"latency": 2.0, "latency_p99": 15.0, "output_tokens": 5, "faults": Faults(server_error=0.01, reset=0.01)}
MEAN = 2.93
"""Seconds that an answer takes on average, of this median and this 99th percentile."""


def asking(model, limits):
    """A client of a simulated provider."""
    return Client(base_url="http://provider.test/v1", limits=limits, config={}, transport=SimulatedTransport(model))


def ask(limits, rows, batch, **provider):
    """Ask rows in batches, as many at once as an engine is told. Returns the counts, and when each batch ended."""
    model, ended = ProviderModel(ProviderSettings(**SLOW, **provider)), []

    async def main():
        loop, turn, room = asyncio.get_running_loop(), asyncio.Lock(), asyncio.Semaphore(batches_at_once(limits, batch))

        async def one(first):
            table = pa.record_batch({"text": [f"row {n}" for n in range(first, first + batch)]})
            async with room:
                [_] = [part async for part in answered(client, iter([table]), QUESTION, turn=turn, model="m")]
                ended.append(loop.time())

        async with asking(model, limits) as client:
            await asyncio.gather(*(one(first) for first in range(0, rows, batch)))

    run_virtual(main())
    return model.stats(), sorted(ended)


def used(stats, per_second, seconds):
    """The share of a rate that was used in the first seconds. What a fault meets uses it, too."""
    return sum(stats["admitted_per_second"][:seconds]) / seconds / per_second * stats["received"] / stats["admitted"]


def test_batches_come_one_after_another_and_use_the_limit_to_the_full():
    """All batches would end together, after two minutes without any, and the limit idle at the slowest rows of all."""
    stats, ended = ask(Limits(rpm=1_500, burst=1.0), rows=3_500, batch=250, rpm=1_500, burst=4.0)
    assert used(stats, 25.0, 130) >= 0.97
    assert ended[0] <= 45.0
    assert ended[6] <= 115.0


def test_an_unknown_limit_is_used_to_the_full():
    """A quarter of it would idle: too few batches would be in hand while they wait for their slowest rows."""
    stats, _ = ask(None, rows=5_000, batch=1_000, rpm=6_000, burst=4.0)
    assert used(stats, 100.0, 45) >= 0.97


def test_slots_are_used_to_the_full():
    """Half of a server's slots would idle, while batches wait for their slowest rows."""
    stats, _ = ask(Limits(concurrency=100), rows=4_000, batch=100)
    assert used(stats, 100 / MEAN, 100) >= 0.93


def test_a_stream_of_batches_uses_a_high_limit_to_the_full():
    """More than half of 10,000 requests a minute would idle, while batches wait for their slowest rows."""
    model = ProviderModel(ProviderSettings(**SLOW, rpm=10_000, burst=4.0))
    batches = (pa.record_batch({"text": [f"row {first}.{n}" for n in range(1_000)]}) for first in range(9))

    async def main():
        async with asking(model, Limits(rpm=10_000, burst=1.0)) as client:
            return [part async for part in answered(client, batches, QUESTION, model="m")]

    assert len(run_virtual(main())) == 9
    assert used(model.stats(), 10_000 / 60, 45) >= 0.97
