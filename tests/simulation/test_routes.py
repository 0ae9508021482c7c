"""Routes on the virtual clock: several targets are as fast as the sum of their limits, and each trail is true."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from msgspec import json

from flatout import Budget, Call, CircuitOpen, Client, DeadlineExceeded, Limits, Result, Route
from flatout.events import TargetPaused, TargetResumed
from flatout.layer import Request, Response
from flatout.testing import Faults, ProviderSettings, run_virtual
from tests.support.several_providers import Providers

RPM = 1_200
LIMITS = {"a": {"rpm": RPM}, "b": {"rpm": RPM}}
BOTH = Route("a/m", "b/m")


def provider(**settings: Any) -> ProviderSettings:
    """A provider that enforces each second, as the strictest do."""
    return ProviderSettings(**{"rpm": RPM, "burst": 1.0, "latency": 2.0, **settings})


def ask(
    providers: Providers, calls: Iterable[Any], model: str = BOTH, *, tables: Mapping[str, Any] | None = None, **options
) -> tuple[list[Result], float]:
    """The results, and the seconds until the last one."""
    config = providers.config(**({"limits": LIMITS} | dict(tables or {})))

    async def main() -> tuple[list[Result], float]:
        async with providers.client(model, config=config, **options) as client:
            results = await client.gather(calls)
            return results, asyncio.get_running_loop().time()

    return run_virtual(main())


def prompts(count: int) -> list[str]:
    return [f"question {number}" for number in range(count)]


def answered(results: Sequence[Result]) -> int:
    return sum(result.ok for result in results)


@pytest.mark.parametrize("order", ["spill", "spread"])
def test_two_targets_are_as_fast_as_the_sum_of_their_limits(order):
    """Half of what was paid for would lie idle, or one of them would be asked too fast."""
    providers = Providers(a=provider(), b=provider())
    results, took = ask(providers, prompts(9_600), Route("a/m", "b/m", order=order))
    assert answered(results) == 9_600
    assert 9_600 / (2 * RPM / 60) / (took - 6.0) >= 0.97  # the last answer takes up to 6 s
    assert sum(providers.seen("refused").values()) == 0


def test_a_job_that_one_target_can_do_is_done_by_the_first():
    """``spill`` would not mean what it says: the reserve would be used up, at its price."""
    providers = Providers(a=provider(), b=provider())

    async def main() -> None:
        async with providers.client(BOTH, config=providers.config(limits=LIMITS)) as client:
            for number in range(50):
                await client.call(f"question {number}")

    run_virtual(main())
    assert providers.seen("received") == {"a": 50, "b": 0}


def test_a_slow_target_gets_fewer_calls_than_a_fast_one():
    """``spread`` would send half of the calls where they take ten times as long."""
    providers = Providers(a=provider(latency=10.0, rpm=None), b=provider(latency=1.0, rpm=None))

    async def main() -> None:
        route = Route("a/m", "b/m", order="spread")
        async with providers.client(route, config=providers.config(), limits=Limits(concurrency=100)) as client:

            async def later(number: int) -> None:
                await asyncio.sleep(number * 0.2)
                await client.call(f"question {number}")

            await asyncio.gather(*map(later, range(600)))

    run_virtual(main())
    seen = providers.seen("received")
    assert seen["a"] < 0.3 * seen["b"]


@pytest.mark.parametrize("order", [("slow", "fast"), ("fast", "slow")])
def test_a_target_that_has_not_answered_yet_is_not_taken_for_the_fastest(order):
    """Calls that come one by one would all go to the target that takes longest to answer at all."""
    providers = Providers(slow=provider(latency=20.0, rpm=None), fast=provider(latency=0.5, rpm=None))

    async def main() -> list[Result]:
        route = Route(*(f"{name}/m" for name in order), order="spread")
        async with providers.client(route, config=providers.config()) as client:

            async def later(number: int) -> Result:
                await asyncio.sleep(number * 0.1)
                return await client.result(f"question {number}")

            return await asyncio.gather(*map(later, range(150)))

    assert answered(run_virtual(main())) == 150
    assert providers.seen("received")["slow"] <= 8


def test_keys_of_one_group_do_not_count_as_several_limits():
    """Three keys of one organisation would send three times what it may."""
    keys = {f"key-{number}": {"base_url": "http://a.test/v1", "group": "org"} for number in range(3)}
    tables = {"endpoints": keys, "limits": {name: {"rpm": RPM} for name in keys}}
    providers = Providers(a=provider())
    results, took = ask(providers, prompts(2_400), Route(*(f"{name}/m" for name in keys)), tables=tables)
    assert answered(results) == 2_400
    assert providers.seen("refused") == {"a": 0}
    assert 2_400 / (RPM / 60) / (took - 6.0) >= 0.97


def test_a_refused_key_of_a_group_stops_that_key_alone():
    """One wrong key would stop all the others of its group."""
    keys = {f"key-{number}": {"base_url": f"http://{number}.test/v1", "group": "org"} for number in "ab"}
    providers = Providers(a=provider(key="another"), b=provider())
    tables = {"endpoints": keys, "limits": {name: {"rpm": RPM} for name in keys}}
    results, _ = ask(providers, prompts(400), Route("key-a/m", "key-b/m"), tables=tables)
    assert answered(results) == 400
    assert providers.seen("received")["a"] <= 10


@pytest.mark.parametrize("way", ["unavailable", "refused"])
def test_while_a_target_is_down_the_other_takes_all(way):
    """An outage of one provider would cost rows, or the time of the other."""
    outage = {"unavailable": "503", "refused": "refused"}[way]
    providers = Providers(a=provider(outage=(10.0, 70.0), outage_as=outage), b=provider())
    results, took = ask(providers, prompts(2_400))
    # 10 s of both, 60 s of one, and both for the rest. The last answer takes 6 s; one that comes back begins slowly.
    assert answered(results) == 2_400
    assert took <= 1.05 * (10.0 + 60.0 + (2_400 - 400 - 1_200) / 40) + 6.0 + 2.0
    assert providers.seen("received")["a"] >= 500  # it is asked again


def test_a_limit_that_is_halved_slows_that_target_alone():
    """The other one would wait for it."""
    providers = Providers(a=provider(changes=((10.0, {"rpm": 600}),)), b=provider())
    results, took = ask(providers, prompts(2_400))
    assert answered(results) == 2_400
    assert took <= 1.15 * (10.0 + (2_400 - 400) / 30) + 6.0
    assert providers.seen("refused")["b"] == 0


def test_a_call_that_only_one_target_can_take_neither_blocks_others_nor_starves():
    """Long calls at the head of the queue would hold up the target that cannot take them; or never have their turn."""
    tables = {"limits": {"a": {"rpm": RPM, "tpm": 1_500}, "b": {"rpm": RPM, "tpm": 1_000_000}}}
    providers = Providers(a=provider(tpm=60_000), b=provider())
    long = "word " * 4_000
    calls = [Call(long, id=f"long {number}") if number % 10 == 0 else f"question {number}" for number in range(300)]
    results, _ = ask(providers, calls, tables=tables)
    assert answered(results) == 300
    assert all(leg.target == "b/m" for result in results[::10] for leg in result.trail)
    # 290 calls go before the last of them if the first target takes none; the longest answer takes 10 s
    assert max(result.elapsed for result in results[::10]) <= 290 / (RPM / 60) + 11.0


def test_when_all_are_paused_past_the_deadline_a_call_fails_at_once_and_names_the_time():
    """A call would wait an hour for a target that had said when it is back."""
    refuses = provider(rpm=1, burst=60.0, retry_after_always=600.0)
    providers = Providers(a=refuses, b=refuses)

    async def main() -> tuple[Result, float]:
        async with providers.client(BOTH, config=providers.config(limits=LIMITS), deadline=120.0) as client:
            for number in range(3):
                result = await client.result(f"question {number}")
            return result, result.elapsed

    result, took = run_virtual(main())
    assert isinstance(result.error, DeadlineExceeded)
    assert "the first one is back in 600 s" in str(result.error)
    assert took < 1.0


def test_when_all_are_paused_the_first_to_return_takes_the_call():
    """A call would fail although one of its targets is back in time."""
    providers = Providers(
        a=provider(rpm=2, retry_after_always=50.0, burst=60.0), b=provider(rpm=2, retry_after_always=20.0, burst=60.0)
    )
    results, _ = ask(providers, prompts(8), tables={"limits": {}}, deadline=3_600.0)
    assert answered(results) == 8


def test_a_stopped_target_is_looked_at_and_taken_again():
    """A key that was renewed, or an account that was filled up, would be of use only after a restart."""
    providers = Providers(a=provider(key="none so far"), b=provider(rpm=600))
    told: list[Any] = []

    async def main() -> list[Result]:
        config = providers.config(limits={"a": {"rpm": RPM}, "b": {"rpm": 600}})
        async with providers.client(BOTH, config=config) as client:
            client.events.subscribe(told.append)
            asyncio.get_running_loop().call_later(60.0, providers.renew, "a", provider())
            return await client.gather(prompts(3_000))

    assert answered(run_virtual(main())) == 3_000
    assert providers.seen("answered")["a"] > 500
    assert [event.target for event in told if isinstance(event, TargetPaused)] == ["a/m"]
    assert [event.target for event in told if isinstance(event, TargetResumed)] == ["a/m"]


def test_when_all_targets_are_stopped_the_reason_of_each_is_told():
    """Nobody would know which keys to renew."""
    providers = Providers(a=provider(key="x"), b=provider(key="y"))
    results, took = ask(providers, prompts(100))
    assert took < 10.0
    assert sum(providers.seen("received").values()) < 20
    error = results[-1].error
    assert isinstance(error, CircuitOpen)
    assert "a answered 401" in str(error)
    assert "b answered 401" in str(error)


@pytest.mark.parametrize(
    ("cause", "trouble", "options"),
    [
        ("down", {"outage": (5.0, math.inf)}, {}),
        ("quota", {"key": "another"}, {}),
        ("rate", {"changes": ((5.0, {"rpm": 1}),), "retry_after_always": 250.0}, {}),
        ("silence", {"faults": Faults(hang=1.0)}, {"timeout": 10.0, "retries": 1}),
    ],
)
def test_another_model_is_asked_where_it_was_named_and_only_there(cause, trouble, options):
    """Trouble would cost rows although the user had named a way out; or another model would be used unasked."""
    tables = {"limits": LIMITS}
    for named in (True, False):
        providers = Providers(a=provider(**trouble), b=provider())
        route = Route("a/m", fallback={cause: "b/m"} if named else {"schema": "b/m"})
        results, took = ask(providers, prompts(400), route, tables=tables, **{"deadline": 300.0, **options})
        assert (providers.seen("received")["b"] > 0) == named
        if named:
            assert answered(results) == 400
            assert took <= 200.0
            assert {result.trail[-1].target for result in results} <= {"a/m", "b/m"}


@pytest.mark.parametrize("budget", [Budget(9.0), Budget(9.0, per="day", scope="routes")], ids=["run", "shared"])
def test_calls_that_wait_for_money_use_up_no_limit(budget, tmp_path, monkeypatch):
    """Each call would take its turn, find no money yet, and give the turn back unused: providers would stand idle."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    prices = {name: {"input": 0.25, "output": 2.0} for name in ("a/m", "b/m")}
    providers = Providers(a=provider(), b=provider())
    results, took = ask(providers, prompts(2_400), tables={"prices": prices}, budget=budget)
    assert answered(results) == 2_400
    assert took <= 1.1 * 2_400 / (2 * RPM / 60) + 6.0
    assert sum(providers.seen("refused").values()) == 0


class Logged(Providers):
    """Providers that note which of them was asked which prompt, in order."""

    def __init__(self, **settings: ProviderSettings) -> None:
        super().__init__(**settings)
        self.log: dict[str, list[str]] = defaultdict(list)

    async def send(self, request: Request) -> Response:
        prompt = json.decode(request.body)["messages"][-1]["content"]
        self.log[prompt].append(self.name_of(request))
        return await super().send(request)


TROUBLES: list[dict[str, Any]] = [
    {"faults": Faults(**{kind: 0.2})}
    for kind in ("rate_limited", "overloaded", "server_error", "reset", "truncated", "empty", "malformed")
] + [
    {"faults": Faults(hang=0.05)},
    {"outage": (10.0, 40.0)},
    {"outage": (10.0, 40.0), "outage_as": "refused"},
    {"outage": (0.0, math.inf), "outage_as": "refused"},
    {"key": "another"},
    {"models": ("another",)},
    {"rpm": 300},
    {"rpm": 300, "retry_after": ""},
    {"rpm": 600, "retry_after_always": 30.0},
    {"changes": ((10.0, {"rpm": 120}),)},
    {"latency": 20.0},
    {"slots": 5, "queue": 5},
    {"burst": 0.2},
]
"""Twenty kinds of trouble, one at a time, at the first of two targets."""


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: "-".join(f"{k}" for k in each))
def test_every_trail_is_true(trouble):
    """The bill would name another provider than the result; nobody could find out why a target was left."""
    providers = Logged(a=provider(**trouble), b=provider())
    results, _ = ask(providers, prompts(500), timeout=60.0, deadline=3_000.0)
    for result in results:
        sent = Counter(f"{name}/m" for name in providers.log[result.call.prompt])
        assert Counter({leg.target: leg.attempts for leg in result.trail}) == sent or _merged(result) == sent
        if result.ok:
            assert result.trail[-1].left == ""
        assert all(leg.left for leg in result.trail[:-1])
    lost = [result for result in results if not result.ok]
    assert len(lost) <= (0.25 if "empty" in str(trouble) else 0.0) * 500


def _merged(result: Result) -> Counter[str]:
    """Attempts by target, where a call came back to one."""
    found: Counter[str] = Counter()
    for leg in result.trail:
        found[leg.target] += leg.attempts
    return found


def test_a_hedge_makes_the_slowest_calls_faster_and_is_a_bounded_share():
    """The slowest calls would stay slow; or the provider would be asked twice for everything."""
    slowest = {}
    for hedge in (0.0, 0.05):
        providers = Providers(a=provider(rpm=None, latency_p99=30.0), b=provider(rpm=None, latency_p99=30.0))

        async def main(providers: Providers = providers, hedge: float = hedge) -> list[float]:
            route = Route("a/m", "b/m", order="spread", hedge=hedge)
            async with providers.client(route, config=providers.config(), limits=Limits(concurrency=500)) as client:
                return await asyncio.gather(*(_later(client, number) for number in range(2_000)))

        took = sorted(run_virtual(main()))
        slowest[hedge] = took[int(0.99 * len(took))]
        assert sum(providers.seen("received").values()) <= 2_000 * (1 + hedge) + 10 * bool(hedge)
    assert slowest[0.05] <= 0.75 * slowest[0.0]


async def _later(client: Client, number: int) -> float:
    await asyncio.sleep(number * 0.1)
    return (await client.result(f"question {number}")).elapsed
