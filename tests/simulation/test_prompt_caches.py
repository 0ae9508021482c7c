"""Rows with a common beginning, with and without the provider's prompt cache: part of ``benchmarks.prompt_caches``."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.prompt_caches import FORMATS, calls, job, rules
from flatout import Call, Client, Limits, Route
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual
from flatout.values.plan import Plan

ANTHROPIC, EARLIER, LATER = FORMATS
GIVEN = {"rpm": 2_000, "limits": Limits(rpm=2_000)}


@pytest.mark.parametrize(("form", "share"), [(ANTHROPIC, 0.15), (EARLIER, 0.25), (LATER, 0.2)])
def test_the_cache_saves_most_of_the_money_and_takes_no_time(form, share):
    """A job would pay for the same rules two thousand times; or wait for its own cache."""
    off, auto = (job(form, mode, **GIVEN) for mode in ("off", "auto"))
    assert auto.answers == off.answers
    assert auto.dollars < share * off.dollars
    assert auto.seconds < 1.05 * off.seconds


@pytest.mark.parametrize("form", FORMATS)
def test_a_limit_that_nobody_knows_is_found_as_fast(form):
    """The search for the limit would take the calls that wait for the cache for idleness."""
    off, auto = (job(form, mode, rows=1_000) for mode in ("off", "auto"))
    assert auto.dollars < 0.3 * off.dollars
    assert auto.seconds < 1.07 * off.seconds


@pytest.mark.parametrize("form", FORMATS)
def test_prompts_made_from_a_template_are_cached_up_to_where_they_differ(form):
    """Only those who write their rules as a system prompt would save."""
    off, auto = (job(form, mode, rows=500, as_system=False, **GIVEN) for mode in ("off", "auto"))
    assert auto.answers == off.answers
    assert auto.dollars < 0.3 * off.dollars


def gather(calls, settings: ProviderSettings, **options):
    """The results, the provider's counts, and the seconds that it took."""
    model = ProviderModel(settings)

    async def main():
        transport = SimulatedTransport(model)
        options.setdefault("prompt_cache", "auto")
        options.setdefault("seed", 1)  # with faults in a fifth of the attempts, six in a row befall one of 20,000 calls
        async with Client(ANTHROPIC.model, api_key="k", transport=transport, config={}, **options) as client:
            results = await client.gather(calls)
            return results, model.stats(), asyncio.get_running_loop().time()

    return run_virtual(main())


def cached(**more) -> ProviderSettings:
    return ProviderSettings(**{"prompt_cache": "breakpoints", "latency": 2.0, "output_tokens": 20, **more})


def rows(count: int, system: str, name: str = "") -> list[Call]:
    return [Call(f"{name} row {number}: what is this about?", system=system, max_tokens=30) for number in range(count)]


def test_questions_about_many_documents_share_rules_and_documents():
    """Only the rules that all rows share would be cached, and each document be paid for with each question."""
    system = rules(1_500)
    documents = [" ".join(f"d{name}w{word}" for word in range(1_200)) for name in range(20)]
    calls = [
        Call(f"{document}\n\nQuestion {number}?", system=system, max_tokens=30)
        for document in documents
        for number in range(10)
    ]
    results, counts, _ = gather(calls, cached(), limits=Limits(rpm=1_000))
    assert all(result.ok for result in results)
    assert [result.index for result in results] == list(range(200))
    whole = counts["prompt_tokens"] / 200
    assert counts["cache_write_tokens"] < 35 * whole  # of 20 documents, with the rules once
    assert counts["cached_tokens"] > 0.8 * counts["prompt_tokens"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_plan_tells_what_the_cache_would_save(form):
    """Nobody would hear of the option that pays for most of their prompts."""
    auto = job(form, "auto", rows=400, **GIVEN)

    async def told(mode: str) -> Plan:
        settings = cached(rpm=2_000, prompt_cache=form.prompt_cache, prompt_cache_seconds=form.seconds)
        transport = SimulatedTransport(ProviderModel(settings))
        options = {"config": {}, "limits": Limits(rpm=2_000), "prompt_cache": mode}
        async with Client(form.model, api_key="k", transport=transport, **options) as client:
            return await client.plan(calls(400, as_system=True), sample=20)

    plan = run_virtual(told("off"))
    assert plan.cost is not None
    assert plan.models[0].saved_by_caching is not None
    left = plan.cost.p50 - plan.models[0].saved_by_caching.p50
    assert left * 400 / plan.left == pytest.approx(auto.dollars, rel=0.15)
    assert left < 0.6 * plan.cost.p50
    assert run_virtual(told("auto")).models[0].saved_by_caching is None


def test_interleaved_groups_are_sent_together():
    """Groups whose rows alternate in the file would each be written again and again at a slow pace."""
    systems = [f"House {name}. {rules(1_500)}" for name in range(10)]
    calls = [
        call for number in range(30) for name in range(10) for call in rows(30, systems[name])[number : number + 1]
    ]
    _, counts, seconds = gather(calls, cached(rpm=30), limits=Limits(rpm=30))
    assert seconds > 400
    assert counts["cache_write_tokens"] < 1.3 * 10 * 1_500


def test_rows_that_share_nothing_are_neither_marked_nor_held():
    """They would cost a quarter more than without, and wait for each other."""
    calls = [Call("What is this about?", system=f"{number} {rules(1_500)}", max_tokens=30) for number in range(200)]
    _, counts, seconds = gather(calls, cached(), limits=Limits(rpm=2_000))
    _, plain, before = gather(calls, cached(), limits=Limits(rpm=2_000), prompt_cache="off")
    assert counts["cache_write_tokens"] == plain["cache_write_tokens"] == 0
    assert seconds < 1.02 * before


def test_faults_and_throttles_neither_lose_nor_hold_a_group():
    """A first call that hits a fault would take its group with it."""
    faults = Faults(server_error=0.1, rate_limited=0.05, truncated=0.05, reset=0.05)
    results, counts, seconds = gather(rows(300, rules(2_000)), cached(faults=faults), limits=Limits(rpm=2_000))
    assert all(result.ok for result in results)
    assert counts["cached_tokens"] > 0.85 * 2_000 * 300
    assert seconds < 120


def test_an_outage_at_the_start_holds_nobody_after_it():
    """A group would still wait for a first call when the provider is back."""
    results, counts, seconds = gather(rows(100, rules(2_000)), cached(outage=(0.0, 20.0)), limits=Limits(rpm=2_000))
    assert all(result.ok for result in results)
    assert seconds < 60
    assert counts["cached_tokens"] > 0


def test_a_short_beginning_changes_nothing():
    """Rows would wait for a cache that the model never fills."""
    _, counts, _ = gather(rows(50, rules(500)), cached())
    assert counts["cached_tokens"] == counts["cache_write_tokens"] == 0


@pytest.mark.parametrize("order", ["spill", "spread"])
def test_a_route_fills_the_cache_of_each_of_its_targets(order):
    """The targets of a route would wait with the permits that other calls need, or share a cache that is not shared."""
    model = ProviderModel(cached(rpm=1_200, burst=1.0, burst_full=False))  # 600 for each of the two keys
    second = {"provider": "anthropic", "base_url": "https://api.anthropic.com/v1", "key_env": "SECOND"}
    config = {"endpoints": {"second": second}, "prices": {"second/claude-sonnet-4-5": {"input": 3.0, "output": 15.0}}}
    route = Route(ANTHROPIC.model, "second/claude-sonnet-4-5", order=order)

    async def main():
        limits = Limits(rpm=600, burst=1.0)
        transport = SimulatedTransport(model)
        async with Client(route, transport=transport, config=config, limits=limits, prompt_cache="auto") as client:
            results = await client.gather(rows(400, rules(2_000)))
            return results, asyncio.get_running_loop().time(), [client._engine.saved(result) for result in results]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_API_KEY", "one")
        patch.setenv("SECOND", "two")
        results, seconds, saved = run_virtual(main())
    assert all(result.ok for result in results)
    assert model.stats()["cached_tokens"] > 0.9 * 2_000 * 400
    assert model.stats()["cache_write_tokens"] < 3 * 2_010
    assert seconds < 35
    assert sum(filter(None, saved)) > 0


def test_a_conversation_reads_its_earlier_turns():
    """An agent would pay for all its earlier turns with each further one."""
    model = ProviderModel(cached())

    async def main():
        turns = []
        transport = SimulatedTransport(model)
        async with Client(ANTHROPIC.model, api_key="k", transport=transport, config={}, prompt_cache="auto") as client:
            for number in range(6):
                turns.append(
                    {"role": "user", "content": f"Turn {number}: " + " ".join(f"t{number}w{w}" for w in range(900))}
                )
                reply = await client.call(Call(messages=list(turns), max_tokens=30))
                turns.append(reply.message)

    run_virtual(main())
    counts = model.stats()
    assert counts["cached_tokens"] > 0.4 * counts["prompt_tokens"]
