"""A client that other programs of the same user steer, by a socket: ``Client(control=path)``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from flatout.control import place
from flatout.control.server import served
from flatout.engine import Engine
from flatout.errors import ConfigError

from .commands import Commands

KNOCK = 1.0
"""Seconds to wait for a program that may listen at the place already."""


class Control:
    """The socket of one client.

    Args:
        name: the name under which ``flatout ctl`` finds it: a path, with or without its suffix ``.ctl``.
        commands: makes what carries out the requests, for a client's engine and its name.
    """

    def __init__(self, name: str | os.PathLike[str], commands: Callable[[Engine, str], Commands] = Commands) -> None:
        self._commands = commands
        self._name = Path(os.fspath(name).removesuffix(place.SUFFIX))
        self._open = AsyncExitStack()

    async def open(self, engine: Engine) -> None:
        """Open the socket.

        Raises:
            ConfigError: another program is steered by that name, or there can be no socket.
        """
        if await asyncio.to_thread(self._is_taken):
            raise ConfigError(f"another program is steered as {self._name}: give control another path")
        commands = self._commands(engine, str(self._name))
        where = await self._open.enter_async_context(served(partial(place.places, self._name), commands))
        if where is None:
            raise ConfigError(f"there can be no socket for {self._name}: give control a path that you may write")

    async def close(self) -> None:
        """Close the socket, and remove it."""
        await self._open.aclose()

    def _is_taken(self) -> bool:
        try:
            end = place.connect(self._name, KNOCK)
        except OSError:
            return True  # somebody is there who does not answer
        if end is not None:
            end.close()
        return end is not None
