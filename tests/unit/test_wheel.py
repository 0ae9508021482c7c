"""Timeouts that share timers: each comes in its time, and none is left behind."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.tasks.patience import Patience
from flatout.tasks.wheel import wheel_of
from flatout.testing import run_virtual

SECONDS = st.floats(0.01, 200.0)


async def ends_by(scope: Patience, takes: float) -> tuple[bool, float]:
    """Whether a timeout ended some work, and when the work ended."""
    loop = asyncio.get_running_loop()
    try:
        with scope:
            await asyncio.sleep(takes)
    except TimeoutError:
        return True, loop.time()
    return False, loop.time()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=40))
def test_each_ends_as_its_own_timer_would_have_ended_it(jobs):
    """Among others, a call would be ended in another's time, or never."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ended = await asyncio.gather(*(ends_by(Patience(bound), takes) for bound, takes in jobs))
        for (bound, takes), (expired, at) in zip(jobs, ended, strict=True):
            assert min(bound, takes) - 0.001 <= at <= min(bound, takes) + 0.001
            if abs(bound - takes) > 0.001:
                assert expired == (bound < takes)
        assert repr(wheel_of(loop)) == "Wheel(0 timers in 0 slots)"

    run_virtual(main())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 90.0), min_size=1, max_size=10), st.floats(0.5, 60.0))
def test_a_timeout_that_is_moved_comes_after_the_last_move(gaps, bound):
    """A stream would be cut while it still comes, or a silent one be waited for for ever."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        last = 0.0
        try:
            with Patience(bound) as scope:
                for gap in gaps:
                    await asyncio.sleep(gap)
                    last = loop.time()
                    scope.reschedule(last + bound)
                await asyncio.sleep(1_000.0)
        except TimeoutError:
            pass
        assert last + bound - 0.001 <= loop.time() <= last + bound + 0.001

    run_virtual(main())


def test_a_timeout_may_be_moved_to_an_earlier_time():
    """An answer that is complete would be waited for as long as one that is not."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for at in (5.0, 50.0):
            began = loop.time()
            try:
                with Patience(began + 300.0) as scope:
                    scope.reschedule(began + at)
                    await asyncio.sleep(400.0)
            except TimeoutError:
                assert at <= loop.time() - began <= at + 0.001
            else:
                raise AssertionError("it was not ended")

    run_virtual(main())


def test_a_thousand_far_timeouts_take_a_few_timers():
    """Each call would pay for two timers in a heap that is compared in Python."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(ends_by(Patience(600.0 + n / 1_000), 10.0)) for n in range(1_000)]
        await asyncio.sleep(1.0)
        assert len(wheel_of(loop)._slots) <= 5
        await asyncio.gather(*tasks)
        assert repr(wheel_of(loop)) == "Wheel(0 timers in 0 slots)"

    run_virtual(main())


def test_a_timeout_may_be_as_long_as_a_float_can_be():
    """A call with an absurd deadline would fail with an OverflowError, which is no error of a call."""

    async def main() -> tuple[bool, float]:
        return await ends_by(Patience(1e308), 1.0)

    expired, _ = run_virtual(main())
    assert not expired
