"""Routes under attack on the virtual clock: whatever is cancelled, stopped or slow, no permit and no call is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import Call, CallError, CircuitOpen, Client, DeadlineExceeded, Limits, Result, Route
from flatout.journey import Journey
from flatout.testing import Faults, ProviderSettings, run_virtual
from tests.support.several_providers import Providers

GROUP = {f"key-{number}": {"base_url": f"http://{number}.test/v1", "group": "org"} for number in "ab"}
TROUBLES: dict[str, dict[str, Any]] = {
    "none": {},
    "429": {"faults": Faults(rate_limited=0.3)},
    "500": {"faults": Faults(server_error=0.3)},
    "hangs": {"faults": Faults(hang=0.2)},
    "down": {"outage": (3.0, 40.0), "outage_as": "refused"},
    "key": {"key": "another"},
    "slow": {"latency": 15.0},
    "halved": {"changes": ((4.0, {"rpm": 300}),)},
}


def provider(**given: Any) -> ProviderSettings:
    return ProviderSettings(**{"rpm": 600, "burst": 1.0, "latency": 2.0, **given})


def is_idle(client: Client) -> bool:
    """Whether no target has an attempt in flight or in its queue."""
    return all((status.in_flight, status.waiting) == (0, 0) for status in client.status())


ROUTES = st.builds(
    Route,
    st.just("a/m"),
    st.just("b/m"),
    order=st.sampled_from(["spill", "spread"]),
    hedge=st.sampled_from([0.0, 0.5]),
    fallback=st.sampled_from([{}, {"down": "c/m", "silence": "c/m"}]),
)


@settings(max_examples=40, deadline=None)
@given(
    ROUTES,
    st.sampled_from(sorted(TROUBLES)),
    st.sampled_from(sorted(TROUBLES)),
    st.lists(st.tuples(st.floats(0.0, 12.0), st.floats(0.0, 6.0)), min_size=30, max_size=120),
    st.sampled_from([Limits(rpm=600), Limits(concurrency=7), Limits(rpm=600, tpm=40_000)]),
)
def test_no_permit_leaks_whatever_is_cancelled(route, one, other, times, limits):
    """A target would seem busier than it is, call by call, until it takes none any more."""
    providers = Providers(a=provider(**TROUBLES[one]), b=provider(**TROUBLES[other]), c=provider())

    async def ask(client: Client, number: int, begin: float, end: float) -> None:
        await asyncio.sleep(begin)
        long = "word " * (2_000 if number % 5 == 0 else 3)
        with suppress(TimeoutError):
            await asyncio.wait_for(client.result(f"{number} {long}"), end)

    async def main() -> None:
        config = providers.config()
        async with providers.client(route, config=config, limits=limits, timeout=10.0, deadline=30.0) as client:
            await asyncio.gather(*(ask(client, number, *pair) for number, pair in enumerate(times)))
            assert is_idle(client)
            late = await client.gather(["a", "b", "c"], strict=False)
            assert all(result.ok or isinstance(result.error, CallError) for result in late)
            assert is_idle(client)

    run_virtual(main())


@pytest.mark.parametrize("hedge", [0.0, 0.5])
@pytest.mark.parametrize("order", ["spill", "spread"])
def test_two_thousand_cancelled_calls_leave_nothing_behind(order, hedge):
    """An agent that gives up often would block its own targets."""
    providers = Providers(a=provider(latency_p99=30.0), b=provider(latency_p99=30.0))

    async def main() -> int:
        route = Route("a/m", "b/m", order=order, hedge=hedge)
        async with providers.client(route, config=providers.config(), limits=Limits(rpm=600)) as client:
            tasks = [asyncio.create_task(client.result(f"question {number}")) for number in range(2_200)]
            for turn in range(400):  # in the middle of anything
                await asyncio.sleep(0.0 if turn % 2 else 0.11)
                for task in tasks[turn * 5 : turn * 5 + 5]:
                    task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert is_idle(client)
            return sum(isinstance(result, Result) and result.ok for result in results)

    assert run_virtual(main()) >= 200


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["spill", "spread"]),
    st.sampled_from([0.0, 0.5]),
    st.integers(50, 400),
    st.lists(st.integers(0, 399), max_size=60),
)
def test_a_group_never_exceeds_its_limit(order, hedge, count, cancelled):
    """Two keys of one organisation would be refused, together."""
    providers = Providers(a=provider(), b=provider())
    keys = {name: {"base_url": "http://a.test/v1", "group": "org"} for name in ("one", "two")}
    config = {"endpoints": keys, "limits": {name: {"rpm": 600} for name in keys}}

    async def main() -> None:
        route = Route("one/m", "two/m", order=order, hedge=hedge)
        async with providers.client(route, config=config) as client:
            tasks = [asyncio.create_task(client.result(f"question {number}")) for number in range(count)]
            for number in cancelled:
                await asyncio.sleep(0.05)
                if number < count:
                    tasks[number].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert is_idle(client)

    run_virtual(main())
    assert providers.seen("refused")["a"] == 0


def test_keys_of_a_group_wait_once():
    """The count of waiting calls, and the memory for them, would be as many times too high as there are keys."""
    providers = Providers(a=provider())
    keys = {name: {"base_url": "http://a.test/v1", "group": "org"} for name in ("one", "two", "three")}

    async def main() -> None:
        config = {"endpoints": keys}
        async with providers.client(Route(*(f"{k}/m" for k in keys)), config=config, limits=Limits(rpm=600)) as client:
            tasks = [asyncio.create_task(client.result(f"question {number}")) for number in range(100)]
            await asyncio.sleep(1.0)
            (status,) = client.status()
            assert status.waiting + status.in_flight <= 100
            await asyncio.gather(*tasks)

    run_virtual(main())


class Notes:
    """A run file's notes of one call."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, str]] = []
        self.unpaid: list[int] = []

    async def begins(self, attempt: int, target: str, estimate: float | None, after: Exception | None, /) -> None:
        self.begun.append((attempt, target))
        await asyncio.sleep(0.003)

    def failed(self, attempt: int, error: CallError, /) -> None:
        self.unpaid.append(attempt)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(TROUBLES)), st.sampled_from(sorted(TROUBLES)), st.sampled_from(["spill", "spread"]))
def test_the_notes_and_the_trail_of_hedged_calls_are_true(one, other, order):
    """The run file would take a paid attempt for an unpaid one, or the trail name another target than answered."""
    slow = {"latency_p99": 30.0}
    providers = Providers(a=provider(**slow | TROUBLES[one]), b=provider(**slow | TROUBLES[other]))
    hedged = []

    async def ask(client: Client, number: int) -> None:
        await asyncio.sleep(number * 0.1)
        journey, notes = Journey(asyncio.get_running_loop().time()), Notes()
        journey.notes = notes
        call = Call(f"question {number}")
        try:
            reply = await client._engine.answer(call, journey)
        except CallError:
            reply = None
        numbers = [attempt for attempt, _ in notes.begun]
        assert len(set(numbers)) == len(numbers)
        assert set(notes.unpaid) <= set(numbers)
        assert len(set(notes.unpaid)) == len(notes.unpaid)
        sent, told = Counter(target for _, target in notes.begun), Counter()
        for leg in journey.trail:
            told[leg.target] += leg.attempts
        assert sent == told
        assert journey.attempts == len(numbers)
        assert all(leg.left for leg in journey.trail[:-1])
        if reply is not None:
            assert journey.trail[-1].left == ""
            assert journey.trail[-1].output_tokens == reply.usage.output_tokens or journey.trail[-1].attempts > 1
            assert journey.attempt.target == journey.trail[-1].target
        hedged.append(any(leg.left == "Hedged" for leg in journey.trail))

    async def main() -> None:
        route = Route("a/m", "b/m", order=order, hedge=0.5)
        async with providers.client(route, config=providers.config(), limits=Limits(rpm=600), deadline=60.0) as client:
            await asyncio.gather(*(ask(client, number) for number in range(150)))
            assert is_idle(client)

    run_virtual(main())
    assert any(hedged) or (one, other) != ("none", "none")


def test_a_call_that_ends_by_its_deadline_says_so_in_its_trail():
    """It would look as if another attempt had been quicker, where none was sent."""
    providers = Providers(a=provider(latency=100.0), b=provider())

    async def main() -> Result[Any]:
        async with providers.client(Route("a/m", "b/m"), config=providers.config(), deadline=5.0) as client:
            return await client.result("question")

    result = run_virtual(main())
    assert isinstance(result.error, DeadlineExceeded)
    assert [(leg.target, leg.left, leg.attempts) for leg in result.trail] == [("a/m", "DeadlineExceeded", 1)]


def test_half_an_answer_is_never_followed_by_another_targets():
    """The reader of a stream would see half an answer and then a whole one, as one text."""
    providers = Providers(a=provider(latency=8.0, faults=Faults(truncated=1.0)), b=provider())

    async def main() -> str:
        async with providers.client(Route("a/m", "b/m"), config=providers.config()) as client:
            parts: list[str] = []

            async def read() -> None:
                async with client.stream("question") as stream:
                    async for text in stream:
                        parts.append(text)
                        for lane in client._engine.stack._lanes.values():
                            if lane.target == "a/m":  # as if another call had found the key refused
                                lane.service.stop = lane.service.stop or CircuitOpen("refused")

            with pytest.raises(CallError):
                await read()
            return "".join(parts)

    assert run_virtual(main())
    assert providers.seen("received")["b"] == 0


def test_all_stopped_and_one_back():
    """Calls would go on failing although a key was renewed."""
    providers = Providers(a=provider(key="x"), b=provider(key="y"))

    async def main() -> tuple[Result[Any], list[Result[Any]]]:
        config = providers.config(limits={"a": {"rpm": 600}, "b": {"rpm": 600}})
        async with providers.client(Route("a/m", "b/m"), config=config) as client:
            first = await client.result("question")
            providers.renew("b", provider())
            await asyncio.sleep(125.0)
            looked = await client.result("question")
            after = await client.gather(f"question {number}" for number in range(300))
            assert is_idle(client)
            return first, [looked, *after]

    first, after = run_virtual(main())
    assert not first.ok
    assert all(result.ok for result in after)


@pytest.mark.parametrize("limits", [Limits(rpm=1_200), Limits(concurrency=40)], ids=["rate", "concurrency"])
def test_a_short_job_does_not_wait_for_a_target_that_is_known_to_be_slow(limits):
    """200 calls that one target answers in 15 s would take a minute, because the other one took half of them."""
    fast = {"burst": 60.0, "rpm": 1_200}
    took = {}
    for both in (False, True):
        providers = Providers(a=provider(**fast), b=provider(**fast, latency=20.0))
        route = Route("a/m", "b/m", order="spread")

        async def main(providers: Providers = providers, model: str = route if both else "a/m") -> float:
            async with providers.client(model, config=providers.config(), limits=limits) as client:
                loop = asyncio.get_running_loop()
                await client.gather(f"before {number}" for number in range(120))
                began = loop.time()
                results = await client.gather(f"question {number}" for number in range(200))
                assert all(result.ok for result in results)
                return loop.time() - began

        took[both] = run_virtual(main())
    assert took[True] <= 1.3 * took[False]


def test_a_long_job_uses_the_slow_target_too():
    """Half of what was paid for would lie idle, because each answer there takes longer."""
    providers = Providers(a=provider(), b=provider(latency=20.0))
    route = Route("a/m", "b/m", order="spread")

    async def main() -> float:
        async with providers.client(route, config=providers.config(), limits=Limits(rpm=600)) as client:
            results = await client.gather(f"question {number}" for number in range(6_000))
            assert all(result.ok for result in results)
            return asyncio.get_running_loop().time()

    assert run_virtual(main()) <= 1.3 * 6_000 / 20


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_a_refusal_counts_once_whatever_the_number_of_targets(lanes):
    """A call that was refused once would go to the back of all queues, as one that was refused often."""
    providers = Providers(**{name: provider(rpm=60, retry_after_always=0.5) for name in "abc"[:lanes]})

    async def main() -> list[Journey]:
        route = Route(*(f"{name}/m" for name in "abc"[:lanes]))
        async with providers.client(route, config=providers.config(), limits=Limits(rpm=6_000)) as client:
            journeys = [Journey(0.0) for _ in range(20)]
            calls = [client._engine.answer(Call(f"{n}"), journey) for n, journey in enumerate(journeys)]
            await asyncio.gather(*calls)
            return journeys

    for journey in run_virtual(main()):
        assert journey.refusals <= journey.attempts
