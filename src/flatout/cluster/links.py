"""A process's way to the place where limits are shared: a server of Redis, or a cluster of Ray."""

from __future__ import annotations

from typing import Protocol

from flatout.policies.pacing.reports import Seen
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
