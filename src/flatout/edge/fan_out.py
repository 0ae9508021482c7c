"""Works on a bounded number of items at once, and yields their outcomes as they complete.

An item is read from the input only when the window has room for it. So a source of a million items, or an endless one,
needs no more memory than the window. Outcomes that have not been fetched count too: a slow consumer slows the input.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from flatout.errors import CallError, ConfigError, Exited
from flatout.journey import Journey, current_journey, set_journey
from flatout.tasks.closing import reading
from flatout.values import Call, CallLike, Reply, Result
from flatout.values.result import make_result, small_call, small_waits

AT_ONCE = 50
"""Items begun in one turn of the event loop.

To begin a window of thousands takes a second. If that were one turn, calls admitted meanwhile would all be sent after
it, in one burst past the limit.
"""

ItemT = TypeVar("ItemT")
OutcomeT = TypeVar("OutcomeT")
ClientT = TypeVar("ClientT")


class Flow:
    """What a `fan_out` is doing, for those who record it. It costs an item nothing.

    Args:
        functions: whether users' functions run for the items. They may work by themselves, beside their calls.

    Attributes:
        functions: the same.
        at_end: whether the input was read to its end, although items that are asked again may still come.
    """

    __slots__ = ("_pool", "at_end", "functions")

    def __init__(self, *, functions: bool = False) -> None:
        self.functions = functions
        self.at_end = False
        self._pool: _Workers[Any] | None = None

    def _follow(self, pool: _Workers[Any]) -> None:
        self._pool = pool

    @property
    def running(self) -> int:
        """How many items are in progress."""
        return 0 if self._pool is None else len(self._pool.running)

    @property
    def hungry(self) -> bool:
        """Whether there is room for another item, and the input has not given it yet."""
        return self._pool is not None and self._pool.hungry and not self.at_end


async def fan_out(
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    work: Callable[[int, ItemT], Coroutine[Any, Any, OutcomeT]],
    window: int | Callable[[], int],
    flow: Flow | None = None,
) -> AsyncGenerator[OutcomeT, None]:
    """Run ``work(index, item)`` for every item, at most ``window`` at once, and yield outcomes as they complete.

    A function as ``window`` is asked anew for every item: the window may change meanwhile. ``flow`` tells what goes on.

    ``work`` turns failures into outcomes. If it raises all the same, the error is raised here. An error of the source
    is raised after the outcomes of all started items. So is a SystemExit in an outcome (`Exited`); from then on nothing
    is started. Closing the generator, by leaving the loop early, cancels and awaits the items in progress, and closes a
    source that is an async generator.
    """
    pool: _Workers[OutcomeT] = _Workers(window)
    if flow is not None:
        flow._follow(pool)
    feeder = asyncio.ensure_future(pool.feed(items, work))
    feeder.add_done_callback(lambda _: pool.wake())
    try:
        while True:
            while pool.done:
                task = pool.done.popleft()
                pool.make_room()
                ended = task.result()
                if (leaving := exit_of(ended)) is not None:
                    pool.leaving = pool.leaving or leaving
                    feeder.cancel()
                yield ended
            if feeder.done() and not pool.running:
                if not pool.done:
                    if pool.leaving is not None:
                        raise pool.leaving
                    feeder.result()
                    return
                continue
            await pool.something()
    finally:
        feeder.cancel()
        for task in pool.running:
            task.cancel()
        # Including the finished ones: if several failed at once, asyncio would report the errors that nobody retrieved.
        await asyncio.gather(feeder, *pool.running, *pool.done, return_exceptions=True)


class _Workers(Generic[OutcomeT]):
    """The running and the finished tasks, the feeder that waits for room and the consumer that waits for outcomes.

    Attributes:
        leaving: the exception that ends the program, once everything in progress has ended.
    """

    def __init__(self, window: int | Callable[[], int]) -> None:
        self.leaving: BaseException | None = None
        self.running: set[asyncio.Task[OutcomeT]] = set()
        self.done: deque[asyncio.Task[OutcomeT]] = deque()
        self._window: Callable[[], int] = window if callable(window) else lambda: window
        self._consumer: asyncio.Future[None] | None = None
        self._feeder: asyncio.Future[None] | None = None
        self._reads = False

    @property
    def hungry(self) -> bool:
        """Whether the feeder waits for the input."""
        return self._reads and (self._feeder is None or self._feeder.done())

    async def feed(
        self,
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        work: Callable[[int, ItemT], Coroutine[Any, Any, OutcomeT]],
    ) -> None:
        loop = asyncio.get_running_loop()
        finished, context = self._finished, copy_context()  # one for all: else each task makes its own
        index, self._reads = 0, True
        try:
            async with reading(items) as source:
                async for item in source:
                    while len(self.running) + len(self.done) >= self._window():
                        self._feeder = loop.create_future()
                        await self._feeder
                    task = loop.create_task(work(index, item))
                    self.running.add(task)
                    task.add_done_callback(finished, context=context)
                    index += 1
                    if index % AT_ONCE == 0:
                        await asyncio.sleep(0)
        except (SystemExit, KeyboardInterrupt) as leaving:  # raised by the source; leaving the task, it ends the loop
            self.leaving = leaving
        finally:
            self._reads = False

    async def something(self) -> None:
        """Wait until there is an outcome, or the input has ended."""
        self._consumer = asyncio.get_running_loop().create_future()
        await self._consumer

    def wake(self) -> None:
        """Wake the consumer."""
        if self._consumer is not None and not self._consumer.done():
            self._consumer.set_result(None)

    def make_room(self) -> None:
        """Wake the feeder."""
        if self._feeder is not None and not self._feeder.done():
            self._feeder.set_result(None)

    def _finished(self, task: asyncio.Task[OutcomeT]) -> None:
        self.running.discard(task)
        self.done.append(task)
        self.wake()


def outcome(
    index: int,
    journey: Journey,
    *,
    call: Call | None = None,
    given: CallLike | None = None,
    item: Any = None,
    reply: Reply | None = None,
    output: Any = None,
    error: Exception | None = None,
) -> Result[Any]:
    """The result of a call or an item that has just ended, with everything that its journey collected.

    ``given`` is the value from which the call was made.
    """
    return make_result(
        index=index,
        id=call.id if call is not None else None,
        call=call if call is None or given is None else small_call(given, call),
        item=item,
        reply=reply,
        output=output,
        error=error,
        attempts=journey.attempts,
        cost=journey.cost,
        elapsed=asyncio.get_running_loop().time() - journey.started,
        provider_seconds=journey.attempt.seconds,
        waits=small_waits(journey.waits),
        trail=journey.trail,
    )


def as_error(caught: BaseException) -> Exception:
    """An exception as a result's error. A SystemExit that leaves a task would end the loop and all other tasks."""
    if isinstance(caught, Exception):
        return caught
    words = f"{type(caught).__name__}: {caught}".rstrip(": ")
    return Exited(f"the program was asked to end: {words}", exit=caught)


def exit_of(outcome: object) -> BaseException | None:
    """The SystemExit or KeyboardInterrupt in an outcome, if there is one."""
    error = getattr(outcome, "error", None)
    return error.exit if isinstance(error, Exited) else None


def unless_exit(result: Result[Any]) -> Result[Any]:
    """The result, for a caller with no other items to wait for. A SystemExit in it is raised at once."""
    if (leaving := exit_of(result)) is not None:
        raise leaving
    return result


@contextmanager
def cancelled_alone() -> Iterator[None]:
    """Within the block, another task's cancellation is an ordinary failure. This task's own passes through.

    Awaiting a cancelled task raises CancelledError in the awaiter, even if the awaiter itself was not cancelled.

    Raises:
        CallError: in place of a CancelledError that was not meant for this task.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise CallError("cancelled: something that the function waited for was cancelled") from error


class _NotAsync(Exception):
    """A user's function returned something that cannot be awaited."""


def check_function(function: Callable[..., object]) -> None:
    """Refuse a function that could run for no item, before any item is read.

    Raises:
        ConfigError: it cannot be called with an item and a client, or is a generator.
    """
    if not callable(function):
        raise ConfigError(f"map takes `async def function(item, client)`, and then the items, not {function!r}")
    name = getattr(function, "__name__", type(function).__name__)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigError(f"{name} yields: map takes `async def function(item, client)`, which returns its result")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise ConfigError(f"{name} does not take an item and a client ({error}): map calls it with both") from None
    except ValueError:  # some functions written in C have no signature
        return


async def run_function(
    function: Callable[[ItemT, ClientT], Awaitable[Any]],
    client: ClientT,
    index: int,
    item: ItemT,
    journey: Journey | None = None,
) -> Result[Any]:
    """Run a user's function for an item, in this task. Its calls are counted on ``journey``.

    Raises:
        ConfigError: it returned something that cannot be awaited. That would be so for every item, so it ends the run.
    """
    outer, journey = current_journey(None), journey or Journey(asyncio.get_running_loop().time())
    if outer is not None and journey.journal is None:
        journey.journal = outer.journal
    set_journey(journey)  # in this task's own context
    output: Any = None
    error: Exception | None = None
    try:
        with cancelled_alone():
            running = function(item, client)
            if not inspect.isawaitable(running):
                raise _NotAsync
            output = await running
    except _NotAsync:
        name = getattr(function, "__name__", type(function).__name__)
        raise ConfigError(f"{name} is no async function: write it as `async def {name}(item, client)`") from None
    except (Exception, SystemExit, KeyboardInterrupt) as caught:
        error = as_error(caught)
    finally:
        if outer is not None:
            outer.account.add(journey.account)
    return outcome(index, journey, item=item, output=output, error=error)
