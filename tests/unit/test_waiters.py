"""Tasks that wait for their turn."""

from __future__ import annotations

import asyncio

from flatout.tasks.waiters import Waiters
from flatout.testing import run_virtual


def test_the_first_that_waits_is_the_first_to_go():
    """Calls would overtake each other."""

    async def main() -> list[int]:
        waiters: Waiters[int] = Waiters()
        tasks = [asyncio.create_task(waiters.turn(print)) for _ in range(4)]
        await asyncio.sleep(0)
        assert waiters.wake_one(1)
        assert waiters.wake_one(2)
        waiters.wake_all(3)
        assert not waiters.wake_one(4)
        return await asyncio.gather(*tasks)

    assert run_virtual(main()) == [1, 2, 3, 3]


def test_a_turn_that_comes_to_a_cancelled_task_is_not_lost():
    """A connection would stay unused, or a group of calls wait for ever."""

    async def main() -> None:
        waiters: Waiters[int] = Waiters()
        missed: list[int] = []
        first, second, third = (asyncio.create_task(waiters.turn(missed.append)) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()  # before its turn
        await asyncio.wait([first])
        assert waiters.wake_one(1)
        second.cancel()  # with its turn
        await asyncio.wait([second])
        assert missed == [1]
        assert waiters.wake_one(2)
        assert await third == 2

    run_virtual(main())
