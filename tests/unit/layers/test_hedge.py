"""Second attempts that are sent beside a slow first one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flatout.journey import Journey, current_journey, set_journey
from flatout.layers.hedge import Hedge
from flatout.tasks.patience import Patience
from flatout.testing import run_virtual
from flatout.values import Call, Reply


class Lane:
    """A target whose attempts take some time, and some turns of the event loop to be cancelled."""

    stop = None

    def __init__(self, seconds: float, turns: int) -> None:
        self.seconds, self.turns = seconds, turns
        self.queue = self.service = self

    def take(self, call: Call, loop: Any) -> Any:
        return self

    def give_back(self, permit: Any) -> None:
        pass

    async def send(self, call: Call) -> Reply:
        journey = current_journey()
        journey.account.attempts += 1
        journey.attempt.in_flight = True
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            for _ in range(self.turns):
                await asyncio.sleep(0)
            raise
        finally:
            journey.attempt.in_flight = False
        return Reply(text="paid")


@pytest.mark.parametrize("turns", [0, 20])
def test_an_answer_is_not_lost_to_a_deadline_that_comes_while_the_slower_attempt_ends(turns: int) -> None:
    """It was paid for, and its caller would be told that there was none in time."""

    async def main() -> str | None:
        hedge, journey, loop = Hedge(1.0), Journey(0.0), asyncio.get_running_loop()
        set_journey(journey)
        for _ in range(40):  # so that it knows when a second attempt is due
            hedge._hedging.sent()
            hedge._hedging.observe(0.1)
        with Patience(loop.time() + 1.0, journey.attempt):
            return (await hedge(Call("x"), Lane(1.0, 0), [Lane(9.0, turns)])).text  # type: ignore[arg-type, list-item]

    assert run_virtual(main()) == "paid"
