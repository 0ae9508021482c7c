"""A thread's own connection to Redis or Valkey, for what is not asked in the event loop."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flatout.values.place import Place

from .redis import PATIENCE, options, package, reason

if TYPE_CHECKING:
    from redis import Redis
    from redis.commands.core import Script

SCANNED = 1_000
"""Names that the server looks through in one step."""


class RedisLine:
    """A connection, made at the first use. Its methods block.

    They raise OSError if the server does not answer, or refuses; the message says why, in a line. They raise
    ConfigError if the package redis is not installed.

    Args:
        place: where the server is.
        what: what needs it, with the verb: ``the cache redis://host:6379/0/team needs``.
        patience: seconds to wait for the server, to connect and for each answer.
    """

    def __init__(self, place: Place, what: str, patience: float = PATIENCE) -> None:
        self._place = place
        self._what = what
        self._patience = patience
        self._scripts: dict[str, Script] = {}
        self._known = False  # whether the server has answered

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        """The values of these names, in their order. None for a name without a value."""
        with self._asked() as server:
            values: list[Any] = server.mget(names)
        return values

    def write(self, values: Mapping[str, bytes], seconds: int, remove: Sequence[str] = ()) -> str | None:
        """Set these values for some time, and then remove other names, in one step.

        Returns why the server refuses a value, as for want of memory.
        """
        with self._asked() as server:
            pipeline = server.pipeline(transaction=False)
            for name, value in values.items():
                pipeline.set(name, value, ex=seconds)
            if remove:
                pipeline.unlink(*remove)
            refusals = [done for done in pipeline.execute(raise_on_error=False) if isinstance(done, Exception)]
            return reason(refusals[0]) if refusals else None

    def names(self, prefix: str) -> Iterator[str]:
        """The names that begin with this. Some may come twice."""
        pattern = re.sub(r"[][*?\\]", r"\\\g<0>", prefix) + "*"
        with self._asked() as server:
            for name in server.scan_iter(pattern, count=SCANNED):
                yield name.decode(errors="replace")

    def script(self, text: str) -> Callable[[Sequence[str], Sequence[Any]], Any]:
        """A function that runs a script with these names and arguments, in one step for all who use the server."""

        def run(names: Sequence[str], arguments: Sequence[Any]) -> Any:
            with self._asked() as server:
                return self._registered(text, server)(keys=names, args=arguments)

        return run

    def clock(self) -> float:
        """The server's clock, in Unix seconds."""
        with self._asked() as server:
            seconds, microseconds = server.time()
        return float(seconds + microseconds / 1e6)

    def remove(self, names: Sequence[str]) -> int:
        """Remove these names. Returns how many there were."""
        with self._asked() as server:
            return int(server.unlink(*names))

    def close(self) -> None:
        """Close the connection, if there is one."""
        if "_server" in self.__dict__:
            self._server.close()

    @cached_property
    def _server(self) -> Redis:
        made: Redis = package(self._what).Redis.from_url(self._place.server, **options(self._patience))
        return made

    def _registered(self, text: str, server: Redis) -> Script:
        if (script := self._scripts.get(text)) is None:
            script = self._scripts[text] = server.register_script(text)
        return script

    @contextmanager
    def _asked(self) -> Iterator[Redis]:
        """The server, in a block in which its errors become OSErrors."""
        redis = package(self._what)
        try:
            yield self._server
            self._known = True
        except (redis.RedisError, ValueError, TypeError) as error:  # also for an option of the address
            raise OSError(reason(error, known=self._known)) from error
