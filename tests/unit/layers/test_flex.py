"""Calls that ask for a provider's cheaper service, on the virtual clock."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from typing import Any

import pytest

from flatout import Call, Client, Limits
from flatout.journey import Journey
from flatout.lanes.flex import FlexLane
from flatout.layer import Request, Response
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport, run_virtual
from flatout.testing._clock import EPOCH
from flatout.values import Result

MINUTE, HOUR = 60.0, 3_600.0


class Wire(SimulatedTransport):
    """Counts the requests of each service, and the refusals for want of room."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(ProviderModel(ProviderSettings(**settings)))
        self.seen: Counter[str] = Counter()
        self.at: dict[str, list[float]] = {"flex": [], "live": []}
        self.timeouts: list[float] = []

    async def send(self, request: Request) -> Response:
        tier = json.loads(request.body).get("service_tier") or "live"
        self.seen[tier] += 1
        self.at[tier].append(asyncio.get_running_loop().time())
        answer = await super().send(request)
        self.seen[f"{tier} {answer.status}"] += 1
        return answer


def client(wire: Wire, **options: Any) -> Client:
    given: dict[str, Any] = {"api_key": "k", "config": {}, "seed": 1, **options}
    return Client("openai/gpt-5-mini", transport=wire, **given)


async def in_flex(made: Client, lane: FlexLane, prompt: str) -> Result[Any]:
    journey = Journey(asyncio.get_running_loop().time())
    lane.take(call := Call(prompt), journey)
    return await made.result(call, journey=journey)


async def all_in_flex(made: Client, until: float | None = None, calls: int = 200) -> list[Result[Any]]:
    lane = FlexLane(made._engine, None if until is None else EPOCH + until)
    return await asyncio.gather(*(in_flex(made, lane, f"question {n}") for n in range(calls)))


def test_calls_in_the_flex_lane_cost_half() -> None:
    """The lane would not be worth its name."""

    async def main() -> tuple[float, float]:
        async with client(Wire()) as made:
            (cheap,), live = await all_in_flex(made, calls=1), await made.result("question 0")
            assert cheap.cost is not None
            assert live.cost is not None
            return cheap.cost, live.cost

    cheap, live = run_virtual(main())
    assert cheap == pytest.approx(live / 2)


def test_calls_wait_until_there_is_room() -> None:
    """Hours without room would fail every row, or ask the provider thousands of times in vain."""
    wire = Wire(no_room=(0.0, 2 * HOUR))

    async def main() -> list[Result[Any]]:
        async with client(wire) as made:
            return await all_in_flex(made)

    results = run_virtual(main())
    assert all(result.ok for result in results)
    assert wire.seen["flex 429"] < 200 + 2 * HOUR / 15.0 + 100  # each once, and then single looks
    assert wire.seen["live"] == 0
    assert sum(result.cost for result in results if result.cost is not None) > 0
    assert max(result.waits["room"] for result in results) > HOUR


def test_a_flex_tier_without_room_does_not_stop_live_calls() -> None:
    """The live service answers all the while: its calls would wait, or go more slowly, for no reason."""
    wire = Wire(no_room=(0.0, HOUR), latency=1.0, latency_p99=1.0)

    async def main() -> list[float]:
        async with client(wire) as made:
            flex = asyncio.ensure_future(all_in_flex(made))
            await asyncio.sleep(5 * MINUTE)
            live = await made.gather(f"live {n}" for n in range(100))
            assert all(result.ok for result in live)
            took = [result.elapsed for result in live]
            flex.cancel()
            await asyncio.gather(flex, return_exceptions=True)
            return took

    assert max(run_virtual(main())) < 3.0


def test_calls_that_name_the_tier_themselves_are_treated_alike() -> None:
    """service_tier="flex" in a program is the same wish as the lane."""
    wire = Wire(no_room=(0.0, 10 * MINUTE), latency=1.0, latency_p99=1.0)

    async def main() -> None:
        async with client(wire) as made:
            flex = asyncio.ensure_future(made.gather([f"flex {n}" for n in range(100)], service_tier="flex"))
            await asyncio.sleep(MINUTE)
            assert (await made.result("live")).elapsed < 3.0
            assert all(result.ok for result in await flex)

    run_virtual(main())
    assert wire.seen["flex 429"] < 300


def test_waiting_calls_go_on_live_when_it_is_time() -> None:
    """The deadline is the promise. A row that waits for room to the end has no answer."""
    wire = Wire(no_room=(0.0, math.inf))

    async def main() -> list[Result[Any]]:
        async with client(wire) as made:
            results = await all_in_flex(made, until=HOUR)
            assert asyncio.get_running_loop().time() < HOUR + 2 * MINUTE
            return results

    results = run_virtual(main())
    assert all(result.ok for result in results)
    assert wire.seen["live"] == 200
    assert min(wire.at["live"]) >= HOUR
    assert max(wire.at["flex"]) < HOUR


def test_what_is_on_its_way_in_flex_is_not_asked_live_as_well() -> None:
    """The row would be paid twice."""
    wire = Wire(latency=10 * MINUTE, latency_p99=10 * MINUTE)

    async def main() -> list[Result[Any]]:
        async with client(wire) as made:
            return await all_in_flex(made, until=MINUTE)

    assert all(result.ok for result in run_virtual(main()))
    assert (wire.seen["flex"], wire.seen["live"]) == (200, 0)


def test_a_flex_answer_has_time() -> None:
    """OpenAI says to allow 15 minutes: after five, the answer would be thrown away, and paid for."""
    wire = Wire(latency=14 * MINUTE, latency_p99=14 * MINUTE)

    async def main() -> list[Result[Any]]:
        async with client(wire) as made:
            return await all_in_flex(made, calls=3)

    assert [result.attempts for result in run_virtual(main())] == [1, 1, 1]


def test_the_users_own_timeout_wins() -> None:
    """A bound that was given is kept."""
    wire = Wire(latency=5 * MINUTE, latency_p99=5 * MINUTE)

    async def main() -> list[Result[Any]]:
        async with client(wire, timeout=30.0, deadline=MINUTE) as made:
            return await all_in_flex(made, calls=1)

    (result,) = run_virtual(main())
    assert not result.ok
    assert result.elapsed == pytest.approx(MINUTE, abs=0.1)


def test_calls_that_stand_in_the_queue_are_not_sent_in_vain() -> None:
    """A slow limit has a long queue. All of it would be refused, one after the other, at the expense of live calls."""
    wire = Wire(no_room=(MINUTE, 30 * MINUTE), rpm=60, burst=1)

    async def main() -> list[Result[Any]]:
        async with client(wire, limits=Limits(rpm=60)) as made:
            return await all_in_flex(made, calls=300)

    assert all(result.ok for result in run_virtual(main()))
    assert wire.seen["flex 429"] < 300


def test_cancelled_calls_leave_no_hole() -> None:
    """A look whose caller is gone must not be the last one."""
    wire = Wire(no_room=(0.0, 10 * MINUTE))

    async def main() -> None:
        async with client(wire) as made:
            lane = FlexLane(made._engine)
            calls = [asyncio.ensure_future(in_flex(made, lane, f"question {n}")) for n in range(50)]
            for call in calls[:-1]:
                await asyncio.sleep(7.0)
                call.cancel()
            assert (await calls[-1]).ok

    run_virtual(main())
