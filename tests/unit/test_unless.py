"""What a task waits for is given up if it is needless, and never what may have arrived."""

from __future__ import annotations

import asyncio

import pytest

from flatout.journey import Attempt
from flatout.tasks.unless import Unless
from flatout.testing import run_virtual


async def waits(unless: Unless, ends: list[str]) -> str:
    with unless:
        try:
            await asyncio.sleep(10)
            return "waited"
        finally:
            ends.append("cleaned up")
    return "left"


def test_a_wait_is_given_up_once_and_the_task_goes_on():
    """A call would be asked although its answer is known, or end with an error that nobody can explain."""

    async def main() -> None:
        ends: list[str] = []
        unless = Unless(Attempt())
        task = asyncio.create_task(waits(unless, ends))
        await asyncio.sleep(1)
        unless.leave()
        unless.leave()
        assert await task == "left"
        assert ends == ["cleaned up"]
        assert task.cancelling() == 0
        unless.leave()  # too late: it must not cancel what the task does next

    run_virtual(main())


def test_what_may_have_arrived_is_waited_for():
    """An answer would be paid for and thrown away."""

    async def main() -> None:
        unless = Unless(Attempt(in_flight=True))
        task = asyncio.create_task(waits(unless, []))
        await asyncio.sleep(1)
        unless.leave()
        assert await task == "waited"

    run_virtual(main())


@pytest.mark.parametrize("first", ["the user", "the cache"])
def test_a_cancellation_from_outside_wins(first):
    """A call that the user cancelled at that moment would go on, and its deadline would not end it."""

    async def main() -> None:
        unless = Unless(Attempt())
        task = asyncio.create_task(waits(unless, []))
        await asyncio.sleep(1)
        for end in (task.cancel, unless.leave) if first == "the user" else (unless.leave, task.cancel):
            end()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtual(main())


def test_an_error_inside_stays_what_it_is():
    """The reason why a call failed would be lost."""

    async def fails(unless: Unless) -> None:
        with unless:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                raise ValueError("no") from None

    async def main() -> None:
        unless = Unless(Attempt())
        task = asyncio.create_task(fails(unless))
        await asyncio.sleep(1)
        unless.leave()
        with pytest.raises(ValueError, match="no"):
            await task
        assert task.cancelling() == 0

    run_virtual(main())
