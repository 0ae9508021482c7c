"""The event loop in which a flatout client works for programs that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from flatout.client import engine_of
from flatout.errors import ConfigError
from flatout.tasks.loop_thread import LoopThread, wait_in

if TYPE_CHECKING:
    from flatout.client import Client

T = TypeVar("T")


class Home:
    """Where a client works: in the loop that it is bound to, or else in one of its own, in a thread.

    Args:
        client: the client. In a thread of its own it is closed when the last of its users has left.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._engine = engine_of(client)
        self._thread = LoopThread("flatout.sdk", client.close)
        self._users = 0
        self._counting = threading.Lock()

    def enter(self) -> None:
        """Count one user more."""
        with self._counting:
            self._users += 1

    def leave(self) -> None:
        """Count one user less."""
        with self._counting:
            self._users -= 1
            last = self._users == 0
        if last:
            _homes.pop(self._client, None)
            self._thread.close()

    def wait(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something there, in the caller's context, and wait for it. An interrupt of the wait cancels the work.

        Raises:
            ConfigError: the client cannot work for this thread.
        """
        return wait_in(self._loop(), work)

    def soon(self, act: Callable[[], object]) -> None:
        """Have something done there, unless it has closed."""
        with suppress(RuntimeError, ConfigError):
            self._loop().call_soon_threadsafe(act)

    def _loop(self) -> asyncio.AbstractEventLoop:
        thread = self._thread
        if thread.elsewhere:
            raise ConfigError("the process was forked, and its client's event loop was not: make a client in the fork")
        loop = self._engine.loop
        if loop is None:
            if thread.closed:
                raise ConfigError("this client is closed")
            return thread.loop
        if loop is _running():
            raise ConfigError("a synchronous request would wait for its own event loop: take an async client here")
        if not loop.is_running():
            raise ConfigError("this client is closed: its event loop has ended")
        return loop


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_homes: dict[Client, Home] = {}


def home_of(client: Client) -> Home:
    """The one home of a client."""
    return _homes.setdefault(client, Home(client))
