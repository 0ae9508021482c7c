"""The bound over all answers in memory."""

from __future__ import annotations

import asyncio
import random

import pytest

from flatout.testing import run_virtual
from flatout.transports.room import Room


async def read(room: Room, pieces: int, size: int, high: list[int]) -> None:
    """An answer that comes in pieces, and is done with at its end."""
    with room.share() as share:
        for _ in range(pieces):
            await asyncio.sleep(random.random())
            go_on = share.add(size)
            high.append(room._held)
            if not go_on:
                await share.turn()
        await asyncio.sleep(0.1)


def test_all_answers_end_and_together_stay_below_the_bound():
    """A thousand large answers at once would fill the memory, or wait for each other for ever."""
    high: list[int] = []

    async def main() -> None:
        room = Room(1_000)
        await asyncio.gather(*(read(room, 50, 10, high) for _ in range(200)))
        assert room._held == 0
        assert not room._waiting

    run_virtual(main())
    # The bound, a last piece of each, and the whole of the one that goes on.
    assert max(high) <= 1_000 + 200 * 10 + 500
    assert sum(held > 1_000 for held in high) > 100  # else it was not tried


def test_answers_within_the_bound_wait_for_nothing():
    """Every answer would come after the one before."""

    async def main() -> None:
        room = Room(10_000)
        with room.share() as first, room.share() as second:
            assert first.add(5_000)
            assert second.add(5_000)
            assert not second.add(1)
            assert first.add(1)  # the one that began first goes on

    run_virtual(main())


def test_an_answer_that_waits_for_its_own_reader_holds_up_no_other():
    """One slow client of a gateway would stop the answers of all others, once the memory for them is full."""

    async def main() -> None:
        room = Room(1_000)
        with room.share() as slow, room.share() as second, room.share() as third:
            slow.add(1_001)
            assert not second.add(1)
            waits = asyncio.ensure_future(second.turn())
            await asyncio.sleep(1.0)
            assert not waits.done()
            with slow.resting():
                await waits
                assert not third.add(1)
            assert second.add(1)
            assert not slow.add(1)  # it has lost its place

    run_virtual(main())


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_an_answer_that_is_given_up_makes_room(how):
    """After some timeouts no large answer would be read any more."""

    async def hold(room: Room, ready: asyncio.Event) -> None:
        with room.share() as share:
            share.add(1_000)
            ready.set()
            await asyncio.sleep(5.0)
            raise OSError

    async def main() -> None:
        room, ready = Room(500), asyncio.Event()
        holder = asyncio.create_task(hold(room, ready))
        await ready.wait()
        waiting = [asyncio.create_task(read(room, 3, 100, [])) for _ in range(5)]
        await asyncio.sleep(2.0)
        waiting.pop().cancel()
        assert not any(task.done() for task in waiting)
        if how == "cancelled":
            holder.cancel()
        await asyncio.wait([holder])
        async with asyncio.timeout(10.0):
            await asyncio.gather(*waiting)
        assert "0 of 500 bytes, 0 answers, 0 waiting" in repr(room)

    run_virtual(main())
