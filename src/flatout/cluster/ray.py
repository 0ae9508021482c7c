"""The keeper of shared limits in a cluster of Ray: a named actor that outlives the jobs that use it.

Only this module imports ray for it.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from flatout.errors import ConfigError
from flatout.policies.pacing.exchange import Ask, Granted, News, Read
from flatout.policies.pacing.leases import Keeper
from flatout.policies.pacing.leases_log import SharedJournal
from flatout.policies.pacing.reports import Reports, Seen
from flatout.values.place import Place

FORMAT = 6
"""The version of the messages. Raise it if they change: programs with different versions use different actors."""

NAMESPACE = "flatout"
"""Where the actors have their names: Ray keeps those of one namespace apart from those of others."""

FIRST_PATIENCE = 60.0
"""Seconds to wait before the first call, in which Ray may have to start the actor."""

_encode = msgspec.msgpack.Encoder().encode
_granted = msgspec.msgpack.Decoder(Granted).decode
_ask = msgspec.msgpack.Decoder(Ask).decode
_seen = msgspec.msgpack.Decoder(list[Seen]).decode

Answer = tuple[bytes, int, tuple[bytes, ...], int, bytes]
"""What was granted, and the fields of `Read`."""


class Keepers:
    """The actor: a keeper for each target's limits, and what its workers tell each other.

    If its machine dies, Ray starts it on another one, where it knows nothing: it then grants nothing for a while.
    """

    def __init__(self) -> None:
        self._keepers: dict[str, tuple[Keeper, SharedJournal, Reports]] = {}

    def here(self) -> None:
        """Say that the actor has started."""

    def exchange(self, target: str, ask: bytes, news: tuple[bytes, int, int, bytes, bytes]) -> Answer:
        """One exchange of a worker with the keeper of one target's limits."""
        if target not in self._keepers:
            self._keepers[target] = Keeper(), SharedJournal(), Reports()
        keeper, journal, reports = self._keepers[target]
        asked, told, now = _ask(ask), News(*news), time.monotonic()
        read = journal.exchange(told)
        overtaken = keeper.overtaken(asked)
        granted = keeper.exchange(now, asked)
        if not overtaken:
            reports.hear(asked.worker, told.report, keeper.workers, now)
        return _encode(granted), read.end, read.batches, read.kept_at, read.kept

    def look(self) -> bytes:
        """What there is of all targets: a list of `Seen`."""
        return _encode([reports.seen(time.monotonic(), keeper) for keeper, _, reports in self._keepers.values()])


class RayLink:
    """A process's way to the actor, for all targets whose limits it shares there.

    Args:
        place: where it is.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._actor: Any = None

    def check(self) -> None:
        """Find the actor, or have it started. Blocks.

        Raises:
            ConfigError: this process is in no cluster of Ray, or the actor does not start.
        """
        ray = self._cluster(f"limits shared at {self._place} need a cluster of Ray: call ray.init() before")
        options = {"name": self._name, "namespace": NAMESPACE, "lifetime": "detached"}
        try:
            made: Any = ray.remote(Keepers).options(**options, get_if_exists=True, num_cpus=0, max_restarts=-1)
            self._actor = made.remote()
            ray.get(self._actor.here.remote(), timeout=FIRST_PATIENCE)
        except (ray.exceptions.RayError, TimeoutError) as error:
            raise ConfigError(
                f"the limits shared at {self._place} cannot be reached, so nothing is sent: {_reason(error)}"
            ) from None

    def look(self) -> list[Seen]:
        """See all targets whose limits are shared there, without changing anything. Blocks.

        Raises:
            ConfigError: this process is in no cluster of Ray, or the actor does not answer.
        """
        ray = self._cluster(
            f"{self._place} is seen from a program in its cluster of Ray: "
            "call flatout.look.team.look_at_team there, after ray.init()"
        )
        try:
            actor = ray.get_actor(self._name, namespace=NAMESPACE)
            return _seen(ray.get(actor.look.remote(), timeout=FIRST_PATIENCE))
        except ValueError:  # nobody has started it
            return []
        except (ray.exceptions.RayError, TimeoutError) as error:
            raise ConfigError(f"{self._place} cannot be reached: {_reason(error)}") from None

    @property
    def _name(self) -> str:
        """The actor's."""
        return f"{self._place.name}:limits:{FORMAT}"

    def _cluster(self, otherwise: str) -> Any:
        """The package ray, in a process that is in a cluster.

        Args:
            otherwise: what to say of a process that is in none.

        Raises:
            ConfigError: it is not installed, or the process is in none.
        """
        try:
            import ray
        except ImportError:
            raise ConfigError(
                f"limits shared at {self._place} need ray, which is not installed: pip install 'flatout[ray]'"
            ) from None
        if not ray.is_initialized():
            raise ConfigError(otherwise)
        return ray

    def keeper(self, target: str) -> RayKeeper:
        """The keeper of one target's limits."""
        return RayKeeper(self._actor, self._place, target)

    async def close(self) -> None:
        """Nothing to do: the connection is Ray's."""


class RayKeeper:
    """The keeper of one target's limits: see `flatout.cluster.limits.Keeper`."""

    def __init__(self, actor: Any, place: Place, target: str) -> None:
        self._actor = actor
        self._target = target
        self.place = str(place)

    async def exchange(self, ask: Ask, news: News, /) -> tuple[Granted, Read]:
        """One exchange.

        Raises:
            OSError: the actor does not answer.
        """
        from ray.exceptions import RayError

        given = news.batch, news.place, news.kept_at, news.kept, news.report
        try:
            granted, *read = await self._actor.exchange.remote(self._target, _encode(ask), given)
        except RayError as error:
            raise OSError(_reason(error)) from error
        return _granted(granted), Read(*read)


def _reason(error: Exception) -> str:
    """Why an actor does not answer, in a line, as Ray says it."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
