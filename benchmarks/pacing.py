"""How much of a limit is used, and how often it is hit: ``python -m benchmarks.pacing``.

Simulated providers on a virtual clock, so hours of traffic take minutes and every figure repeats from its seed.
``used`` is what the provider admitted after the first minute (requests, or tokens where those are limited), as a share
of what it allows; ``429`` the share of all requests that it refused; ``time`` how long a short job took, against the
shortest time that its provider makes possible.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, aclosing, nullcontext
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Any
from unittest.mock import patch

from msgspec import Struct

from flatout import Call, Client, Limits
from flatout.policies.estimate import Estimator, Need
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

from .plot import Panel, svg

PLOTTED = 300.0
"""Seconds that the plot shows."""


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
    """One run of a case, from its seed."""
    model = ProviderModel(case.settings, seed=seed)
    model.start(0.0)
    with _wrong_by(case.error, seed):
        return run_virtual(_drive(case, model, seed), seed=seed, limit=1e6)


def _wrong_by(error: float, seed: int) -> AbstractContextManager[Any]:
    """Make the guesses of tokens wrong at random, by a share that nothing can learn."""
    if not error:
        return nullcontext()
    guess, random = Estimator.need, Random(seed)

    def wrong(self: Estimator, call: Call) -> Need:
        need = guess(self, call)
        need.input *= random.uniform(1.0 - error, 1.0 + error)
        need.output *= random.uniform(1.0 - error, 1.0 + error)
        return need

    return patch.object(Estimator, "need", wrong)


async def _drive(case: Case, model: ProviderModel, seed: int) -> Measured:
    loop = asyncio.get_running_loop()
    endpoint: dict[str, Any] = {"base_url": "http://provider/v1"}
    if case.provider is not None:
        endpoint["provider"] = case.provider
    lost = 0
    async with Client(
        "sim/model",
        config={"endpoints": {"sim": endpoint}},
        limits=case.limits,
        transport=SimulatedTransport(model),
        seed=seed,
        deadline=1e5,
    ) as client:
        marks = [asyncio.create_task(_tokens_at(model, at)) for at in (case.measured_from, case.seconds) if case.tokens]
        source = _count(case) if case.calls is not None else _until(case, loop)
        async with aclosing(client.as_completed(source)) as results:
            async for result in results:
                lost += not result.ok
                if case.calls is None and loop.time() >= case.seconds:
                    break  # what was read ahead would be paced for minutes more, and count as calm traffic
        seconds, stats = loop.time(), model.stats()
        tokens = await asyncio.gather(*marks)
    admitted = stats["admitted_per_second"]
    first, last = int(case.measured_from), int(case.seconds)
    used = sum(admitted[first:last]) / (case.rate * (last - first)) if case.rate and last > first else float("nan")
    if tokens:
        used = (tokens[1] - tokens[0]) / (case.tokens * (last - first))
    return Measured(used, stats["refused"] / max(1, stats["received"]), seconds, lost, admitted)


async def _tokens_at(model: ProviderModel, seconds: float) -> int:
    await asyncio.sleep(seconds)
    return int(model.stats()["tokens_admitted"])


def _call(case: Case, index: int) -> Call:
    low, high = case.words
    words = low if low == high else low + (index * 2_654_435_761 % 2**32) * (high - low) // 2**32
    return Call(f"{index} " + "some words " * (words // 2), max_tokens=case.max_tokens)


def _count(case: Case) -> Iterator[Call]:
    assert case.calls is not None
    return (_call(case, index) for index in range(case.calls))


async def _until(case: Case, loop: asyncio.AbstractEventLoop) -> AsyncIterator[Call]:
    index = 0
    while loop.time() < case.seconds:
        yield _call(case, index)
        index += 1


SERVERS: dict[str, dict[str, Any]] = {
    "bucket 1 s": {"limit": "bucket", "burst": 1.0},
    "bucket 60 s": {"limit": "bucket", "burst": 60.0},
    "sliding": {"limit": "sliding"},
    "fixed": {"limit": "fixed"},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "failed charged": {"charge_failed": True},
    "stale headers": {"headers": "openai", "stale_headers": 5.0},
}
TPM = 1_000_000
QUICK = {"latency": 0.1, "latency_p99": 1.0}


def known() -> Iterator[Case]:
    for rpm in (6_000, 600, 60):
        for server, how in SERVERS.items():
            for variant, more in VARIANTS.items():
                yield Case(
                    name=f"{rpm} RPM, {server}{', ' + variant if variant else ''}",
                    settings=ProviderSettings(rpm=rpm, **how, **more, **QUICK),
                    limits=Limits(rpm=rpm),
                    rate=rpm / 60,
                    bound="used ≥ 98 %, no 429",
                )
    yield from _tokens(Limits(tpm=TPM), {}, "used ≥ 98 %, no 429")
    yield from _tokens(Limits(tpm=TPM), {}, "used ≥ 98 %, 429 ≤ 0.3 %", error=0.3)


def _tokens(
    limits: Limits, how: dict[str, Any], bound: str, error: float = 0.0, seconds: float = 300.0
) -> Iterator[Case]:
    """Bound by tokens, the prompts' sizes over two orders of magnitude."""
    for server, kind in SERVERS.items():
        for max_tokens in (None, 200):
            yield Case(
                name=f"1 M TPM, {server}, "
                + ("max_tokens reserved" if max_tokens else "usage charged")
                + (", stale headers" if "stale_headers" in how else "")
                + (f", guesses ± {error:.0%}" if error else ""),
                settings=ProviderSettings(tpm=TPM, reserve_max_tokens=max_tokens is not None, **kind, **how, **QUICK),
                limits=limits,
                provider="openai" if max_tokens else None,
                max_tokens=max_tokens,
                words=(10, 2_000),
                tokens=TPM / 60,
                seconds=seconds,
                error=error,
                bound=bound,
            )


def advertised() -> Iterator[Case]:
    for rpm in (6_000, 600, 60):
        for server, how in SERVERS.items():
            for variant in ("", "stale headers", "failed charged"):
                more = {"headers": "openai", **VARIANTS[variant]}
                yield Case(
                    name=f"{rpm} RPM, {server}{', ' + variant if variant else ''}",
                    settings=ProviderSettings(rpm=rpm, **how, **more, **QUICK),
                    rate=rpm / 60,
                    bound="used ≥ 97 %, 429 ≤ 0.1 %",
                )
    for more in ({}, {"stale_headers": 5.0}):
        yield from _tokens(Limits(), {"headers": "openai", **more}, "used ≥ 97 %, 429 ≤ 0.1 %")


def unknown() -> Iterator[Case]:
    for rpm in (6_000, 600, 60):
        for server, how in SERVERS.items():
            for variant, more in (
                ("", {}),
                ("bare 429", {"retry_after": ""}),
                ("failed charged", {"charge_failed": True}),
            ):
                yield Case(
                    name=f"{rpm} RPM, {server}{', ' + variant if variant else ''}",
                    settings=ProviderSettings(rpm=rpm, **how, **more, **QUICK),
                    rate=rpm / 60,
                    seconds=660.0,
                    bound="used ≥ 97 %, 429 ≤ 0.3 %",
                )
    yield from _tokens(Limits(), {}, "used ≥ 97 %, 429 ≤ 0.3 %", seconds=660.0)


def short() -> Iterator[Case]:
    one_second = {"limit": "bucket", "burst": 1.0, **QUICK}
    best = 800 / 40  # a steady sender at the limit, its answers at once
    for name, limits, more, bound in (
        ("known", Limits(rpm=2_400), {}, "time ≤ 1.05 ×"),
        ("advertised", Limits(), {"headers": "openai"}, "time ≤ 1.05 ×"),
        ("bare 429s", Limits(), {"retry_after": ""}, "time ≤ 1.2 ×"),
    ):
        settings = ProviderSettings(rpm=2_400, **one_second, **more)  # type: ignore[arg-type]  # values of one mapping
        yield Case(
            name=f"800 calls at 2,400 RPM, {name}", settings=settings, limits=limits, calls=800, best=best, bound=bound
        )
    yield Case(
        name="900 calls at 600 RPM, a full minute's bucket, advertised",
        settings=ProviderSettings(rpm=600, headers="openai", **QUICK),
        calls=900,
        best=30.0,
        bound="time ≤ 1.1 ×",
    )


def changing() -> Iterator[Case]:
    for what, factor in (("halved", 0.5), ("doubled", 2.0)):
        for mode, more in (("unknown", {}), ("advertised", {"headers": "openai"})):
            for rpm in (6_000, 600):
                settle = 60.0 if factor < 1 or mode == "advertised" else 300.0
                at = 300.0
                yield Case(
                    name=f"{rpm} RPM {what}, {mode}",
                    settings=ProviderSettings(
                        rpm=rpm,
                        limit="bucket",
                        burst=1.0,
                        changes=((at, {"rpm": rpm * factor}),),
                        **more,
                        **QUICK,  # type: ignore[arg-type]
                    ),
                    seconds=at + settle + 60,
                    measured_from=at + settle,
                    rate=rpm * factor / 60,
                    bound="429 ≤ 1 %" if factor < 1 else "used ≥ 90 %",
                )


def self_hosted() -> Iterator[Case]:
    median, p99, slots = 0.5, 2.0, 32
    settings = ProviderSettings(slots=slots, latency=median, latency_p99=p99)
    spread = math.log(p99 / median) / NormalDist().inv_cdf(0.99)
    rate = slots / (median * math.exp(spread**2 / 2))  # what slots that are never free can answer
    for name, how in (
        ("unbounded queue", {}),
        ("a queue of 8, then 503", {"queue": 8}),
        ("a queue of 8, then 429", {"queue": 8, "queue_status": 429}),
        ("slower above 32", {"slow_above": 32}),
    ):
        for who, limits, bound in (
            ("adaptive", Limits(adaptive="concurrency"), "≥ 95 % of the best fixed"),
            ("best fixed", Limits(concurrency=slots), ""),
        ):
            changed = settings.changed(how) if "slow_above" not in how else settings.changed({"slots": None, **how})
            yield Case(
                name=f"32 slots, {name}, {who}",
                settings=changed,
                limits=limits,
                rate=rate,
                measured_from=30,
                bound=bound,
            )


TABLES: dict[str, Callable[[], Iterator[Case]]] = {
    "known": known,
    "advertised": advertised,
    "unknown": unknown,
    "short": short,
    "changing": changing,
    "self-hosted": self_hosted,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=list(TABLES), help=", ".join(TABLES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw an SVG of the three modes instead")
    options = parser.parse_args()
    if options.plot is not None:
        options.plot.write_text(_plot(), encoding="utf-8")
        return
    with ProcessPoolExecutor() as pool:
        for table in options.tables:
            cases = [case for case in TABLES[table]() if options.only in case.name]
            jobs = [[pool.submit(run, case, seed) for seed in range(options.seeds)] for case in cases]
            sys.stdout.write(f"\n{table}: medians of {options.seeds} seeds (worst)\n")
            sys.stdout.write(f"{'':62}{'used':>16}{'429':>18}{'time':>16}  asked\n")
            for case, runs in zip(cases, jobs, strict=True):
                sys.stdout.write(_row(case, [job.result() for job in runs]) + "\n")
                sys.stdout.flush()


def _plot() -> str:
    """What a provider of 6,000 RPM admits in each second when its limit is known, advertised, and neither."""
    panels = []
    for title, limits, headers in (
        ("Known: Limits(rpm=6_000)", Limits(rpm=6_000), ""),
        ("Advertised: read from the headers of the answers", Limits(), "openai"),
        ("Unknown: found by trying", Limits(), ""),
    ):
        settings = ProviderSettings(rpm=6_000, limit="bucket", burst=1.0, headers=headers, **QUICK)  # type: ignore[arg-type]
        measured = run(Case(name=title, settings=settings, limits=limits, seconds=PLOTTED, rate=100.0), 1)
        title += f" – {measured.used:.1%} used after the first minute, {measured.refused:.2%} refused"
        panels.append(Panel(title, measured.admitted, 100.0))
    return svg(panels, int(PLOTTED))


def _row(case: Case, runs: list[Measured]) -> str:
    used = [m.used for m in runs]
    refused = [m.refused for m in runs]
    time = [m.seconds / case.best if case.best else m.seconds for m in runs]
    lost = sum(m.lost for m in runs)
    cells = [f"{case.name:62}"]
    cells.append(f"{statistics.median(used):8.2%} ({min(used):6.1%})" if case.rate or case.tokens else " " * 16)
    cells.append(f"{statistics.median(refused):9.3%} ({max(refused):6.2%})")
    cells.append(f"{statistics.median(time):7.2f} × ({max(time):4.2f})" if case.best else " " * 16)
    return " ".join(cells) + f"  {case.bound}" + (f"  LOST {lost}" if lost else "")


if __name__ == "__main__":
    main()
