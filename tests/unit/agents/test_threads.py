"""Plain tools run in threads of their own, each with its own time."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from flatout.agents import _threads as module
from flatout.agents import tool
from flatout.agents._threads import Threads
from flatout.testing import run_virtual


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> Threads:
    """A single thread for all tools."""
    made = Threads(1)
    monkeypatch.setattr(sys.modules["flatout.agents._tool"], "threads", made)
    return made


def test_the_plain_tools_of_a_turn_run_at_once():
    """Forty tools that wait for something would wait for each other, in the few threads that look up hosts as well."""
    together = threading.Barrier(40, timeout=10)

    @tool
    def meet() -> int:
        """Meets the others."""
        return together.wait()

    async def main() -> list[Any]:
        return await asyncio.gather(*(meet.run({}) for _ in range(40)))

    assert sorted(int(result.content) for result in asyncio.run(main())) == list(range(40))


def test_a_tools_time_begins_when_the_tool_begins(one: Threads):
    """The model would be told that a tool took too long which never began."""

    @tool(timeout=1)
    def quick() -> str:
        """Is quick."""
        return "done"

    async def main() -> Any:
        assert await one.take()
        waiting = asyncio.create_task(quick.run({}))
        await asyncio.sleep(100)
        assert not waiting.done()
        assert repr(one) == "Threads(1 of 1 taken, 0 given up, 1 waiting)"
        assert await one.run(lambda: "first") == "first"
        return await waiting

    result = run_virtual(main())
    assert (result.content, result.failed) == ("done", False)
    assert repr(one) == "Threads(0 of 1 taken, 0 given up, 0 waiting)"


def test_a_tool_that_does_not_end_holds_nothing_up(one: Threads):
    """Every tool after it would wait for ever, and so would the program's end."""
    end = threading.Event()

    @tool
    def hang() -> bool:
        """Hangs."""
        assert threading.current_thread().daemon
        loop.call_soon_threadsafe(begun.set)
        return end.wait(10)

    loop, begun = asyncio.new_event_loop(), asyncio.Event()

    async def main() -> tuple[Any, Any]:
        hanging = asyncio.create_task(hang.run({}))
        await begun.wait()
        waiting = asyncio.create_task(hang.run({}))
        await asyncio.sleep(0)
        hanging.cancel()  # as its timeout does
        with pytest.raises(asyncio.CancelledError):
            await hanging
        told = await waiting, await hang.run({})
        free = asyncio.create_task(_until(lambda: "0 of 1" in repr(one)))
        end.set()
        await free
        assert (await hang.run({})).content == "true"
        return told

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        told_of = runner.run(main())
    for told in told_of:
        assert told.failed
        assert "not run: all threads for tools are held" in told.content


async def _until(true: Callable[[], bool]) -> None:
    """Wait for what a thread does, which no event of the loop tells."""
    while not true():  # noqa: ASYNC110  # see above
        await asyncio.sleep(0)


def test_who_waits_no_longer_takes_no_thread(one: Threads):
    """Each run that was stopped would take a thread with it, until there is none."""

    async def main() -> None:
        assert await one.take()
        waiting = [asyncio.create_task(one.take()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        one._end(module._Job(int))  # a thread may tell it at any time
        waiting[1].cancel()  # at the very moment at which the thread is its own
        await asyncio.gather(*waiting, return_exceptions=True)

    run_virtual(main())
    assert repr(one) == "Threads(0 of 1 taken, 0 given up, 0 waiting)"


def test_who_was_told_that_there_is_none_gives_none_back(one: Threads):
    """There would seem to be one more than there is, and a tool would wait in it for what never ends."""
    begun, end = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        end.wait(10)

    async def main() -> None:
        assert await one.take()
        hanging = asyncio.create_task(one.run(hang))
        waiting = asyncio.create_task(one.take())
        await _until(begun.is_set)
        hanging.cancel()
        await asyncio.sleep(0)
        waiting.cancel()  # at the very moment at which it hears
        await asyncio.gather(hanging, waiting, return_exceptions=True)
        held = repr(one)
        end.set()
        await _until(lambda: "0 given up" in repr(one))
        assert held == "Threads(1 of 1 taken, 1 given up, 0 waiting)"

    asyncio.run(main())
    assert repr(one) == "Threads(0 of 1 taken, 0 given up, 0 waiting)"


def test_a_tool_for_which_no_thread_can_be_started_never_runs(one: Threads, monkeypatch: pytest.MonkeyPatch):
    """The model would hear that it failed, ask again, and what it does be done twice."""
    done: list[int] = []

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refused)
            assert (await tool(order).run({"number": 1})).failed
        assert not (await tool(order).run({"number": 2})).failed
        await _until(lambda: "0 of 1" in repr(one))

    def order(number: int) -> None:
        """Orders something."""
        done.append(number)

    asyncio.run(main())
    assert done == [2]


def test_a_loop_that_has_ended_takes_no_thread(one: Threads):
    """Programs that run one loop after another would come to a standstill."""

    async def waits() -> None:
        await one.take()
        asyncio.create_task(one.take())  # noqa: RUF006  # it is given up on purpose
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(waits())
    left = asyncio.all_tasks(loop)
    loop.close()

    async def main() -> None:
        await one.run(int)

    run_virtual(main())
    assert repr(one) == "Threads(0 of 1 taken, 0 given up, 0 waiting)"
    for task in left:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("plain", [True, False])
def test_a_stop_iteration_is_an_error_like_any_other(plain: bool):
    """One ``next()`` too many would hang the tool, and with it the run, for ever."""

    def first() -> str:
        """First."""
        return next(iter([]))

    async def later() -> str:
        """Later."""
        return next(iter([]))

    told = run_virtual(tool(first if plain else later).run({}))
    assert told.failed
    assert "StopIteration" in told.content


def test_a_forked_process_begins_anew():
    """A child process would wait for threads that it does not have."""
    made = Threads(1)
    asyncio.run(made.take())
    made.forget()
    assert repr(made) == "Threads(0 of 1 taken, 0 given up, 0 waiting)"
    assert module.threads._most == module.MOST
