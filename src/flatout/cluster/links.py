"""A process's way to the place where limits are shared: a server of Redis, or a cluster of Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from flatout.policies.pacing.reports import Seen
from flatout.presence import Presence
from flatout.tasks.closing import close_all
from flatout.values.place import RAY, Place

from .limits import Keeper


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

    Args:
        clock: tells the present.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._links: dict[Place, tuple[Link, Presence]] = {}
        self._making = threading.Lock()

    def to(self, place: Place) -> Link:
        """The connection to a place. It is looked for the first time, which blocks; see `flatout.presence`.

        Any thread may ask. One that asks for another place does not wait.

        Raises:
            ConfigError: it is not, or was not a moment ago.
        """
        with self._making:  # else a second connection would be made, and not closed
            if place not in self._links:
                link = link_to(place)
                self._links[place] = link, Presence(link.check, self._clock)
        link, presence = self._links[place]
        presence.check()
        return link

    async def close(self) -> None:
        """Close all."""
        links, self._links = self._links, {}
        await close_all(*(link.close for link, _ in links.values()))
