"""Whose call goes next, and what happens to those that nobody waits for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flatout import Limits
from flatout.layer import Request, Response
from flatout.policies.fairness import PASSES
from flatout.serve.callers import Allowed, Caller
from flatout.serve.calls import priority_of
from flatout.serve.gate import Gate, KeyRemoved, QueueFull
from flatout.testing import ProviderModel, ProviderSettings, run_virtual

from .gateways import CHAT, PATHS, Got, World

SLOW = ProviderSettings(rpm=600, burst=1, latency=0.5)
LIMITS = Limits(rpm=600, burst=1)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1234567890")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def ask(world: World, number: int = 0, **headers: str) -> asyncio.Task[Got]:
    return asyncio.ensure_future(world.ask(PATHS["openai"], {**CHAT, "user": str(number)}, **headers))


def test_one_call_does_not_wait_behind_a_thousand_of_another_caller():
    """One team's nightly job would hold up everybody else for minutes."""
    world = World(SLOW, limits=LIMITS)

    async def main(world: World) -> tuple[float, float]:
        many = [ask(world, number, x_api_key="many") for number in range(1_000)]
        await asyncio.sleep(1.0)
        one = await ask(world, x_api_key="one")
        began = 1.0
        last = max(got.at for got in await asyncio.gather(*many))
        return one.at - began, last

    waited, last = world.run(main)
    assert last > 90
    assert waited < 6


@pytest.mark.parametrize("asked", ["here", "by another gateway"])
def test_equal_calls_that_wait_for_one_answer_hold_up_nobody(tmp_path: Path, asked: str):
    """With a cache, two equal calls of one team would keep everybody from the model until their answer came."""
    options: Any = {"settings": ProviderSettings(latency=60.0), "cache": tmp_path / "cache"}
    world, other = World(**options), World(**options)

    async def main(world: World) -> int:
        async with other.client:
            asking = [ask(other if asked == "by another gateway" else world)]
            await asyncio.sleep(1.0)
            before = world.provider.stats()["received"]
            asking += [ask(world, x_api_key="many") for _ in range(20)]
            await asyncio.sleep(1.0)
            asking.append(ask(world, 1, x_api_key="one"))
            await asyncio.sleep(1.0)
            sent = world.provider.stats()["received"] - before
            assert {each.status for each in await asyncio.gather(*asking)} == {200}
            assert world.provider.stats()["received"] - before == sent
            return sent

    assert world.run(main) == 1


def test_a_high_priority_goes_first_and_a_low_one_is_not_starved():
    """Somebody who waits for an answer would wait behind a job that nobody looks at; or the job would never end."""
    world = World(SLOW, limits=LIMITS)

    async def main(world: World) -> tuple[list[float], list[float]]:
        low = [ask(world, number, x_flatout_priority="low") for number in range(60)]
        await asyncio.sleep(0.5)
        high = [ask(world, number, x_flatout_priority="high") for number in range(60)]
        return [got.at for got in await asyncio.gather(*low)], [got.at for got in await asyncio.gather(*high)]

    low, high = world.run(main)
    assert sum(high) / 60 < sum(low) / 60
    assert sum(min(high) < at < max(high) for at in low) >= 60 // PASSES


def test_where_calls_go_slowly_one_caller_does_not_wait_behind_a_queue():
    """At six calls a minute, somebody with one call would wait for a minute and a half behind those of another."""
    world = World(ProviderSettings(rpm=6, burst=1, latency=0.5), limits=Limits(rpm=6))

    async def main(world: World) -> list[float]:
        many = [ask(world, number, x_api_key="many") for number in range(200)]
        waited = []
        for number in range(5):
            await asyncio.sleep(60.0)
            began = asyncio.get_running_loop().time()
            waited.append((await ask(world, number, x_api_key="one")).at - began)
        for task in many:
            task.cancel()
        await asyncio.gather(*many, return_exceptions=True)
        return waited

    assert max(world.run(main)) < 45


@pytest.mark.parametrize("seed", [1, 18, 19])
def test_calls_that_fail_again_and_again_hold_up_nobody(seed: int):
    """A dozen calls that their provider always fails would stop all others: they fill the gate, or feign an outage."""
    world = World(provider=ProviderModel(ProviderSettings(rpm=6_000, latency=1.0), seed), seed=seed)
    send = world.client._engine.transport.send

    async def failing(request: Request) -> Response:
        if b"poison" in (request.body or b""):
            await asyncio.sleep(0.1)
            return Response(500, {}, b'{"error": {"message": "boom"}}')
        return await send(request)

    world.client._engine.transport.send = failing  # type: ignore[method-assign]

    async def main(world: World) -> float:
        poison = {**CHAT, "messages": [{"role": "user", "content": "poison"}]}
        bad, good = [], []
        for number in range(800):
            if number == 40:
                bad = [asyncio.ensure_future(world.ask(PATHS["openai"], {**poison, "user": f"{n}"})) for n in range(12)]
            good.append((asyncio.get_running_loop().time(), ask(world, number, x_api_key=f"flow{number % 3}")))
            await asyncio.sleep(0.05)
        waited = [(await task).at - began for began, task in good]
        assert {(await task).status for task in bad} == {500}
        return max(waited)

    assert world.run(main) < 20


def test_a_call_is_refused_when_its_deadline_has_passed():
    """A client that needs an answer in three seconds would get it after a minute, and pay for it."""
    world = World(SLOW, limits=LIMITS)

    async def main(world: World) -> Got:
        for number in range(200):
            ask(world, number)
        await asyncio.sleep(0.5)
        return await ask(world, x_flatout_deadline="3")

    got = world.run(main)
    assert got.status == 504
    assert 3 <= got.at <= 4


@pytest.mark.parametrize("streams", [False, True])
def test_whoever_hangs_up_leaves_nothing_behind(streams: bool):
    """Calls that nobody waits for would be paid, and would hold up those of others."""
    world = World(SLOW, limits=LIMITS)

    async def main(world: World) -> tuple[Any, int, float]:
        asked = {**CHAT, "stream": streams}
        tasks = [asyncio.ensure_future(world.ask(PATHS["openai"], asked)) for _ in range(1_000)]
        await asyncio.sleep(1.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        status = world.gateway.status.now()
        sent = world.provider.stats()["received"]
        began = asyncio.get_running_loop().time()
        return status, sent, (await ask(world)).at - began

    status, sent, waited = world.run(main)
    assert status["waiting"] == status["waiting_bytes"] == 0
    assert status["callers"][0]["inside"] == 0
    assert status["targets"][0]["in_flight"] == status["targets"][0]["waiting"] == 0
    assert sent < 30
    assert waited < 3


def test_the_queue_has_a_bound():
    """A flood of calls would fill the memory."""

    async def main() -> str:
        gate, caller = Gate(ahead=1, most_calls=10), Caller("a", Allowed())
        await gate.enter(caller, "m")
        waiting = [asyncio.ensure_future(gate.enter(caller, "m", size=10)) for _ in range(5)]
        await asyncio.sleep(0)
        assert (gate.waiting, gate.bytes) == (5, 50)
        with pytest.raises(QueueFull):
            await gate.enter(caller, "m")
        others = [asyncio.ensure_future(gate.enter(Caller(name, Allowed()), "m")) for name in "bcdef"]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await gate.enter(Caller("g", Allowed()), "m")
        for task in (*waiting, *others):
            task.cancel()
        await asyncio.gather(*waiting, *others, return_exceptions=True)
        return repr(gate)

    assert run_virtual(main()) == "Gate(0 wait, 0 bytes)"


def test_a_full_queue_is_refused_with_a_time():
    """A client would try again at once, or never."""
    world = World()
    world.gateway.gate._most_calls = 0
    world.gateway.gate._ahead = 0
    got = world.run(lambda world: ask(world))
    assert got.status == 429
    assert int(got.headers["retry-after"]) >= 1


@pytest.mark.parametrize(("allowed", "most"), [(Allowed(rpm=60), 11), (Allowed(concurrency=2), 22)])
def test_a_callers_own_limits_hold(allowed: Allowed, most: int):
    """One key could take all of the limits that it shares with others."""

    async def main() -> int:
        gate, caller, went = Gate(), Caller("a", allowed), 0

        async def one() -> None:
            nonlocal went
            place = await gate.enter(caller, "m")
            went += 1
            place.sent()
            await asyncio.sleep(1.0)
            place.leave()

        tasks = [asyncio.ensure_future(one()) for _ in range(100)]
        await asyncio.sleep(9.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return went

    assert most - 3 <= run_virtual(main()) <= most


@pytest.mark.parametrize("header", ["x_flatout_deadline", "x_flatout_priority"])
def test_headers_that_mean_nothing_are_refused(header: str):
    """A client would believe that its call had a deadline, or a priority."""
    assert World().run(lambda world: ask(world, **{header: "soon"})).status == 400


@pytest.mark.parametrize(("text", "value"), [("0.123456", 0.1), ("-8.96", -9.0), ("-1e-300", 0.0), ("high", 1.0)])
def test_priorities_are_few(text: str, value: float):
    """A client with a priority of its own for each call would slow down each turn of everybody."""
    assert priority_of(text) == value


def test_a_model_is_forgotten_when_nobody_waits_for_it_any_more():
    """Clients may name any number of models, and the gateway would look through all of them at each turn."""

    async def main() -> None:
        gate, caller = Gate(most_bytes=10), Caller("a", Allowed(rpm=1))
        (await gate.enter(caller, "first")).leave()
        for number in range(3):
            waits = asyncio.ensure_future(gate.enter(caller, f"{number}"))
            await asyncio.sleep(0)
            waits.cancel()
            await asyncio.wait([waits])
        with pytest.raises(QueueFull):
            await gate.enter(caller, "large", size=11)
        refused = asyncio.ensure_future(gate.enter(caller, "last"))
        await asyncio.sleep(0)
        gate.refuse(["a"])
        with pytest.raises(KeyRemoved):
            await refused
        assert not gate._lines

    run_virtual(main())
