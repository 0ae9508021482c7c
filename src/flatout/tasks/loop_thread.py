"""An event loop in a thread of its own, for programs that block or have none, and work in it for other threads."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, partial
from typing import Any, Generic, TypeVar

from .blocked import wait_in_loop
from .loop import loop_factory

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that closing a thread waits for its last work."""

_open: set[LoopThread] = set()
_log = logging.getLogger("flatout")

_at_end: Callable[[Callable[[], object]], object] = getattr(threading, "_register_atexit", atexit.register)
"""Has a function called at the program's end, while it can still start threads. Where Python has no such place, it is
called a little later."""


class LoopThread:
    """An event loop in a thread of its own. It starts with the first work.

    Args:
        name: the thread's name.
        last: what the loop does when it is closed, and at the program's end at the latest; None for nothing.
    """

    def __init__(self, name: str, last: Callable[[], Awaitable[object]] | None = None) -> None:
        self._name = name
        self._last = last
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._process = os.getpid()
        self._closed = False

    @property
    def elsewhere(self) -> bool:
        """Whether this process is a fork of the one that has the thread."""
        return self._process != os.getpid()

    @property
    def closed(self) -> bool:
        """Whether it does no more work."""
        return self._closed

    @property
    def alive(self) -> bool:
        """Whether the thread runs, in this process."""
        return not self.elsewhere and self._thread is not None and self._thread.is_alive()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; it runs."""
        with self._starting:
            if self._closed:
                raise RuntimeError("the thread has ended")
            if self._loop is None:
                self._loop = self._started()
            return self._loop

    def close(self) -> None:
        """Do what is left to do, and end the thread. Closing it again does nothing.

        The garbage collector may call it anywhere, in the thread itself too; there it does not wait.
        """
        if self.elsewhere:  # the lock may be held by a thread that is not here
            self._closed = True
            return
        with self._starting:
            loop, self._loop, self._closed = self._loop, None, True
        _open.discard(self)
        if loop is None or self._thread is None:
            return
        with suppress(RuntimeError):  # the loop has just closed
            loop.call_soon_threadsafe(self._begin_to_leave, loop)
        if self._thread is not threading.current_thread():
            self._thread.join(PATIENCE)

    def _started(self) -> asyncio.AbstractEventLoop:
        started: Future[asyncio.AbstractEventLoop] = Future()
        # A daemon, since Python waits for other threads before it lets anything be done at its end.
        self._thread = threading.Thread(target=partial(_turn, started), name=self._name, daemon=True)
        self._thread.start()
        if not _open:
            _close_at_end()
        _open.add(self)
        return started.result()

    def _begin_to_leave(self, loop: asyncio.AbstractEventLoop) -> None:
        leaving = loop.create_task(self._ended())
        leaving.add_done_callback(partial(_left, loop))

    async def _ended(self) -> None:
        if self._last is not None:
            await self._last()


def _turn(started: Future[asyncio.AbstractEventLoop]) -> None:
    """The thread: runs a loop until it is stopped."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:  # cancels what is left when it ends
        loop = runner.get_loop()
        started.set_result(loop)
        loop.run_forever()


def _left(loop: asyncio.AbstractEventLoop, leaving: asyncio.Task[None]) -> None:
    if not leaving.cancelled() and (error := leaving.exception()) is not None:
        _log.debug("the last work of an event loop failed: %s", error)
    loop.stop()


@cache
def _close_at_end() -> None:
    _at_end(_close_open)


def _close_open() -> None:
    for thread in tuple(_open):
        thread.close()


def wait_in(loop: asyncio.AbstractEventLoop, work: Callable[[], Awaitable[T]]) -> T:
    """Have another thread's loop do something, in the caller's context, and wait for it.

    An interrupt of the wait cancels the work, and comes when that has ended. It is noticed in a program whose own event
    loop stands still meanwhile, too.
    """
    return _Piece(work, loop).result()


async def await_in(loop: asyncio.AbstractEventLoop, work: Callable[[], Awaitable[T]]) -> T:
    """As `wait_in`, for a caller with an event loop of its own, which goes on."""
    return await _Piece(work, loop).awaited()


class _Piece(Generic[T]):
    """Something to await in another thread's loop. If the wait for it is interrupted, it is cancelled and has ended."""

    def __init__(self, work: Callable[[], Awaitable[T]], loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._future: Future[T] = Future()
        loop.call_soon_threadsafe(self._begin)

    def result(self) -> T:
        ended = threading.Event()
        self._future.add_done_callback(lambda _: ended.set())
        try:
            wait_in_loop(ended)
        except BaseException:
            self._cancel()
            raise
        return self._future.result()

    async def awaited(self) -> T:
        try:
            return await asyncio.shield(asyncio.wrap_future(self._future))
        except asyncio.CancelledError:
            if not self._future.done():
                await asyncio.to_thread(self._cancel)
            raise

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._outcome())
        self._task.add_done_callback(self._ended)

    async def _outcome(self) -> tuple[Any, BaseException | None]:
        """The value or the error: a SystemExit that left the task would end the loop."""
        try:
            return await self._work(), None
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return None, error

    def _ended(self, task: asyncio.Task[tuple[Any, BaseException | None]]) -> None:
        value, error = (None, asyncio.CancelledError()) if task.cancelled() else task.result()
        if error is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(value)  # type: ignore[arg-type]  # without an error there is a value

    def _cancel(self) -> None:
        """Cancel the work, and wait until it has ended."""
        self._loop.call_soon_threadsafe(lambda: self._task is not None and self._task.cancel())
        with suppress(BaseException):
            self._future.result()
