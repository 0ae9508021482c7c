"""The bounded window of work under way."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing
from functools import partial
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout import CallError, Exited, Result
from flatout.edge.fan_out import AT_ONCE, fan_out, run_function
from flatout.testing import run_virtual


async def slow(index: int, item: float) -> tuple[int, float]:
    await asyncio.sleep(item)
    return index, item


def others() -> set[asyncio.Task]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 8))
def test_every_item_ends_exactly_once_and_never_more_than_the_window_at_once(delays, window):
    """Answers would be lost or doubled, or a run of a million rows fill the memory."""
    active = most = 0

    async def work(index: int, item: int) -> int:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(item)
        active -= 1
        return index

    async def main() -> list[int]:
        return [outcome async for outcome in fan_out(delays, work, window)]

    assert sorted(run_virtual(main())) == list(range(len(delays)))
    assert most == min(window, len(delays))


def test_outcomes_come_as_they_complete():
    """The first answer would wait for the slowest."""

    async def main() -> list[float]:
        return [item async for _, item in fan_out([3, 1, 2], slow, 10)]

    assert run_virtual(main()) == [1, 2, 3]


def test_an_endless_source_is_read_only_as_far_as_the_window():
    """A generator without an end would never give a result, or fill the memory."""
    pulled = 0

    def source():
        nonlocal pulled
        for pulled in count(1):  # noqa: B007 - the count is what is looked at
            yield 1.0

    async def main() -> None:
        taken = 0
        async with aclosing(fan_out(source(), slow, 10)) as outcomes:
            async for _ in outcomes:
                taken += 1
                assert pulled <= taken + 10
                if taken == 100:
                    break
        assert not others()

    run_virtual(main())
    assert 100 <= pulled <= 110


def test_a_slow_reader_slows_the_feed():
    """Results that nobody fetches yet would pile up without bound."""
    started = 0

    async def work(index: int, item: int) -> int:
        nonlocal started
        started += 1
        return index

    async def main() -> None:
        taken = 0
        async with aclosing(fan_out(range(1_000), work, 5)) as outcomes:
            async for _ in outcomes:
                taken += 1
                await asyncio.sleep(10)
                assert started <= taken + 5
                if taken == 20:
                    return

    run_virtual(main())


def test_leaving_early_cancels_and_awaits_what_is_under_way():
    """Work would go on, and cost, after the loop that wanted it was left."""
    ended = []

    async def work(index: int, item: float) -> int:
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            await asyncio.sleep(1)  # a cleanup takes its time
            ended.append(index)
            raise
        return index

    async def main() -> None:
        async with aclosing(fan_out([1, 50, 60, 70], work, 10)) as outcomes:
            async for _ in outcomes:
                break
        assert sorted(ended) == [1, 2, 3]
        assert not others()

    run_virtual(main())


def test_a_plain_break_ends_the_work_too():
    """Those who do not know aclosing would pay for what they never see."""

    async def main() -> int:
        async for _ in fan_out([1, 50, 60], slow, 10):
            break
        gc.collect()
        await asyncio.sleep(0.01)
        return len(others())

    assert run_virtual(main()) == 0


def test_an_error_of_the_source_comes_after_the_outcomes_of_what_was_started():
    """A broken line in a file would throw away the answers to all lines before it."""

    def source():
        yield 1.0
        yield 2.0
        raise OSError("disk")

    async def main() -> None:
        seen = []

        async def read() -> None:
            async for index, _ in fan_out(source(), slow, 10):
                seen.append(index)

        with pytest.raises(OSError, match="disk"):
            await read()
        assert seen == [0, 1]
        assert not others()

    run_virtual(main())


def test_a_source_that_fails_at_once_leaves_nothing_behind():
    """'Task exception was never retrieved' would be printed at some later time."""

    def source():
        raise OSError("disk")
        yield

    async def main() -> None:
        with pytest.raises(OSError, match="disk"):
            await anext(fan_out(source(), slow, 10))
        outcomes = fan_out(source(), slow, 10)
        await outcomes.aclose()
        gc.collect()

    run_virtual(main())


def test_what_the_work_raises_ends_the_loop_and_the_rest():
    """A mistake inside flatout would be swallowed, with the item it belongs to."""

    async def work(index: int, item: float) -> int:
        await asyncio.sleep(item)
        if index == 1:
            raise RuntimeError("bug")
        return index

    async def main() -> None:
        outcomes = fan_out([1, 2, 50], work, 10)
        assert await anext(outcomes) == 0
        with pytest.raises(RuntimeError, match="bug"):
            await anext(outcomes)
        assert not others()

    run_virtual(main())


def test_an_async_source_is_waited_for():
    """Rows from a queue or a socket could not be streamed in."""

    async def source():
        for item in (1.0, 2.0, 3.0):
            await asyncio.sleep(5)
            yield item

    async def main() -> list[int]:
        return [index async for index, _ in fan_out(source(), slow, 2)]

    assert run_virtual(main()) == [0, 1, 2]


def test_cancelling_the_reader_cancels_the_work():
    """Ctrl-C, or a timeout around the loop, would leave requests running."""

    async def main() -> None:
        async def read() -> None:
            async for _ in fan_out([50.0] * 5, slow, 10):
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(1)
        assert len(others()) > 5
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not others()

    run_virtual(main())


def test_nothing_in_nothing_out():
    """An empty file would hang."""

    async def main() -> list[object]:
        return [outcome async for outcome in fan_out([], slow, 1)]

    assert run_virtual(main()) == []


def test_what_was_cancelled_within_a_function_fails_its_item_alone():
    """One item that awaits a cancelled task would end the whole map, and cost every other item its result."""

    async def function(item: int, client: object) -> int:
        if item == 1:
            task = asyncio.create_task(asyncio.sleep(9))
            task.cancel()
            await task
        return item

    async def main() -> list[Result]:
        return [result async for result in fan_out(range(3), partial(run_function, function, None), 3)]

    results = sorted(run_virtual(main()), key=lambda result: result.index)
    assert [result.output for result in results] == [0, None, 2]
    assert isinstance(results[1].error, CallError)
    assert str(results[1].error).startswith("cancelled: ")


def test_a_real_cancellation_of_a_function_is_not_swallowed():
    """A run that is to end would go on."""

    async def function(item: int, client: object) -> None:
        await asyncio.sleep(9)

    async def main() -> bool:
        task = asyncio.create_task(run_function(function, None, 0, 0))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run_virtual(main())


def test_a_wide_window_is_filled_in_many_turns_of_the_loop():
    """Calls that a limiter lets go meanwhile would be sent a second late, in a heap that no limit bears."""
    begun: list[int] = []
    turn = 0

    async def work(index: int, item: int) -> None:
        begun.append(turn)
        await asyncio.sleep(1.0)

    async def main() -> None:
        nonlocal turn
        async with aclosing(fan_out(range(1_000), work, 1_000)) as outcomes:
            first = asyncio.ensure_future(anext(outcomes))
            while not first.done():
                turn += 1
                await asyncio.sleep(0)

    run_virtual(main())
    assert len(begun) == 1_000
    assert max(begun.count(each) for each in set(begun)) <= AT_ONCE


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["function", "source"])
def test_who_ends_the_program_ends_it_behind_what_is_under_way(kind, where):
    """One sys.exit() would throw away the answers of all that are on their way, and paid for."""
    results: list[Result] = []

    def source():
        yield from range(6)
        if where == "source":
            raise kind(3)
        yield from count(6)

    async def function(item: int, client: None) -> int:
        await asyncio.sleep(10 - item)
        if where == "function" and item == 5:
            raise kind(3)
        return item

    async def collect() -> None:
        async for result in fan_out(source(), partial(run_function, function, None), 6):
            results.append(result)

    async def main() -> None:
        with pytest.raises(kind) as caught:
            await collect()
        assert caught.value.args == (3,)
        assert not others()

    run_virtual(main())
    assert sorted(result.index for result in results) == list(range(6))
    assert [result.index for result in results if not result.ok] == ([5] if where == "function" else [])
    if where == "function":
        assert str(results[0].error) == f"the program was asked to end: {kind.__name__}: 3"
        assert isinstance(results[0].error, Exited)
