"""An event loop in a thread of its own, for programs that have none."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

from .loop import loop_factory

T = TypeVar("T")

_open: set[LoopThread] = set()

_at_end: Callable[[Callable[[], object]], object] = getattr(threading, "_register_atexit", atexit.register)
"""Has a function called at the program's end, while it can still start threads. Where Python has no such place, it is
called a little later."""


class LoopThread:
    """An event loop in a thread of its own. It starts with the first work.

    Args:
        name: the thread's name.
        last: what the loop does when it is closed, and at the program's end at the latest.
    """

    def __init__(self, name: str, last: Callable[[], Awaitable[object]]) -> None:
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
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; it runs."""
        with self._starting:
            if self._closed:
                raise RuntimeError("the thread has ended")
            if self._loop is None:
                self._loop = self._started()
            return self._loop

    def close(self) -> None:
        """Do what is left to do, and end the thread. Closing it again does nothing."""
        with self._starting:
            loop, self._loop, self._closed = self._loop, None, True
        _open.discard(self)
        if loop is None or self.elsewhere:
            return
        try:
            wait_in(loop, self._ended())
        finally:
            loop.call_soon_threadsafe(loop.stop)
            if self._thread is not None:
                self._thread.join()

    def _started(self) -> asyncio.AbstractEventLoop:
        started: Future[asyncio.AbstractEventLoop] = Future()

        def work() -> None:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:  # cancels what is left when it ends
                loop = runner.get_loop()
                started.set_result(loop)
                loop.run_forever()

        # A daemon, since Python waits for other threads before it lets anything be done at its end.
        self._thread = threading.Thread(target=work, name=self._name, daemon=True)
        self._thread.start()
        if not _open:
            _close_at_end()
        _open.add(self)
        return started.result()

    async def _ended(self) -> None:
        await self._last()


@cache
def _close_at_end() -> None:
    _at_end(_close_open)


def _close_open() -> None:
    for thread in tuple(_open):
        thread.close()


def wait_in(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Have another thread's loop do something, in the caller's context, and wait for it.

    An interrupt of the wait cancels the work.
    """
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
