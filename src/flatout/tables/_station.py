"""A client in a thread with an event loop of its own, for programs that block or have no loop.

Engines call a function of theirs for each batch. Some block their own event loop under back-pressure, most have none.
So the client lives elsewhere, from the first batch on, and serves all threads that ask it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from flatout.client import Client
from flatout.tasks.loop_thread import LoopThread, await_in, wait_in

ItemT = TypeVar("ItemT")
Begin = Callable[[Client], AsyncGenerator[ItemT, None]]
"""Begins a piece of work: an async generator that runs on the client's loop."""

_END: Any = object()


class _Running(NamedTuple):
    """A started client, and where it lives."""

    client: Client
    thread: LoopThread


class Station:
    """A client, its event loop and its thread. They start with the first piece of work, and end with this object.

    Args:
        make: makes the client.

    Attributes:
        turn: held by the work whose rows are begun now, where one is to go after the other. It belongs to the loop.
    """

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self.turn = asyncio.Lock()
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._running: list[_Running] = []  # one at most; a list, so that it can be ended without this object
        weakref.finalize(self, _end, self._running)

    def each(self, begin: Begin[ItemT]) -> Iterator[ItemT]:
        """The results of a piece of work. An interrupt, and leaving the loop over them early, ends the work first.

        Raises:
            ConfigError: the client's options are wrong.
        """
        client, thread = self._started()
        loop, results = thread.loop, begin(client)
        try:
            while (item := wait_in(loop, lambda: anext(results, _END))) is not _END:
                yield item
        finally:
            if thread.alive:
                wait_in(loop, results.aclose)

    async def each_async(self, begin: Begin[ItemT]) -> AsyncIterator[ItemT]:
        """As `each`, for a caller with an event loop of its own."""
        client, thread = await asyncio.to_thread(self._started)
        loop, results = thread.loop, begin(client)
        try:
            while (item := await await_in(loop, lambda: anext(results, _END))) is not _END:
                yield item
        finally:
            if thread.alive:
                await await_in(loop, results.aclose)

    def close(self) -> None:
        """Close the client and end the thread. A later piece of work starts them anew."""
        _end(self._running)

    def _started(self) -> _Running:
        if self._process != os.getpid():  # forked: the lock may be held by a thread that is not here
            self._lock, self._process = threading.Lock(), os.getpid()
            self._running.clear()
        with self._lock:
            if not self._running:
                client, self.turn = self._make(), asyncio.Lock()
                self._running.append(_Running(client, LoopThread("flatout.tables", client.close)))
            return self._running[0]


def _end(started: list[_Running]) -> None:
    """Close a client and end its thread, if it has been started."""
    try:
        running = started.pop()
    except IndexError:
        return
    running.thread.close()
