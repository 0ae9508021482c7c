"""The money of a client, over the processes that continue a run."""

from __future__ import annotations

import asyncio
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import BudgetExceeded
from flatout.money.purse import Purse
from flatout.testing import run_virtual
from flatout.values.budget import OVER, Budget, Standing

MOST = 0.05


def test_a_refusal_shows_why_the_money_does_not_suffice():
    """It would say that a call may cost $0.0004, and $0.0004 is left."""
    assert "may cost $0.00044, and $0.00041 of" in Purse(Budget(0.00041)).refusal(0.00044)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.001, 2.0), max_size=5),  # when each process is killed; the last one ends by itself
    st.floats(0.3, 20.0),
    st.integers(1, 60),
    st.lists(st.floats(0.001, MOST), min_size=1, max_size=4),
    st.integers(0, 1_000),
)
def test_a_run_that_is_killed_and_continued_keeps_its_budget(kills, usd, at_once, costs, seed):
    """Each time a run is killed and continued, it would spend its budget anew, or what it had in flight twice.

    The run file counts what was in flight by estimates. Here these are right.
    """
    chance, billed = Random(seed), [0.0]

    async def spend(purse: Purse) -> None:
        while True:
            held = purse.take("kind", MOST) or await purse.reserve("kind", MOST)
            cost = chance.choice(costs)
            billed[0] += cost
            await asyncio.sleep(cost)
            purse.pay(cost)
            purse.release(held, cost)

    async def process(lasts: float | None) -> None:
        purse = Purse(usd)
        purse.go_on("run", billed[0])
        calls = [asyncio.create_task(spend(purse)) for _ in range(at_once)]
        done, going = await asyncio.wait(calls, timeout=lasts)
        assert all(isinstance(call.exception(), BudgetExceeded) for call in done)
        assert lasts is not None or not going
        for call in going:
            call.cancel()
        await asyncio.gather(*going, return_exceptions=True)

    async def main() -> None:
        for lasts in (*kills, None):
            await process(lasts)

    run_virtual(main())
    assert usd - MOST <= billed[0] <= usd * (1 + OVER)


def test_how_a_budget_stands():
    """The summary would say nothing of the budget, or something that is not so."""
    assert Purse(None).standing() is None
    purse = Purse(5.0)
    held = purse.take("kind", 6.0)
    assert held is None
    held = purse.take("kind", 1.0)
    assert held is not None
    assert purse.standing() == Standing("$5", 4.0, 0.02, 0.0, usd=5.0)
    purse.pay(0.25)
    purse.release(held, 0.25)
    assert purse.standing() == Standing("$5", 4.75, 0.02, 0.0, usd=5.0)
