"""The one timer of a queue."""

from __future__ import annotations

import asyncio
import math

import pytest

from flatout.admission.alarm import Alarm
from flatout.testing import run_virtual


@pytest.mark.parametrize(
    ("times", "rings"),
    [([1.0], [1.0]), ([1.0, 2.0], [2.0]), ([2.0, 1.0], [1.0]), ([1.0, 1.0], [1.0]), ([1.0, math.inf], [])],
)
def test_it_rings_once_at_the_time_that_was_set_last(times, rings):
    """Calls would go before their time, or a thousand timers wake a queue whose limit rose a thousand times."""

    async def main() -> list[float]:
        loop, heard, alarm = asyncio.get_running_loop(), [], Alarm()
        began = loop.time()
        for at in times:
            alarm.set(began + at, loop, lambda: heard.append(loop.time() - began))
        await asyncio.sleep(5.0)
        return heard

    assert run_virtual(main()) == pytest.approx(rings)


def test_it_can_be_set_again_when_it_rings():
    """A queue would let go what may go now, and sleep for ever."""

    async def main() -> int:
        loop, heard, alarm = asyncio.get_running_loop(), [], Alarm()

        def ring(left: int) -> None:
            heard.append(left)
            if left:
                alarm.set(loop.time() + 1.0, loop, ring, left - 1)

        alarm.set(loop.time() + 1.0, loop, ring, 3)
        await asyncio.sleep(10.0)
        return len(heard)

    assert run_virtual(main()) == 4
