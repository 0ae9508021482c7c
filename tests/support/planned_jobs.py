"""Jobs of many kinds, each planned and then run on the virtual clock, to see whether the forecast holds the truth."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, NamedTuple

from flatout import Call, Client, Limits
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual
from flatout.values.plan import Plan

WORD = "lorem "


class Job(NamedTuple):
    """A job: its calls, the provider, and what the client knows of it."""

    kind: str
    calls: list[Call]
    provider: ProviderSettings
    limits: Limits | None
    price: tuple[float, float]


class Planned(NamedTuple):
    """A plan, and what the calls that it left then cost and took."""

    job: Job
    plan: Plan
    cost: float
    seconds: float


def drawn(seed: int, most: int = 1_200) -> Job:
    """One of the jobs."""
    random = Random(seed)
    count = round(300 * (most / 300) ** random.random())
    kind = random.choice(["rpm", "tpm", "both", "headers", "concurrency", "slots and rpm"])
    output = round(10 * 30 ** random.random())
    max_tokens = random.choice([None, None, 2 * output, 8 * output])
    calls = [
        Call(f"{number} {WORD * words}", max_tokens=max_tokens) for number, words in enumerate(_lengths(random, count))
    ]
    tokens = sum(len(call.prompt or "") for call in calls) / 4.4 / count + output
    minutes = 0.5 * 12 ** random.random()  # that the limits make of the job
    rpm = round(max(30.0, count / minutes))
    tpm = round(max(4.0 * tokens, count * tokens / minutes)) if max_tokens is None or random.random() < 0.5 else None
    latency = 0.2 * 40 ** random.random()
    concurrency = max(2, round(count * latency / (minutes * 60.0)))
    told = kind == "headers"
    has_rpm = kind in ("rpm", "both", "headers", "slots and rpm")
    has_tpm = kind in ("tpm", "both", "headers") and (tpm is not None or kind == "tpm")
    tpm = tpm or round(count * tokens / minutes)
    provider = ProviderSettings(
        rpm=rpm if has_rpm else None,
        tpm=tpm if has_tpm else None,
        burst=random.choice([10.0 if has_tpm else 1.0, 60.0]),  # a bucket of tokens holds the largest call
        reserve_max_tokens=False,
        headers="openai" if told else "",
        latency=latency,
        latency_p99=latency * random.choice([1.5, 3.0, 5.0]),
        output_tokens=output,
        output_tokens_p99=round(output * random.choice([1.5, 4.0, 6.0])) + 1,
        faults=Faults(server_error=random.choice([0.0, 0.0, 0.01])),
    )
    known = Limits(
        rpm=rpm if has_rpm and not told else None,
        tpm=tpm if has_tpm and not told else None,
        concurrency=concurrency if ("c" in kind[:5] and "concurrency" in kind) or "slots" in kind else None,
    )
    price = 10 ** (random.random() - 1.0)
    return Job(kind, calls, provider, None if told else known, (price, price * random.choice([4.0, 8.0])))


def _lengths(random: Random, count: int) -> list[int]:
    """How many words each prompt has."""
    kind = random.choice(["equal", "even", "long tail", "two kinds", "sorted"])
    usual = 5 * 60 ** random.random()
    if kind == "equal":
        return [round(usual)] * count
    if kind == "even":
        return [round(2 * usual * random.random()) for _ in range(count)]
    if kind == "two kinds":
        return [round(usual * random.choice([0.3, 0.3, 0.3, 4.0])) for _ in range(count)]
    found = [min(4_000, round(random.lognormvariate(0.0, 1.0) * usual)) for _ in range(count)]
    return sorted(found) if kind == "sorted" else found


def planned(job: Job, seed: int, **options: Any) -> Planned:
    """Plan the job, and then run what is left of it."""
    model = ProviderModel(job.provider, seed)

    async def main() -> Planned:
        async with Client(
            "m",
            base_url="http://sim/v1",
            transport=SimulatedTransport(model),
            limits=job.limits,
            config={"prices": {"sim/m": {"input": job.price[0], "output": job.price[1]}}},
            seed=seed,
            deadline=1e6,
        ) as client:
            asked: set[str | None] = set()
            client.events.subscribe(lambda event: asked.add(getattr(event, "call", Call("")).prompt))
            plan = await client.plan(job.calls, **options)
            rest = [call for call in job.calls if call.prompt not in asked]
            loop = asyncio.get_running_loop()
            began = loop.time()
            results = await client.gather(rest)
            assert len(rest) == plan.left
            cost = sum(result.cost or 0.0 for result in results)
            return Planned(job, plan, cost, loop.time() - began)

    return run_virtual(main(), limit=1e7)
