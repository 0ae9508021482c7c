"""A process's way to the place where limits are shared: a server of Redis, or a cluster of Ray."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

from flatout.errors import ConfigError
from flatout.policies.pacing.reports import Seen
from flatout.tasks.closing import close_all
from flatout.values.place import RAY, Place

from .limits import Keeper

AGAIN = 5.0
"""Seconds after which a place that was not there is looked for again."""


class Link(Protocol):
    """A process's connection to a place, for all targets whose limits it shares there."""

    def check(self) -> None:
        """Find out whether the place is there. Blocks.

        Raises:
            ConfigError: it is not, or the package that it needs is not installed.
        """
        ...

    def look(self) -> list[Seen]:
        """See all targets whose limits are shared there, without changing anything. Blocks.

        Raises:
            ConfigError: the place is not there, or the package that it needs is not installed.
        """
        ...

    def keeper(self, target: str) -> Keeper:
        """The keeper of one target's limits."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


def link_to(place: Place) -> Link:
    """A connection to a place, not yet opened."""
    if place.server == RAY:
        from .ray import RayLink

        return RayLink(place)
    from .redis import RedisLink

    return RedisLink(place)


class Links:
    """A process's connections, one to each place.

    A place that is not there is looked for once in `AGAIN` seconds, and not by each call anew: to find out may take
    seconds.

    Args:
        clock: tells the present.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._links: dict[Place, Link] = {}
        self._lost: dict[Place, tuple[float, str]] = {}  # when a place was not there, and why
        self._turns: dict[Place, threading.Lock] = {}

    def to(self, place: Place) -> Link:
        """The connection to a place. The first time, finds out whether the place is there, which blocks.

        Any thread may ask. One that asks for another place does not wait.

        Raises:
            ConfigError: it is not, or was not a moment ago.
        """
        with self._turns.setdefault(place, threading.Lock()):  # else a second connection would be made, and not closed
            return self._to(place)

    def _to(self, place: Place) -> Link:
        if (link := self._links.get(place)) is not None:
            return link
        at, reason = self._lost.get(place, (-math.inf, ""))
        if self._clock() - at < AGAIN:
            raise ConfigError(reason)
        link = link_to(place)
        try:
            link.check()
        except ConfigError as error:
            self._lost[place] = self._clock(), str(error)
            raise
        self._links[place] = link
        return link

    async def close(self) -> None:
        """Close all."""
        links, self._links = self._links, {}
        await close_all(*(each.close for each in links.values()))
