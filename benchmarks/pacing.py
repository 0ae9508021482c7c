"""How much of a limit is used, and how often it is hit: ``python -m benchmarks.pacing``.

Simulated providers on a virtual clock, so hours of traffic take minutes and every figure repeats from its seed.
``used`` is what the provider admitted after the first minute (requests, or tokens where those are limited), as a share
of what it allows; ``429`` the share of all requests that it refused; ``time`` how long a short job took, against the
shortest time that its provider makes possible.

With ``--http`` the same cases run over real HTTP and in real time, several side by side, and each row is followed by
that of the virtual clock.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

from flatout import Limits
from flatout.testing import Faults, ProviderSettings

from . import drawn, drawn_http
from . import pacing_http as http
from .machine import Machine
from .pacing_run import Case, Measured, run
from .plot import Panel, svg

PLOTTED = 300.0
"""Seconds that the plot shows."""


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


def named() -> Iterator[Case]:
    """No headers, but refusals that name the limit, as Gemini's do."""
    for rpm in (6_000, 600, 60):
        for server, how in SERVERS.items():
            settings = ProviderSettings(rpm=rpm, names_limits=True, **how, **QUICK)
            yield Case(
                name=f"{rpm} RPM, {server}",
                settings=settings,
                rate=rpm / 60,
                bound="used ≥ 97 %, 429 ≤ 0.3 %",
                seconds=660.0,
            )


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


def others() -> Iterator[Case]:
    """Servers that tell no limit, and that no rule was made for. They have no bound: what they show is what is lost."""
    buckets = {f"bucket {burst:g} s": {"limit": "bucket", "burst": burst} for burst in (1.0, 5.0, 10.0, 30.0)}
    for rpm in (30, 90, 120, 300, 1_500):
        for server, how in {**buckets, "sliding": {"limit": "sliding"}, "fixed": {"limit": "fixed"}}.items():
            for variant, more in (
                ("", {}),
                (", bare 429", {"retry_after": ""}),
                (", failed charged", {"charge_failed": True}),
                (", bare 429, failed charged", {"retry_after": "", "charge_failed": True}),
            ):
                settings = ProviderSettings(rpm=rpm, **how, **more, **QUICK)  # type: ignore[arg-type]  # values of one mapping
                yield Case(name=f"{rpm} RPM, {server}{variant}", settings=settings, rate=rpm / 60, seconds=660.0)


def wrong() -> Iterator[Case]:
    """Limits that were given too high, or that others use too."""
    for server in ("bucket 1 s", "bucket 60 s", "sliding"):
        for given, limits in (
            ("6,000 RPM", Limits(rpm=6_000)),
            ("780 RPM", Limits(rpm=780)),
            ("50 in flight", Limits(concurrency=50)),
        ):
            settings = ProviderSettings(rpm=600, **SERVERS[server], **QUICK)
            yield Case(name=f"600 RPM, {server}; given: {given}", settings=settings, limits=limits, rate=10.0)


def strays() -> Iterator[Case]:
    """429s that have nothing to do with a limit. ``429`` counts the limit's own alone."""
    for given, limits in (
        ("none", Limits()),
        ("6,000 RPM", Limits(rpm=6_000)),
        ("50 in flight", Limits(concurrency=50)),
    ):
        for share in (0.002, 0.01, 0.02, 0.05, 0.15, 0.5):
            faults = Faults(rate_limited=share)
            settings = ProviderSettings(rpm=6_000, limit="bucket", burst=1.0, faults=faults, **QUICK)  # type: ignore[arg-type]  # values of one mapping
            name = f"2,000 calls at 6,000 RPM, {share:.1%} refused besides; given: {given}"
            yield Case(name=name, settings=settings, limits=limits, calls=2_000, best=20.0)


TABLES: dict[str, Callable[[], Iterator[Case]]] = {
    "known": known,
    "advertised": advertised,
    "unknown": unknown,
    "named": named,
    "short": short,
    "changing": changing,
    "self-hosted": self_hosted,
    "others": others,
    "wrong": wrong,
    "strays": strays,
}


Runs = dict[str, list[tuple[Case, list[Future[Measured]]]]]
"""The cases of each table, with their runs on the virtual clock."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=list(TABLES), help=", ".join(TABLES) + "; drawn")
    parser.add_argument(
        "--seeds",
        type=int,
        help="10; 1 with --http; with drawn: of the first so many the odd ones, 12 servers with --http",
    )
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--http", action="store_true", help="over HTTP and in real time: hours for all tables")
    parser.add_argument("--minutes", type=float, default=math.inf, help="a case's time at most, for a quick look")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw an SVG of the three modes instead")
    options = parser.parse_args()
    if options.plot is not None:
        options.plot.write_text(_plot(), encoding="utf-8")
        return
    if options.tables == ["drawn"]:
        if options.http:
            longest = 60.0 * options.minutes
            virtual = {seed: drawn.outcome("flatout", seed, longest) for seed in drawn_http.seeds(options.seeds or 12)}
            asyncio.run(_drawn_over_http(virtual, longest))
        else:
            _drawn(range(1, options.seeds or 200, 2), options.only)
        return
    seeds = range(options.seeds or (1 if options.http else 10))
    with ProcessPoolExecutor() as pool:
        tables: Runs = {}
        for table in options.tables:
            cases = [http.shortened(case, options.minutes) for case in TABLES[table]() if options.only in case.name]
            tables[table] = [(case, [pool.submit(run, case, seed) for seed in seeds]) for case in cases]
        if not options.http:
            for table, rows in tables.items():
                _head(table, len(seeds))
                for case, jobs in rows:
                    _print(_row(case, [job.result() for job in jobs]))
    if options.http:  # only now, when the virtual runs are through: they take all of the processor
        asyncio.run(_over_http(tables, len(seeds)))


def _drawn(seeds: range, only: str) -> None:
    _print(f"drawn servers: {len(seeds)} odd seeds; median, worst tenth, worst")
    found: dict[str, list[drawn.Outcome]] = {}
    with ProcessPoolExecutor() as pool:
        for name in drawn.PACERS:
            if only in name:
                found[name] = list(pool.map(partial(drawn.outcome, name), seeds))
                _print(drawn.row(name, found[name]))
    if not only:
        _print(drawn.slower(seeds, found))


async def _drawn_over_http(virtual: dict[int, drawn.Outcome], longest: float) -> None:
    over_http = []
    async with Machine().watched() as machine:
        tasks = drawn_http.outcomes(list(virtual), longest, machine)
        for (seed, calm), task in zip(virtual.items(), tasks, strict=True):
            over_http.append(await task)
            _print(f"seed {seed:3} {drawn.row('HTTP', [over_http[-1]])}")
            _print(f"         {drawn.row('virtual', [calm])}")
    _print(f"all      {drawn.row('HTTP', over_http)}")
    _print(f"         {drawn.row('virtual', list(virtual.values()))}")
    _print(f"{machine}")


async def _over_http(tables: Runs, seeds: int) -> None:
    runs = [
        (sum(job.result().admitted) / job.result().seconds, partial(http.run_http, case, seed))
        for rows in tables.values()
        for case, jobs in rows
        for seed, job in enumerate(jobs)
    ]
    async with Machine().watched() as machine:
        tasks = iter(http.start(runs, machine))
        for table, rows in tables.items():
            _head(f"{table}, over HTTP", seeds)
            for case, jobs in rows:
                measured = await asyncio.gather(*(next(tasks) for _ in jobs), return_exceptions=True)
                for error in measured:
                    if isinstance(error, BaseException):  # one that hangs is not to cost the hours of the others
                        _print(f"{case.name:62} {error!r}")
                if good := [one for one in measured if isinstance(one, Measured)]:
                    _print(_row(case, good))
                _print(_row(case, [job.result() for job in jobs], "    on the virtual clock"))
    _print(f"\n{machine}")


def _head(title: str, seeds: int) -> None:
    _print(f"\n{title}: medians of {seeds} seeds (worst)" if seeds > 1 else f"\n{title}: one seed")
    _print(f"{'':62}{'used':>16}{'429':>18}{'time':>16}  asked")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
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


def _row(case: Case, runs: list[Measured], name: str = "") -> str:
    used = [m.used for m in runs]
    refused = [m.refused for m in runs]
    time = [m.seconds / case.best if case.best else m.seconds for m in runs]
    lost = sum(m.lost for m in runs)
    cells = [f"{name or case.name:62}"]
    cells.append(f"{statistics.median(used):8.2%} ({min(used):6.1%})" if case.rate or case.tokens else " " * 16)
    cells.append(f"{statistics.median(refused):9.3%} ({max(refused):6.2%})")
    cells.append(f"{statistics.median(time):7.2f} × ({max(time):4.2f})" if case.best else " " * 16)
    cells.append("" if name else f" {case.bound}")
    return (" ".join(cells) + (f"  LOST {lost}" if lost else "")).rstrip()


if __name__ == "__main__":
    main()
