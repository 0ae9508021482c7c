"""Plans the calls of a program: `flatout.Client.plan`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from flatout.durable.opening import StorePath
from flatout.durable.run import Asker
from flatout.durable.sample import Chosen, check_same_call, finished_in, results_in, sample_durably
from flatout.edge.fan_out import fan_out
from flatout.engine import Engine
from flatout.errors import ConfigError
from flatout.policies.forecast.strata import Entry
from flatout.tasks.closing import reading
from flatout.values import Call, CallLike
from flatout.values.plan import Plan

from .asking import Allowance
from .outlook import Outlook, check_priced
from .size import SampleSize
from .survey import Part, Survey, in_lots


class NothingLeft(ConfigError):
    """All calls have a result already, or need none."""


async def plan_calls(
    calls: Iterable[CallLike] | AsyncIterable[CallLike],
    *,
    asker: Asker,
    engine: Engine,
    size: SampleSize,
    usd: float,
    each: int,
    store: StorePath | None,
    job: Mapping[str, Any],
    dry_run: bool,
) -> Plan:
    """Plan calls.

    Args:
        calls: the calls; they are read once.
        asker: asks the sample.
        engine: has the targets, the prices and the limits.
        size: the size of the sample, for each model.
        usd: the most US dollars that the sample may cost.
        each: how many neighbours are variants of one call.
        store: the run file that keeps the sample's results.
        job: what makes two answers comparable, for the run file.
        dry_run: whether to ask nothing.
    """
    finished = {} if store is None else await asyncio.to_thread(finished_in, store, job)
    survey: Survey[Chosen] = Survey(engine, size.calls, each)
    await survey.look(in_lots(_chosen(calls, finished, store), finished.__contains__))
    now = asyncio.get_running_loop().time
    if dry_run:
        dry = Outlook(engine, survey, size, None, later=False)
        return await asyncio.to_thread(dry.plan, now(), survey.finished)
    check_priced(engine, list(survey.parts.values()))
    chosen = sampled(survey, size)
    allowance = Allowance(usd, expected_cost(engine, survey))
    if store is not None:
        kept = [entry.row for entry in chosen if entry.index in finished]
        for result in await asyncio.to_thread(results_in, store, kept):
            allowance.known(result)
    rationed = allowance.ration([entry.row for entry in chosen if entry.index not in finished])
    if store is None:
        asked = fan_out(rationed, lambda _, row: asker.result(row.call, index=row.index), asker.window)
    else:
        asked = sample_durably(rationed, store, asker=asker, job=job)
    async with aclosing(asked) as results:
        async for result in results:
            allowance.heard(result)
    done = survey.finished + (len(allowance.new) if store is not None else 0)
    outlook = Outlook(engine, survey, size, allowance, later=False)
    return await asyncio.to_thread(outlook.plan, now(), done)


def sampled(survey: Survey[Any], size: SampleSize) -> list[Entry[Any]]:
    """The rows to ask, in random order.

    Raises:
        NothingLeft: there is none.
    """
    parts = survey.parts.values()
    entries = [
        entry
        for part in parts
        for stratum in part.strata.split(size.among(part.strata.rows))
        for entry in stratum.sample
    ]
    if not any(part.strata.rows > part.strata.done for part in parts):
        raise NothingLeft(_nothing_left(survey))
    return sorted(entries, key=lambda entry: entry.mark)


def _nothing_left(survey: Survey[Any]) -> str:
    why = [
        f"{survey.finished:,} of {survey.calls:,} calls have a result" if survey.finished else "",
        f"{survey.cached:,} are in the cache" if survey.cached else "",
        f"{too_long:,} do not fit the model" if (too_long := sum(p.too_long for p in survey.parts.values())) else "",
    ]
    return f"nothing is left to ask, so there is nothing to plan: {', '.join(filter(None, why))}"


def expected_cost(engine: Engine, survey: Survey[Any]) -> float | None:
    """The most that a call is likely to cost, before one was answered; None if the price is not known."""
    costs = [_expected(engine, part) for part in survey.parts.values()]
    return max((cost for cost in costs if cost is not None), default=None)


def _expected(engine: Engine, part: Part[Any]) -> float | None:
    size = part.strata.size / max(1, part.strata.rows)
    return engine.stack.prices.worst_case(part.target, round(size), 256)


async def _chosen(
    calls: Iterable[CallLike] | AsyncIterable[CallLike], finished: Mapping[int, bytes], store: StorePath | None
) -> AsyncIterator[tuple[int, Call, Chosen]]:
    """The calls, each compared with the one that has a result in its place."""
    index = 0
    async with reading(calls) as source:
        async for value in source:
            call = Call.of(value)
            if store is not None and (known := finished.get(index)) is not None:
                check_same_call(store, index, call, known)
            yield index, call, Chosen(index, call)
            index += 1
