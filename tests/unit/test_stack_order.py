"""The order of the layers, and what it is for."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout import Call, Limits, Reply
from flatout.journey import Account, Journey, current_journey, reset_journey, set_journey
from flatout.stack import compose
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual
from tests.support.scripted_wire import Wire, client, refusal


class Named:
    """Writes its name on the call's way in and on the reply's way out."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    async def __call__(self, call, call_next, /):
        self.log.append(f"in {self.name}")
        reply = await call_next(call)
        self.log.append(f"out {self.name}")
        return reply


def test_the_first_layer_is_the_outermost():
    """A deadline would bound one attempt, or a retry go unpaced."""
    log: list[str] = []

    async def innermost(call: Call) -> Reply:
        log.append("send")
        return Reply(text=call.prompt)

    async def main() -> None:
        stack = compose([Named("a", log), Named("b", log)], innermost)
        assert (await stack(Call("x"))).text == "x"
        assert (await compose([], innermost)(Call("y"))).text == "y"

    asyncio.run(main())
    assert log == ["in a", "in b", "send", "out b", "out a", "send"]


def test_every_attempt_is_paced():
    """Retries would go past the limit, and cause the 429s that they then retry."""
    model = ProviderModel(ProviderSettings(rpm=600, burst=1, latency=0.1, faults=Faults(server_error=0.3)))

    async def main() -> None:
        async with client(SimulatedTransport(model), limits=Limits(rpm=600), retries=20) as made:
            results = await made.gather([f"{n}" for n in range(150)])
            assert sum(result.attempts for result in results) > 180

    run_virtual(main())
    assert model.stats()["refused"] == 0


def test_each_target_has_limits_of_its_own():
    """A slow model would hold up the calls to another."""
    wire = Wire(lambda prompt: 100.0 if prompt == "slow" else 1.0)

    async def main() -> None:
        async with client(wire, limits=Limits(concurrency=1)) as made:
            calls = [Call("slow", model="a"), Call("slow", model="a"), Call("quick", model="b")]
            tasks = [asyncio.create_task(made.call(call)) for call in calls]
            await tasks[2]
            assert asyncio.get_running_loop().time() == pytest.approx(1, abs=0.01)
            assert len(made.status()) == 2
            await asyncio.wait(tasks)

    run_virtual(main())


def test_a_stopped_target_does_not_stop_the_others():
    """A wrong key for one provider would end the calls to all."""
    answers = {"a": refusal(401)}
    wire = Wire(lambda prompt: answers.get(prompt, "fine"))

    async def main() -> None:
        async with client(wire) as made:
            calls = [Call("a", model="a"), Call("a", model="a"), Call("b", model="b"), Call("b", model="b")]
            assert [result.ok for result in await made.gather(calls)] == [False, False, True, True]

    run_virtual(main())


# -- the journey ------------------------------------------------------------------------------------------------------

parts = st.tuples(
    st.integers(0, 9), st.none() | st.floats(0, 9), st.dictionaries(st.sampled_from("ab"), st.floats(0, 9))
)


@given(st.lists(parts))
def test_accounts_add_up(rows):
    """A pipeline's attempts, cost and waits would be wrong; or an unknown cost count as nothing."""
    total = Account()
    for attempts, cost, waits in rows:
        part = Account()
        part.attempts = attempts
        part.spent(cost)
        for cause, seconds in waits.items():
            part.waited(cause, seconds)
        total.add(part)
    assert total.attempts == sum(attempts for attempts, _, _ in rows)
    if any(cost is None for _, cost, _ in rows):
        assert total.cost is None
    else:
        assert total.cost == pytest.approx(sum(cost for _, cost, _ in rows))
    for cause in "ab":
        assert total.waits.get(cause, 0) == pytest.approx(sum(waits.get(cause, 0) for _, _, waits in rows))
    assert all(seconds > 0 for seconds in total.waits.values())


def test_a_journey_is_found_by_its_own_task_alone():
    """One call's waits would be booked on another."""
    outer = Journey(0.0)
    token = set_journey(outer)
    assert current_journey() is outer
    reset_journey(token)
    assert current_journey(None) is None
