"""Calls that have their turn and lack money: what becomes of them, and of those behind them."""

from __future__ import annotations

import asyncio
from random import Random
from unittest.mock import patch

import pytest

from flatout import (
    Budget,
    BudgetExceeded,
    Call,
    CallError,
    CircuitOpen,
    Client,
    DeadlineExceeded,
    Limits,
    Result,
    Route,
)
from flatout.money.purse import Purse
from flatout.store.scope import Scope
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client, completion, refusal

PRICES = {"prices": {"sim/m": {"input": 1_000.0, "output": 2_000.0}}}


def made(wire: Wire, budget: float, **options: object) -> Client:
    """A client that may have 50 calls in flight. A call costs 0.003 and 0.22 at most, with `max_tokens` of 100."""
    return client(wire, **{"budget": budget, "config": PRICES, "limits": Limits(concurrency=50), **options})


def calls(count: int, **params: object) -> list[Call]:
    return [Call(f"{number:03}", **{"max_tokens": 100, **params}) for number in range(count)]


def nothing_is_held(asked: Client) -> bool:
    funds = asked._engine.stack.purse._funds
    return (funds.open, funds.reserved) == (0, 0.0)


def test_calls_that_lack_money_go_in_their_order_and_say_what_they_waited_for():
    """Some would wait for ever behind newer ones, and nobody would know for what."""
    wire = Wire(lambda _: 1.0)

    async def main() -> list[Result]:
        async with made(wire, 1.0) as asked:
            results = await asked.gather(calls(40))
            assert nothing_is_held(asked)
            return results

    results = run_virtual(main())
    assert all(result.ok for result in results)
    assert wire.prompts == sorted(wire.prompts)
    assert 2 <= wire.most < 10
    assert results[-1].waits["budget"] == pytest.approx(results[-1].elapsed - 1.0, abs=0.01)


def test_calls_that_wait_for_their_turn_hold_no_money():
    """A thousand calls that wait for a pace of ten a second would take a whole budget from all other processes."""

    async def main() -> None:
        async with made(Wire(lambda _: 1.0), 1_000.0, limits=Limits(rpm=600, concurrency=5)) as asked:
            asking = asyncio.ensure_future(asked.gather(calls(500)))
            for _ in range(10):
                await asyncio.sleep(0.5)
                assert asked._engine.stack.purse._funds.open <= 5
            asking.cancel()
            await asyncio.wait([asking])
            assert nothing_is_held(asked)

    run_virtual(main())


def test_money_is_asked_for_a_few_times_a_call():
    """Near the end of a budget, each answer would have all that wait ask for its money: a busy loop."""
    asked_for = 0
    take = Purse.take

    def counted(purse: Purse, kind: object, worst: float) -> object:
        nonlocal asked_for
        asked_for += 1
        return take(purse, kind, worst)

    async def main() -> None:
        async with made(Wire(lambda _: completion("x", tokens=50)), 30.0) as asked:
            results = await asked.gather(calls(1_000))
            assert 190 <= sum(result.ok for result in results) <= 200
            assert all(isinstance(result.error, BudgetExceeded) for result in results if not result.ok)

    with patch.object(Purse, "take", counted):
        run_virtual(main())
    assert asked_for <= 3 * 1_000


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("which", [4, 5, 30])
def test_a_call_that_is_cancelled_holds_up_nobody(turns: int, which: int):
    """Its money, or its place in front, would be lost: all others would wait until their deadline."""

    async def main() -> None:
        async with made(Wire(lambda _: 1.0), 1.0) as asked:
            tasks = [asyncio.create_task(asked.call(call)) for call in calls(40)]
            await asyncio.sleep(1.0)
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[which].cancel()
            await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60.0)
            assert sum(task.cancelled() for task in tasks) <= 1
            assert nothing_is_held(asked)

    run_virtual(main())


def test_a_call_whose_deadline_passes_while_it_lacks_money_holds_up_nobody():
    """It would keep the others from going, after it has gone itself."""

    async def main() -> list[Result]:
        async with made(Wire(lambda _: 10.0), 1.0) as asked:
            return await asked.gather([*calls(4), *calls(1, deadline=5.0), *calls(10)])

    results = run_virtual(main())
    assert isinstance(results[4].error, DeadlineExceeded)
    assert results[4].waits["budget"] == pytest.approx(5.0, abs=0.1)
    assert all(result.ok for place, result in enumerate(results) if place != 4)


def test_calls_that_lack_money_end_when_their_target_is_stopped():
    """They would wait for money that they can no longer use."""

    async def main() -> list[Result]:
        async with made(Wire(lambda _: refusal(401)), 1.0, retries=0) as asked:
            results = await asked.gather(calls(30))
            assert nothing_is_held(asked)
            return results

    errors = [result.error for result in run_virtual(main())]
    assert all(isinstance(error, CallError) for error in errors)
    assert sum(isinstance(error, CircuitOpen) for error in errors) >= 20


def test_a_budget_that_is_used_up_refuses_before_anything_is_sent():
    """A call that cannot be paid would be sent, or wait for ever."""
    wire = Wire()

    async def main() -> None:
        async with made(wire, 0.1) as asked:
            assert all(isinstance(result.error, BudgetExceeded) for result in await asked.gather(calls(100)))
            assert nothing_is_held(asked)

    run_virtual(main())
    assert wire.prompts == []


def test_several_targets_share_the_money_in_order_of_arrival():
    """One target's calls would take all the money, or one that waits for its limit keep it from the others."""
    wire = Wire(lambda _: 1.0)
    config = {
        "prices": {name: {"input": 1_000.0, "output": 2_000.0} for name in ("sim/m", "sim/n")},
        "limits": {"sim/n": {"rpm": 6}},
    }

    async def main() -> tuple[list[Result], list[Result]]:
        async with made(wire, 1.0, config=config) as asked:
            return tuple(await asyncio.gather(asked.gather(calls(40)), asked.gather(calls(5, model="n"))))

    quick, slow = run_virtual(main())
    assert all(result.ok for result in [*quick, *slow])
    assert max(result.elapsed for result in quick) < 30.0


def test_calls_of_a_route_that_lack_money_use_all_its_targets(tmp_path, monkeypatch):
    """They would all wait at the first target, after a wait for a loan, while the second one is idle."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    names = ("a/m", "b/m")
    config = {
        "prices": {name: {"input": 1.0, "output": 2.0} for name in names},
        "endpoints": {name: {"base_url": f"http://{name}/v1"} for name in "ab"},
    }
    wire, day = Wire(lambda _: 1.0), Budget(10.0, "day", "routes")

    async def main() -> list[Result]:
        asked = Client(Route(*names), transport=wire, config=config, budget=day, limits=Limits(concurrency=10), seed=1)
        async with asked:
            results = await asked.gather(calls(200))
            assert nothing_is_held(asked)
            return results

    results = run_virtual(main())
    assert all(result.ok for result in results)
    assert max(result.elapsed for result in results) <= 12.0
    assert Scope(day, tmp_path / "flatout" / "budgets").left() == pytest.approx(
        10.0 - sum(result.cost or 0.0 for result in results)
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rpm", [None, 120.0])
def test_money_that_a_call_got_while_another_came_before_it_is_given_back(seed: int, rpm: float | None):
    """A retry would stand in front without money, behind it a call with money: neither could ever go."""
    draw = Random(seed)

    async def answer(_: str) -> object:
        await asyncio.sleep(draw.uniform(0.2, 3.0))
        return refusal(500) if draw.random() < 0.4 else "yes"

    async def main() -> list[Result]:
        limits = Limits(concurrency=50, rpm=rpm, burst=2)
        async with made(Wire(answer), 0.9, limits=limits, retries=20, deadline=3_000.0) as asked:
            results = await asked.gather(calls(40))
            assert nothing_is_held(asked)
            return results

    results = run_virtual(main())
    assert [result.error for result in results if isinstance(result.error, DeadlineExceeded)] == []
