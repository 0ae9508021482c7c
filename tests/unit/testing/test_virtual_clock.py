from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flatout.testing import Deadlocked, TimeLimitReached, VirtualLoop, run_virtual
from flatout.testing import _clock as clock_module
from flatout.testing._clock import EPOCH

watched = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux tells what a thread does")


def compute(seconds: float) -> str:
    """Keep a processor at work for so many seconds of its time, however long that takes."""
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass
    return "done"


def test_an_hour_of_sleep_takes_no_time():
    """Tests of slow things would be slow."""

    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert 3600 <= run_virtual(main()) < 3600.001
    assert time.monotonic() - began < 3600 / 100


def test_timers_fire_in_their_order_at_their_times():
    """Events in a simulation would happen in the wrong order."""

    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[str, float]] = []

        def note(name: str) -> None:
            seen.append((name, round(loop.time(), 3)))

        loop.call_later(30, note, "later")
        loop.call_at(loop.time() + 10, note, "at")
        cancelled = loop.call_later(20, note, "never")
        cancelled.cancel()
        await asyncio.sleep(20)
        note("sleep")
        await asyncio.sleep(20)
        return seen

    assert run_virtual(main()) == [("at", 10), ("sleep", 20), ("later", 30)]


def test_a_timeout_ends_what_never_ends():
    """A hanging provider could not be tested."""

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert 600 <= run_virtual(main()) < 600.01


def test_a_busy_loop_sees_time_pass():
    """A task that polls the clock would spin for ever."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        until, turns = loop.time() + 0.001, 0
        while loop.time() < until:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 100

    run_virtual(main())


def test_time_advances_where_floats_are_coarse():
    """A run with a large start would spin for ever on a timer too short for its clock."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            await asyncio.sleep(1e-9)
        return loop.time()

    assert run_virtual(main(), start=1e12) > 1e12


def test_a_thread_is_waited_for_and_takes_no_virtual_time():
    """Code that writes files in a thread would look like a deadlock, or time out at once."""

    async def main() -> tuple[str, float]:
        release = threading.Event()
        threading.Timer(0.02, release.set).start()

        def work() -> str:
            release.wait(5)
            return "done"

        async with asyncio.timeout(0.001):
            answer = await asyncio.to_thread(work)
        return answer, asyncio.get_running_loop().time()

    answer, now = run_virtual(main())
    assert answer == "done"
    assert now < 0.001


def test_a_run_is_the_same_however_long_its_threads_take():
    """On a busy machine a seed would give another run, and a failure that was seen once could not be looked into."""

    def waited(seconds: float) -> tuple[list[str], float]:
        """A thread waits for something elsewhere."""
        release = threading.Event()
        threading.Timer(seconds, release.set).start()
        return order(release.wait, 5)

    assert waited(0.0) == waited(0.6)


@watched
def test_a_run_is_the_same_however_long_its_threads_compute(monkeypatch):
    """A forecast that is computed in a thread would come before or behind the rest, as the machine has time for it."""
    monkeypatch.setattr(clock_module, "IDLE", 0.3)
    assert order(compute, 0.0) == order(compute, 0.5)


def order(work: Callable[..., object], *args: object) -> tuple[list[str], float]:
    """What is seen in which order, and the time at the end, while a thread does its work."""

    async def main() -> tuple[list[str], float]:
        seen = []

        async def tick() -> None:
            for _ in range(100):
                await asyncio.sleep(0)
                seen.append("tick")

        ticking = asyncio.create_task(tick())
        await asyncio.to_thread(work, *args)
        seen.append("thread")
        await ticking
        return seen, asyncio.get_running_loop().time()

    return run_virtual(main())


@pytest.mark.parametrize("pause", [0.0005, None], ids=["sleeps", "spins"])
def test_a_thread_may_poll_for_what_the_loop_does(pause, monkeypatch):
    """The loop would wait for the thread and the thread for the loop, for ever."""
    monkeypatch.setattr(clock_module, "IDLE", 0.05)
    monkeypatch.setattr(clock_module, "TIRING", 0.2)
    done = threading.Event()

    def poll() -> bool:
        ends = time.thread_time() + 1.5
        while not done.is_set() and time.thread_time() < ends:
            if pause is not None:
                time.sleep(pause)
        return done.is_set()

    assert run_virtual(beside(poll, done))


def test_a_thread_may_wait_for_what_the_loop_does(monkeypatch):
    """Each such thread would cost half a minute."""
    monkeypatch.setattr(clock_module, "IDLE", 0.02)
    done = threading.Event()
    assert run_virtual(beside(lambda: done.wait(10), done))


async def beside(work: Callable[[], bool], done: threading.Event) -> bool:
    """What a thread finds, while the loop has something ready for it."""

    async def end() -> None:
        done.set()

    ending = asyncio.create_task(end())
    found = await asyncio.to_thread(work)
    await ending
    return found


def test_a_thread_may_ask_something_of_the_loop():
    """Both would wait for each other until the patience of the clock is at its end."""

    async def main() -> str:
        loop = asyncio.get_running_loop()

        async def answer() -> str:
            await asyncio.sleep(0)
            return "answered"

        return await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(answer(), loop).result(5))

    assert run_virtual(main()) == "answered"


def test_time_goes_on_after_a_thread():
    """One use of a thread would stop the clock for the rest of the run."""

    async def main() -> float:
        await asyncio.gather(*(asyncio.to_thread(int) for _ in range(10)))
        await asyncio.sleep(100)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) >= 100


def test_a_thread_that_never_ends_is_an_error(monkeypatch):
    """A test run would hang without a word, if only another thread of the program has something to do."""
    monkeypatch.setattr(clock_module, "IDLE", 0.02)
    monkeypatch.setattr(clock_module, "PATIENCE", 0.02)
    release = threading.Event()

    def work_elsewhere() -> None:
        while not release.is_set():
            pass

    async def main() -> None:
        threading.Thread(target=work_elsewhere).start()
        try:
            await asyncio.to_thread(release.wait, 10)
        finally:
            release.set()

    with pytest.raises(Deadlocked, match="thread"):
        run_virtual(main())


@watched
@pytest.mark.parametrize("own", [True, False], ids=["of the loop", "of the program"])
def test_a_thread_that_works_for_long_is_no_error(own, monkeypatch):
    """On a busy machine a forecast that is computed in a thread would look like a deadlock."""
    monkeypatch.setattr(clock_module, "IDLE", 0.0)
    monkeypatch.setattr(clock_module, "PATIENCE", 0.3)

    async def main() -> str:
        with ThreadPoolExecutor() as threads:
            return await asyncio.get_running_loop().run_in_executor(None if own else threads, compute, 0.5)

    assert run_virtual(main()) == "done"


def test_a_deadlock_is_an_error_that_names_the_tasks():
    """A test run would hang, and nobody would know where."""

    async def stuck_here() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(stuck_here(), name="the culprit")

    with pytest.raises(Deadlocked, match=r"the culprit \(stuck_here, line \d+\)"):
        run_virtual(main())


def test_too_much_virtual_time_is_an_error():
    """A retry loop without an end would run for ever."""

    async def main() -> None:
        for _ in itertools.count():
            await asyncio.sleep(1)

    with pytest.raises(TimeLimitReached):
        run_virtual(main(), limit=1000)


def test_cleanup_still_runs_after_the_time_limit():
    """What a test opened would stay open when it takes too long."""
    closed = []

    async def main() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(1)
            closed.append(True)

    with pytest.raises(TimeLimitReached):
        run_virtual(main(), limit=10)
    assert closed


def test_the_wall_clock_follows_the_virtual_one():
    """Headers that tell a time of day could not be tested."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        await asyncio.sleep(90)
        return loop.wall_time()

    assert run_virtual(main(), start=10) == pytest.approx(EPOCH + 100, abs=0.01)


def test_the_seed_makes_chance_repeatable_and_is_contained():
    """A failing run could not be repeated, or a test would disturb the next one's random numbers."""

    async def main() -> float:
        return random.random()

    before = random.getstate()
    first, second, other = run_virtual(main(), seed=1), run_virtual(main(), seed=1), run_virtual(main(), seed=2)
    assert first == second != other
    assert random.getstate() == before


def test_an_error_in_main_comes_out():
    """A failing test would pass."""

    async def main() -> None:
        await asyncio.sleep(5)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run_virtual(main())
