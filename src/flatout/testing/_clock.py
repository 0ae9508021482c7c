"""An event loop on virtual time: when nothing is left to do, the clock jumps to the next timer.

Hours of traffic run in seconds, and the same seed gives the same run. Everything in asyncio that waits by the loop's
clock works as in real time (`asyncio.sleep`, `asyncio.timeout`, ``call_later``, ``call_at``). Three things differ from
a real loop:

- Work in a thread (`asyncio.to_thread`, ``run_in_executor``) takes no virtual time: the clock stops until the thread is
  done. A thread that itself waits for a timer of the loop can never end; that is an error after `PATIENCE` real
  seconds in which it did nothing. Linux tells what a thread does; elsewhere all of its time counts as idle.
- Each turn of the loop takes `TICK`, so that a task which polls the clock with ``sleep(0)`` sees it move.
- Real sockets do not work on it: the clock would jump to the next timeout before a packet could arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import random
import selectors
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import Context
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar, TypeVarTuple

T = TypeVar("T")
ArgumentsT = TypeVarTuple("ArgumentsT")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""The wall-clock time, in Unix seconds, at which a virtual loop's clock reads 0."""

TICK = 1e-6
"""Virtual seconds that a turn of the loop takes if something is ready to run."""

IDLE = 1.0
"""Real seconds that a thread may do nothing before the loop goes on with what is ready: it may wait for that."""

PATIENCE = 30.0
"""Real seconds that a thread may do nothing while nothing is ready, before that is an error."""

TIRING = 0.1
"""The share of a thread's processor time that counts as doing nothing. So even one that spins for ever is given up."""

LIMIT = 86_400.0
"""The default limit of a run, in virtual seconds."""

_OWN = "virtual clock"  # how the names of a loop's own threads begin
_NAMED = 5  # tasks that a deadlock's message names


class Deadlocked(RuntimeError):
    """Every task waits for something that can never happen: there is no timer, no ready task and no thread."""


class TimeLimitReached(RuntimeError):
    """The run exceeded its ``limit`` of virtual seconds."""


def run_virtual(main: Coroutine[Any, Any, T], *, seed: int = 0, start: float = 0.0, limit: float = LIMIT) -> T:
    """Run a coroutine on an event loop with virtual time, and return its result.

    Args:
        main: the coroutine.
        seed: seeds the `random` module for the run; its state is restored afterwards.
        start: the first reading of the loop's clock, in seconds.
        limit: the most virtual seconds that the run may take.

    Raises:
        Deadlocked: nothing can ever happen again, or a thread did not end.
        TimeLimitReached: the next event lies beyond ``limit``.
    """
    with _seeded(seed), asyncio.Runner(loop_factory=lambda: VirtualLoop(start=start, limit=limit)) as runner:
        return runner.run(main)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop behind `run_virtual`, for programs that run it themselves (``asyncio.Runner(loop_factory=…)``)."""

    def __init__(self, *, start: float = 0.0, limit: float = LIMIT) -> None:
        self._virtual_now = start
        self._ends_at = start + limit
        self._threads = 0
        self._works: set[_Work[Any]] = set()  # by those of the threads that can be watched
        self._threads_of_its_own: ThreadPoolExecutor | None = None
        self._heard = threading.Event()  # from a thread of its own: it is done, or asks something of the loop
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """The virtual clock, in seconds."""
        return self._virtual_now

    def wall_time(self) -> float:
        """The virtual world's wall clock: Unix seconds, `EPOCH` when the loop's clock reads 0."""
        return EPOCH + self._virtual_now

    def block(self, seconds: float) -> None:
        """Let time pass while nothing else runs, as work in the loop does. ``time.sleep`` takes no virtual time."""
        self._move(seconds)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*ArgumentsT], T], *args: *ArgumentsT
    ) -> asyncio.Future[T]:
        """Run a function in a thread; the clock stops until it is done.

        For a thread of the loop's own, the whole loop stands still until it is done, asks something of the loop, or
        has done nothing for `IDLE` real seconds. What is ready meanwhile goes on behind it, in the same order every
        time, however slow the machine is.
        """
        work = _Work(func, args)
        if executor is None:
            self._heard.clear()
            submitted = self._own_threads().submit(work)
            submitted.add_done_callback(self._hear)
            _wait(self._heard.wait, {work}, IDLE)
            future = asyncio.wrap_future(submitted, loop=self)
        elif isinstance(executor, ThreadPoolExecutor):
            future = super().run_in_executor(executor, work)
        else:
            future = super().run_in_executor(executor, func, *args)  # perhaps in another process
        self.thread_begins()
        self._works.add(work)
        future.add_done_callback(functools.partial(self._work_done, work))
        return future

    def call_soon_threadsafe(
        self, callback: Callable[[*ArgumentsT], object], *args: *ArgumentsT, context: Context | None = None
    ) -> asyncio.Handle:
        """Call something from a thread. The loop goes on, if it waited for that thread."""
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        if threading.current_thread().name.startswith(_OWN):
            self._heard.set()
        return handle

    def thread_begins(self) -> None:
        """A thread begins to work for somebody on this loop: the clock stands still until `thread_ends`."""
        self._threads += 1

    def thread_ends(self) -> None:
        """A thread that worked for somebody on this loop is done."""
        self._threads -= 1

    async def shutdown_default_executor(self, *args: float | None) -> None:
        """Wait for the threads to end. That happens in real time and sets no timer."""
        self.thread_begins()
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self.thread_ends()

    def _own_threads(self) -> ThreadPoolExecutor:
        if self._threads_of_its_own is None:
            self._threads_of_its_own = ThreadPoolExecutor(thread_name_prefix=_OWN)
            self.set_default_executor(self._threads_of_its_own)
        return self._threads_of_its_own

    def _hear(self, _work: object) -> None:
        self._heard.set()

    def _work_done(self, work: _Work[Any], _future: asyncio.Future[Any]) -> None:
        self._works.remove(work)
        self.thread_ends()

    def _jump(self, timeout: float | None) -> None:
        if timeout is None:
            raise Deadlocked(self._deadlock())
        self._move(timeout)

    def _move(self, seconds: float) -> None:
        # A timeout can be too small to change a large clock; without a step forward the loop would spin for ever.
        self._virtual_now = max(self._virtual_now + seconds, math.nextafter(self._virtual_now, math.inf))
        if self._virtual_now > self._ends_at:
            self._ends_at = math.inf  # the cleanup of the tasks may still take its time
            raise TimeLimitReached(f"the run took more virtual time than its limit; the clock is at {self.time():g} s")

    def _deadlock(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        waiting = ", ".join(_whereabouts(task) for task in tasks[:_NAMED])
        more = f", and {len(tasks) - _NAMED} more" if len(tasks) > _NAMED else ""
        return (
            f"nothing can ever happen again at {self.time():g} s of virtual time: no timer is set, nothing is ready "
            f"and no thread is at work. Waiting: {waiting or 'no task'}{more}"
        )


class _JumpingSelector(selectors.DefaultSelector):
    """The selector in which an event loop waits; it makes the virtual clock jump instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self._loop
        if timeout is not None and timeout <= 0:
            loop._move(TICK)
            return super().select(0) if loop._threads else []  # skipping the system call in most turns
        events = _wait(super().select, loop._works, PATIENCE) if loop._threads else super().select(0)
        if events:
            return events
        if loop._threads:
            raise Deadlocked(
                f"a thread has done nothing for {PATIENCE:g} real seconds, while virtual time stands still for it. "
                "If it waits for something on the loop, it can never end"
            )
        loop._jump(timeout)
        return []


class _Work(Generic[T]):
    """A function's run in a thread. It knows its thread, so that the loop can see whether that is at work."""

    def __init__(self, func: Callable[..., T], args: tuple[Any, ...]) -> None:
        self._func = func
        self._args = args
        self.thread: int | None = None

    def __call__(self) -> T:
        self.thread = threading.get_native_id()
        return self._func(*self._args)


def _wait(wait: Callable[[float], T], works: Collection[_Work[Any]], patience: float) -> T:
    """Wait for something, or until every thread has done nothing for ``patience`` seconds in all.

    The sum counts, and not a single pause: a thread that polls for something sleeps most of the time, but never long.
    """
    began, here = time.monotonic(), threading.get_native_id()
    first: dict[int, tuple[float, float]] = {}
    pause = patience / 10
    while not (found := wait(pause)):
        now = {thread: _scheduled(thread) for thread in (here, *(work.thread for work in works)) if thread is not None}
        first = now | first
        since = {thread: (ran - first[thread][0], queued - first[thread][1]) for thread, (ran, queued) in now.items()}
        # When this thread wakes up, it takes the interpreter from the others before it has a processor.
        elapsed = time.monotonic() - began - since.pop(here)[1]
        idle = min((max(0.0, elapsed - ran - queued) + TIRING * ran for ran, queued in since.values()), default=elapsed)
        if idle >= patience:
            break
        pause = max(patience - idle, patience / 10)
    return found


def _scheduled(thread: int) -> tuple[float, float]:
    """The seconds in which a thread ran, and waited for a processor, in its life. Zeros where that cannot be known."""
    try:
        ran, queued, _ = Path(f"/proc/self/task/{thread}/schedstat").read_text(encoding="ascii").split()
    except OSError:
        return 0.0, 0.0
    return int(ran) / 1e9, int(queued) / 1e9


def _whereabouts(task: asyncio.Task[Any]) -> str:
    stack = task.get_stack(limit=1)
    place = f" ({stack[0].f_code.co_name}, line {stack[0].f_lineno})" if stack else ""
    return task.get_name() + place


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
