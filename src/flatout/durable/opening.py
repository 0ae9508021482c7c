"""Opens the run file of a durable run in the library, after an earlier run on it that was left and is still closing."""

from __future__ import annotations

import asyncio
import os
from asyncio import AbstractEventLoop
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from msgspec import Struct

from flatout.errors import RunLocked, StoreError

if TYPE_CHECKING:
    from flatout.store import RunFile

StorePath = str | os.PathLike[str]


class Left(Struct, eq=False):
    """The runs of an event loop that were left early.

    Attributes:
        closing: those that are still closing, by their files.
        closed: how many have closed.
    """

    closing: dict[str, asyncio.Future[None]] = {}
    closed: int = 0

    def leave(self, name: str, ended: asyncio.Future[None]) -> None:
        """A run is left; it closes now."""
        self.closing[name] = ended

    def end(self, name: str) -> None:
        """A run has closed, whether it was left early or not."""
        self.closing.pop(name, None)
        self.closed += 1


_LEFT: WeakKeyDictionary[AbstractEventLoop, Left] = WeakKeyDictionary()


def left_in(loop: AbstractEventLoop) -> Left:
    """The runs of an event loop that were left early."""
    return _LEFT.setdefault(loop, Left())


async def opened(place: StorePath, job: Mapping[str, Any]) -> RunFile:
    """Open a run file. If this event loop is still closing an earlier run on it, wait for that.

    Raises:
        RunLocked: somebody else is writing it.
    """
    left = left_in(asyncio.get_running_loop())
    while True:
        closed = left.closed
        try:
            return await _at_once(place, job)
        except RunLocked:
            ending = left.closing.get(os.fspath(place))
            if ending is not None:
                await asyncio.shield(ending)
            elif left.closed == closed:  # else the earlier run may have closed since the thread saw its lock
                raise


async def _at_once(place: StorePath, job: Mapping[str, Any]) -> RunFile:
    """Open a run file in a thread. If the caller was cancelled meanwhile, close it again."""
    opening = asyncio.ensure_future(asyncio.to_thread(_open, place, job))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        with suppress(StoreError):
            await (await opening).close()
        raise


def _open(place: StorePath, job: Mapping[str, Any]) -> RunFile:
    from flatout.store import RunFile  # loads SQLite

    return RunFile.open(place, job=job)
