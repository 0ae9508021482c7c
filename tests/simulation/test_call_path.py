"""The whole call path on a virtual clock, against a simulated provider: minutes of traffic in a second."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flatout import (
    AuthenticationError,
    CallError,
    CircuitOpen,
    Client,
    ConnectError,
    DeadlineExceeded,
    Limits,
    NotSent,
)
from flatout.layer import Request, Response
from flatout.policies.pacing.unknown.climb import START
from flatout.tasks.wheel import SLOT
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, digest_of, run_virtual

CALLS = 2_000


def provider(seed: int = 1, **given) -> ProviderModel:
    return ProviderModel(ProviderSettings(**given), seed)


def client(model: ProviderModel, **options) -> Client:
    given = {"base_url": "http://sim/v1", "config": {}, "seed": 1, **options}
    return Client("m", transport=SimulatedTransport(model), **given)


def prompts(count: int) -> list[str]:
    return [f"prompt {n}" for n in range(count)]


def gathered(model: ProviderModel, count: int, **options):
    """The results of a batch, and how many seconds it took."""

    async def main():
        async with client(model, **options) as made:
            results = await made.gather(prompts(count))
            assert len(asyncio.all_tasks()) == 1
            return results, asyncio.get_running_loop().time()

    return run_virtual(main())


def kinds(results) -> Counter:
    return Counter(type(result.error).__name__ for result in results if not result.ok)


def assert_right(results) -> None:
    """Exactly one result a call, in order, and every answer belongs to its prompt."""
    assert [result.index for result in results] == list(range(len(results)))
    for result in results:
        if result.ok:
            assert result.text.split()[0] == f"digest:{digest_of(result.call.prompt)}"
        else:
            assert isinstance(result.error, CallError)
            assert result.reply is None


# -- against the tutorial ---------------------------------------------------------------------------------------------


async def tutorial(model: ProviderModel, calls: int, workers: int) -> int:
    """What tutorials show: a semaphore, and a retry loop of its own for each call."""
    transport, gate, chance = SimulatedTransport(model), asyncio.Semaphore(workers), random.Random(7)

    async def one(prompt: str) -> bool:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()
        async with gate:
            for attempt in range(6):
                response = await transport.send(Request("POST", "http://sim/v1/chat/completions", {}, body))
                if response.status == 200:
                    return True
                wait = float(response.headers.get("retry-after", 1))
                await asyncio.sleep(wait * 2**attempt * chance.uniform(0.9, 1.1))
            return False

    return sum(await asyncio.gather(*map(one, prompts(calls))))


@pytest.mark.parametrize("limits", [Limits(rpm=6_000), None], ids=["limits told", "limits unknown"])
def test_it_is_faster_than_the_tutorial_and_refused_less(limits):
    """There would be no reason to use flatout instead of the ten lines that everybody writes."""
    busy = {"rpm": 6_000, "burst": 1, "latency": 0.5}

    async def theirs() -> tuple[int, float]:
        return await tutorial(model, CALLS, workers=200), asyncio.get_running_loop().time()

    model = provider(**busy)
    done, took = run_virtual(theirs())
    refused = model.stats()["refused"]
    assert refused > 500  # else there is nothing to win

    ours = provider(**busy)
    results, seconds = gathered(ours, CALLS, limits=limits)
    assert_right(results)
    assert kinds(results) == {}
    assert ours.stats()["refused"] < refused / 5
    assert seconds < took
    assert done <= CALLS


@pytest.mark.parametrize("limit", ["bucket", "sliding", "fixed"])
def test_known_limits_are_used_and_never_hit(limit):
    """Half of what was paid for would lie idle, or the provider refuse what it was told to expect."""
    model = provider(rpm=6_000, burst=1, limit=limit)
    results, seconds = gathered(model, CALLS, limits=Limits(rpm=6_000))
    assert_right(results)
    assert kinds(results) == {}
    assert model.stats()["refused"] == 0
    assert seconds < CALLS / (100 * 0.985) + 5


def test_several_clients_do_not_lose_calls_to_each_other():
    """Two programs on one key would fail each other's calls."""
    model = provider(rpm=3_000, burst=1)

    async def main():
        async with client(model) as one, client(model, seed=2) as two:
            return await asyncio.gather(one.gather(prompts(400)), two.gather(prompts(400)))

    for results in run_virtual(main()):
        assert_right(results)
        assert kinds(results) == {}


# -- failures of the whole provider -----------------------------------------------------------------------------------


@pytest.mark.parametrize("error_latency", [0.02, 0.2])
@pytest.mark.parametrize(
    ("limits", "most"),
    [(None, START), (Limits(rpm=60_000), 5), (Limits(concurrency=100), 5)],
    ids=["none", "rpm", "slots"],
)
def test_a_wrong_key_costs_a_handful_of_requests(error_latency, limits, most):
    """A thousand calls with a wrong key look like an attack, and lock the account."""
    model = provider(key="right", error_latency=error_latency)
    results, seconds = gathered(model, 1_000, api_key="wrong", limits=limits)
    assert model.stats()["received"] <= most
    assert set(kinds(results)) == {"AuthenticationError", "CircuitOpen"}
    assert sum(isinstance(result.error, AuthenticationError) for result in results) == model.stats()["received"]
    assert seconds < 5
    assert all(result.cost == 0 for result in results)
    assert all("key" in str(result.error) for result in results)


def test_a_call_that_was_held_back_names_what_stopped_its_target():
    """A user would hear that the target is stopped, and find the reason in no place."""
    results, _ = gathered(provider(key="right"), 50, api_key="wrong")
    stopped = [result.error for result in results if isinstance(result.error, CircuitOpen)]
    assert stopped
    assert all(isinstance(error.__cause__, AuthenticationError) for error in stopped)


def test_a_right_key_is_not_held_up():
    """The first call would go alone for longer than it has to."""
    results, seconds = gathered(provider(key="right"), 1_000, api_key="right", limits=Limits(rpm=600_000))
    assert kinds(results) == {}
    assert seconds < 8


def test_an_unreachable_host_is_given_up_after_a_minute_and_costs_little():
    """A typo in the address would take every call through all its retries, or hold a run until its deadline."""
    model = provider(outage=(0, 1e9), outage_as="refused")
    results, seconds = gathered(model, 1_000)
    assert model.stats()["received"] <= START + 10
    assert all(isinstance(result.error, ConnectError | CircuitOpen) for result in results)
    assert all(result.cost == 0 for result in results)
    assert all("connection refused" in str(result.error) for result in results)
    assert 60 <= seconds < 70


@pytest.mark.parametrize("outage_as", ["503", "refused"])
@pytest.mark.parametrize("limits", [Limits(rpm=6_000), None], ids=["told", "unknown"])
def test_no_call_is_lost_in_an_outage(outage_as, limits):
    """Every restart of the provider would leave holes in the results."""
    model = provider(rpm=6_000, burst=1, outage=(5, 25), outage_as=outage_as)
    results, seconds = gathered(model, 4_000, limits=limits)
    assert_right(results)
    assert kinds(results) == {}
    assert model.stats()["faults"]["outage"] < 400  # it is looked after, not hammered
    assert seconds < 200


def test_an_outage_without_an_end_ends_every_call():
    """A dead provider would hold a batch for ever, or be sent six times the traffic."""
    model = provider(outage=(0, 1e9), outage_as="503")
    results, seconds = gathered(model, 500, deadline=600.0)
    assert not any(result.ok for result in results)
    assert seconds <= 600.1 + SLOT
    assert model.stats()["received"] <= 500 * 1.2 + 101


def test_every_call_hangs_and_every_call_ends():
    """A provider that accepts and never answers would hold a batch for ever."""
    model = provider(faults=Faults(hang=1.0))
    results, seconds = gathered(model, 50, deadline=60.0, timeout=20.0)
    assert seconds <= 60.1 + SLOT
    assert set(kinds(results)) <= {"DeadlineExceeded", "AttemptTimeout"}
    assert all(result.cost is None for result in results)


def test_a_deadline_bounds_queueing():
    """Calls would be answered long after anybody wants them."""
    model = provider(latency=1.0, latency_p99=1.0)
    results, seconds = gathered(model, 100, deadline=10.0, limits=Limits(concurrency=1))
    assert seconds <= 101
    assert all(result.elapsed <= 10.001 for result in results)
    for result in results:
        assert result.ok or (
            isinstance(result.error, DeadlineExceeded) and result.elapsed == pytest.approx(10, abs=0.1)
        )


class Broke(SimulatedTransport):
    """Its provider answers a hundred requests; then the account is empty."""

    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        if self.model.stats()["answered"] <= 100:
            return response
        body = b'{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'
        return Response(429, {"retry-after": "1"}, body)


def test_an_empty_account_stops_the_run():
    """Every row would be tried, and fail, one after the other."""
    model = provider(latency=0.2)

    async def main() -> None:
        async with Client("m", base_url="http://sim/v1", config={}, transport=Broke(model), limits=slots) as made:
            results = await made.gather(prompts(1_000))
            assert sum(result.ok for result in results) == 100
            assert set(kinds(results)) == {"QuotaExhausted", "CircuitOpen"}
            assert all("quota" in str(result.error) for result in results[200:])

    slots = Limits(concurrency=10)
    run_virtual(main())
    assert model.stats()["received"] <= 111


# -- whatever happens -------------------------------------------------------------------------------------------------

shares = st.sampled_from([0.0, 0.0, 0.02, 0.1])
fault_mixes = st.builds(
    Faults,
    rate_limited=shares,
    server_error=shares,
    overloaded=shares,
    reset=shares,
    hang=st.sampled_from([0.0, 0.02]),
    truncated=shares,
    malformed=shares,
    empty=shares,
    invalid=shares,
)
providers = st.builds(
    ProviderSettings,
    faults=fault_mixes,
    latency=st.sampled_from([0.0, 0.1, 2.0]),
    rpm=st.sampled_from([None, 600.0, 6_000.0]),
    burst=st.sampled_from([1.0, 10.0]),
    slots=st.sampled_from([None, 3]),
    queue=st.sampled_from([None, 2]),
    retry_after=st.sampled_from(["", "seconds", "ms", "date"]),
    headers=st.sampled_from(["", "openai", "groq"]),
    outage=st.sampled_from([None, (1.0, 6.0)]),
    outage_as=st.sampled_from(["503", "refused"]),
)
all_limits = st.sampled_from(
    [None, Limits(rpm=600), Limits(concurrency=2), Limits(tpm=60_000, concurrency=20), Limits(adaptive="concurrency")]
)
many = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@many
@given(providers, all_limits, st.integers(0, 99))
def test_every_call_gets_exactly_one_result_and_the_right_one(behaviour, limits, seed):
    """An answer would be lost, doubled, or stand beside another question."""
    model = ProviderModel(behaviour, seed)
    results, _ = gathered(model, 40, limits=limits, timeout=10.0, deadline=120.0, seed=seed)
    assert len(results) == 40
    assert_right(results)
    assert sum(result.attempts for result in results) == model.stats()["received"]
    assert model.stats()["in_flight"] == 0
    for result in results:
        assert result.elapsed <= 120.001
        assert result.ok or isinstance(result.error, NotSent) or result.attempts > 0 or result.elapsed > 100


@many
@given(providers, all_limits, st.integers(0, 99), st.lists(st.floats(0, 20), min_size=30, max_size=30))
def test_cancelled_calls_are_cancelled_and_the_others_are_not(behaviour, limits, seed, instants):
    """A user who cancels one call would lose others, or go on paying for it; permits would leak away."""
    model = ProviderModel(behaviour, seed)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with client(model, limits=limits, timeout=10.0, deadline=120.0, seed=seed) as made:
            tasks = [loop.create_task(made.result(f"prompt {n}", index=n)) for n in range(30)]
            cancelled = {n for n in range(30) if n % 3 == 0}
            for place in cancelled:
                loop.call_later(instants[place], tasks[place].cancel)
            await asyncio.wait(tasks)
            for place, task in enumerate(tasks):
                if task.cancelled():
                    assert place in cancelled
                else:
                    assert_right_at(task.result(), place)
            assert len(asyncio.all_tasks()) == 1
            assert all((status.in_flight, status.waiting) == (0, 0) for status in made.status())
            assert model.stats()["in_flight"] == 0

    run_virtual(main())


def assert_right_at(result, place: int) -> None:
    assert result.index == place
    if result.ok:
        assert result.text.split()[0] == f"digest:{digest_of(f'prompt {place}')}"
    else:
        assert isinstance(result.error, CallError)


def test_a_run_repeats_itself():
    """A failure seen once could not be looked into."""
    behaviour = {"rpm": 6_000, "burst": 1, "faults": Faults(server_error=0.1, rate_limited=0.05)}
    gathered(provider(**behaviour), 300)  # the first calls of a process may wait for the price table
    runs = [gathered(provider(**behaviour), 300) for _ in range(2)]
    assert runs[0][1] == runs[1][1]
    assert [result.attempts for result in runs[0][0]] == [result.attempts for result in runs[1][0]]
