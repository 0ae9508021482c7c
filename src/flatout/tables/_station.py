"""A client in a thread with an event loop of its own, for programs that block or have no loop.

Engines call a function of theirs for each batch. Some block their own event loop under back-pressure, most have none.
So the client lives elsewhere, from the first batch on, and serves all threads that ask it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from flatout.client import Client
from flatout.tasks.blocked import wait_in_loop
from flatout.tasks.loop import loop_factory

ItemT = TypeVar("ItemT")
Begin = Callable[[Client], AsyncGenerator[ItemT, None]]
"""Begins a piece of work: an async generator that runs on the client's loop."""

PATIENCE = 10.0
"""Seconds that a closing client waits for its thread."""

_END: Any = object()
_log = logging.getLogger("flatout")


class _Running(NamedTuple):
    """A started client.

    Attributes:
        client: the client.
        loop: its event loop.
        thread: the thread that turns the loop.
        process: the process that they live in; a forked one has no copy of the thread.
    """

    client: Client
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    process: int


class Station:
    """A client, its event loop and its thread. They start with the first piece of work, and end with this object.

    Args:
        make: makes the client.
    """

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._running: list[_Running] = []  # one at most; a list, so that it can be ended without this object
        weakref.finalize(self, _end, self._running)

    def each(self, begin: Begin[ItemT]) -> Iterator[ItemT]:
        """The results of a piece of work. An interrupt, and leaving the loop over them early, ends the work first.

        Raises:
            ConfigError: the client's options are wrong.
        """
        running = self._started()
        results = begin(running.client)
        try:
            while (item := _Piece(lambda: anext(results, _END), running.loop).result()) is not _END:
                yield item
        finally:
            if _alive(running):
                _Piece(results.aclose, running.loop).result()

    async def each_async(self, begin: Begin[ItemT]) -> AsyncIterator[ItemT]:
        """As `each`, for a caller with an event loop of its own."""
        running = await asyncio.to_thread(self._started)
        results = begin(running.client)
        try:
            while (item := await _Piece(lambda: anext(results, _END), running.loop).awaited()) is not _END:
                yield item
        finally:
            if _alive(running):
                await _Piece(results.aclose, running.loop).awaited()

    def close(self) -> None:
        """Close the client and end the thread. A later piece of work starts them anew."""
        _end(self._running)

    def _started(self) -> _Running:
        if self._process != os.getpid():  # forked: the lock may be held by a thread that is not here
            self._lock, self._process = threading.Lock(), os.getpid()
            self._running.clear()
        with self._lock:
            if not self._running:
                client = self._make()
                loop = (loop_factory() or asyncio.new_event_loop)()
                thread = threading.Thread(target=_turn, args=(loop,), name="flatout.tables", daemon=True)
                thread.start()
                self._running.append(_Running(client, loop, thread, os.getpid()))
            return self._running[0]


def _end(started: list[_Running]) -> None:
    """Close a client and end its thread, if it has been started."""
    try:
        running = started.pop()
    except IndexError:
        return
    if not _alive(running):
        return
    with suppress(RuntimeError):  # the loop has just closed
        running.loop.call_soon_threadsafe(_begin_to_leave, running)
    if running.thread is not threading.current_thread():  # the garbage collector may call this anywhere
        running.thread.join(PATIENCE)


def _begin_to_leave(running: _Running) -> None:
    leaving = running.loop.create_task(running.client.close())
    leaving.add_done_callback(partial(_left, running.loop))


def _left(loop: asyncio.AbstractEventLoop, leaving: asyncio.Task[None]) -> None:
    if not leaving.cancelled() and (error := leaving.exception()) is not None:
        _log.debug("the client failed while it was closed: %s", error)  # at the program's end, it has no more threads
    loop.stop()


def _alive(running: _Running) -> bool:
    return running.process == os.getpid() and running.thread.is_alive()


class _Piece:
    """Something to await on another thread's loop. If the wait for it is interrupted, it is cancelled and has ended."""

    def __init__(self, work: Callable[[], Awaitable[Any]], loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._future: Future[Any] = Future()
        loop.call_soon_threadsafe(self._begin)

    def result(self) -> Any:
        ended = threading.Event()
        self._future.add_done_callback(lambda _: ended.set())
        try:
            wait_in_loop(ended)
        except BaseException:
            self._cancel()
            raise
        return self._future.result()

    async def awaited(self) -> Any:
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
        if error is None:
            self._future.set_result(value)
        else:
            self._future.set_exception(error)

    def _cancel(self) -> None:
        """Cancel the work, and wait until it has ended."""
        self._loop.call_soon_threadsafe(lambda: self._task is not None and self._task.cancel())
        with suppress(BaseException):
            self._future.result()


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    """The thread: runs the loop until it is stopped."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        with suppress(RuntimeError):
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
