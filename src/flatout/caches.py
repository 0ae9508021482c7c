"""The cache that a path or an address names: a file of this machine, or a server of Redis for several machines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from .values.answers import Entry, Shelf, Size
from .values.place import Place, is_place, redis_place

Name = str | os.PathLike[str]
"""A path, or an address such as ``redis://host:6379/0/team``."""

CACHE = "cache"
"""The fact in a run file which cache the command had that asked its rows last, as `lasting_name` gives it."""


class Reader(Protocol):
    """A cache, for commands. Every method raises ConfigError if it cannot be read."""

    def survey(self, shown: int, /) -> tuple[Size, list[Entry]]:
        """How much is in it, and the newest answers."""
        ...

    def entries(self) -> Iterator[Entry]:
        """All answers. Those of a file come with the newest first."""
        ...


def shelf(cache: Name, max_age: float | None) -> Shelf:
    """Where the answers of a cache are kept. A file is looked at; a server is not, until the shelf is checked.

    Args:
        cache: the cache.
        max_age: seconds after which an answer is not used any more; None for no bound. A server removes it then.

    Raises:
        ConfigError: it cannot be used.
    """
    if (place := place_named(cache)) is not None:
        from .cluster.answers import AnswersInRedis

        return AnswersInRedis(place, max_age)
    from .store.answers_shelf import AnswersFile  # loads SQLite

    return AnswersFile(cache)


def reader(cache: Name) -> AbstractContextManager[Reader]:
    """Open a cache to read it.

    Raises:
        ConfigError: it cannot be read.
    """
    if (place := place_named(cache)) is not None:
        from .cluster.answers_reader import AnswersInRedisReader

        return AnswersInRedisReader(place)
    from .store.answers_reader import AnswersReader

    return AnswersReader(cache)


def prune(cache: Name, before: float) -> tuple[int, int]:
    """Remove the answers from before a time, in Unix seconds. Returns how many it removed, and how many are left.

    Raises:
        ConfigError: it cannot be changed.
    """
    if (place := place_named(cache)) is not None:
        from .cluster.answers_reader import prune as remove

        return remove(place, before)
    from .store.answers_reader import prune as remove_from

    return remove_from(cache, before)


def lasting_name(cache: Name | None) -> str:
    """The name of a cache that holds in other folders, too; "" for no cache. Addresses have no passwords in them."""
    if cache is None:
        return ""
    return str(cache if place_named(cache) is not None else Path(cache).absolute())


def place_named(cache: Name) -> Place | None:
    """The place that an address names; None for a path.

    Raises:
        ConfigError: it is a wrong address, or one in a cluster of Ray, where no answers can be kept.
    """
    if not isinstance(cache, str) or not is_place(cache):
        return None
    return redis_place(cache, "answers")
