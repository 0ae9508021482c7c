"""The keeper of shared limits in Redis or Valkey: a script, so that each exchange is one step for all workers.

Only this module and `flatout.cluster.line` import redis.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property
from importlib import resources
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from flatout.errors import ConfigError
from flatout.policies.pacing.exchange import Ask, Granted, News, Read
from flatout.policies.pacing.leases import Keeper
from flatout.policies.pacing.reports import Report, Seen, Summed
from flatout.values.place import PASSWORD, Place

if TYPE_CHECKING:
    import redis
    from redis.asyncio import Redis

FORMAT = 7
"""The version of the state and the messages. Raise it if either changes: programs with different versions use different
keys."""

PATIENCE = 0.5
"""Seconds to wait for the server, to connect and for each answer."""

FIRST_PATIENCE = 5.0
"""Seconds to wait for the server before the first call."""

KEPT = 86_400
"""Seconds after which the state is removed that nobody asked for."""

TRIAL_KEPT = 10
"""Seconds after which a trial state is removed, which only shows whether the server can keep one."""

TRIALS = 3
"""How often a server may be too slow before it counts as too far away."""


def timed(name: str) -> str:
    """A script that goes by the server's clock."""
    return "".join((resources.files(__package__) / part).read_text() for part in ("clock.lua", name))


SCRIPT = timed("keeper.lua")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Granted).decode
_decode_keeper = msgspec.msgpack.Decoder(Keeper).decode
_decode_report = msgspec.msgpack.Decoder(Report).decode
_decode_summed = msgspec.msgpack.Decoder(Summed).decode


class RedisLink:
    """A process's one connection to a server, for all targets whose limits it shares there.

    Args:
        place: where it is.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def check(self) -> None:
        """Find out whether the server is there. Blocks.

        Raises:
            ConfigError: it is not, or the package redis is not installed.
        """
        redis = package(f"limits shared at {self._place} need")
        try:
            with redis.Redis.from_url(self._place.server, **options(FIRST_PATIENCE)) as server:
                took = _tried(server, self._place)
        except (redis.RedisError, ValueError, TypeError) as error:
            raise ConfigError(
                f"the limits shared at {self._place} {cannot(error)}, so nothing is sent: {reason(error)}"
            ) from None
        if took > PATIENCE:
            raise ConfigError(f"the limits shared at {self._place} are {too_far(took, PATIENCE)}")

    def look(self) -> list[Seen]:
        """See all targets whose limits are shared there, without changing anything. Blocks.

        Raises:
            ConfigError: the server is not there or has something else there, or the package redis is not installed.
        """
        redis = package(f"limits shared at {self._place} need")
        try:
            with redis.Redis.from_url(self._place.server, **options(FIRST_PATIENCE)) as server:
                return _looked(server, self._place)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self._place} has something else than shared limits: {error}") from None
        except (redis.RedisError, ValueError, TypeError) as error:
            raise ConfigError(f"{self._place} {cannot(error)}: {reason(error)}") from None

    def keeper(self, target: str) -> RedisKeeper:
        """The keeper of one target's limits."""
        return RedisKeeper(self._server, self._place, target)

    async def close(self) -> None:
        """Close the connection."""
        if "_server" in self.__dict__:
            await self._server.aclose()

    @cached_property
    def _server(self) -> Redis:
        from redis.asyncio import BlockingConnectionPool, Redis

        how = {**options(PATIENCE), "socket_timeout": None}  # `LeasedLimits` bounds the exchange
        return Redis.from_pool(BlockingConnectionPool.from_url(self._place.server, max_connections=1, **how))


class RedisKeeper:
    """The keeper of one target's limits: see `flatout.cluster.limits.Keeper`."""

    def __init__(self, server: Redis, place: Place, target: str) -> None:
        self.place = str(place)
        self._keys = _keys(place, hashlib.sha256(target.encode()).hexdigest()[:16])
        self._script = server.register_script(SCRIPT)
        self._known = False  # whether the server has answered

    async def exchange(self, ask: Ask, news: News, /) -> tuple[Granted, Read]:
        """One exchange.

        Raises:
            OSError: the server does not answer.
        """
        from redis import RedisError

        try:
            answer = await self._script(keys=self._keys, args=arguments(ask, news))
        except RedisError as error:
            raise OSError(reason(error, known=self._known)) from error
        self._known = True
        return results(answer)


def arguments(ask: Ask, news: News, clock: str = "", kept: int = KEPT) -> list[Any]:
    """The script's arguments."""
    return [_encode(ask), kept, clock, news.batch, news.place, news.kept_at, news.kept, news.report]


def results(answer: list[Any]) -> tuple[Granted, Read]:
    """The script's results."""
    granted, end, kept_at, kept, *batches = answer
    return _decode(granted), Read(end, tuple(batches), kept_at, kept)


def _keys(place: Place, name: str) -> list[str]:
    """The script's keys. The braces keep them together where a server is one of many."""
    whole = f"flatout:{{{place.name}}}:limits:{FORMAT}"
    key = f"{whole}:{name}"
    return [key, f"{key}:log", f"{key}:kept", f"{whole}:reports"]


def _looked(server: redis.Redis, place: Place) -> list[Seen]:
    """What the server has of all targets, in two round trips. Targets of which it has only the sums are left out."""
    sums: dict[str, Summed] = {}
    reports: defaultdict[str, dict[str, Report]] = defaultdict(dict)
    fields: Any = server.hgetall(_keys(place, "")[-1])
    for field, said in fields.items():
        target, _, worker = field.decode().partition(":")
        if worker:
            reports[target][worker] = _decode_report(said)
        else:
            sums[target] = _decode_summed(said)
    asked = server.pipeline(transaction=False)
    asked.time()
    for target in sums:
        asked.get(_keys(place, target)[0])
    (seconds, millionths), *states = asked.execute()
    return [
        Seen(seconds + millionths / 1e6, _decode_keeper(state), sums[target], reports[target])
        for target, state in zip(sums, states, strict=True)
        if state is not None
    ]


def _tried(server: redis.Redis, place: Place) -> float:
    """Do what workers do all the time, in keys that nobody shares. Returns how many seconds it took; see `tried`.

    A server may answer, and yet be read-only, full, or forbid scripts.
    """
    script = server.register_script(SCRIPT)
    keys, given = _keys(place, "trial"), arguments(Ask("trial", leaves=True), News(), kept=TRIAL_KEPT)
    return tried(lambda: script(keys=keys, args=given), PATIENCE)


def tried(trial: Callable[[], object], patience: float) -> float:
    """Try something until it takes no longer than ``patience``, `TRIALS` times at most: the first connects.

    Returns how many seconds it took at last.
    """
    took = patience
    for _ in range(TRIALS):
        begun = time.monotonic()
        trial()
        if (took := time.monotonic() - begun) <= patience:
            break
    return took


def too_far(took: float, patience: float) -> str:
    """Why a server that answers too slowly is not used, for the end of a sentence."""
    return f"too far away, so nothing is sent: an answer took {took:.1f} s, and may take {patience:g} s"


def package(what: str) -> ModuleType:
    """The package redis.

    Args:
        what: what needs it, with the verb.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import redis
    except ImportError:
        raise ConfigError(f"{what} the extra redis, which is not installed: pip install 'flatout[redis]'") from None
    return redis


def options(patience: float) -> dict[str, Any]:
    """How to connect.

    Args:
        patience: seconds to wait for the server, to connect and for each answer.
    """
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return {
        "password": os.environ.get(PASSWORD),
        "socket_timeout": patience,
        "socket_connect_timeout": patience,
        "retry": Retry(NoBackoff(), 0),  # whether the server heard the first is not known
    }


def cannot(error: BaseException) -> str:
    """What cannot be done with the server: one that refuses was reached."""
    import redis

    silent = isinstance(error, OSError | redis.ConnectionError | redis.TimeoutError)
    return "cannot be reached" if silent and not isinstance(error, redis.AuthenticationError) else "cannot be used"


def reason(error: Exception, *, known: bool = False) -> str:
    """Why a server does not answer or refuses, in a line, and what to do. What needs no more words is as redis says.

    Args:
        error: the error.
        known: whether it has answered before. Then its address is right.
    """
    why = _reason(error)
    return why.removesuffix(_WANTS_TLS) if known else why


def _reason(error: Exception) -> str:
    import redis

    said = re.sub(r" script: \w+, on @\w+:\d+.*", "", " ".join(str(error).split())).rstrip(".") or type(error).__name__
    if isinstance(error, redis.AuthenticationError):
        if not os.environ.get(PASSWORD):
            return f"it wants a password: set {PASSWORD}"
        return f"it refuses the password that {PASSWORD} holds, or the user's name"
    if isinstance(error, redis.exceptions.InvalidResponse):
        return "what answers there is no Redis server"
    if isinstance(error, redis.exceptions.MovedError):
        return f"it is a node of a Redis Cluster, and another node has these keys: {error.host}:{error.port}"
    if isinstance(error, ValueError | TypeError):  # redis-py quotes the option that it does not know or understand
        quoted = "".join(re.findall("'([^']*)'", said))
        return f"its address has a wrong option: {quoted or said}"
    if isinstance(error, redis.TimeoutError):
        return "it did not answer in time"
    if isinstance(error, redis.ConnectionError) and (silence := _silence(error.__cause__ or error.__context__)):
        return silence
    if said.startswith("Connection closed"):
        return _CLOSED
    if said == "DB index is out of range":
        return "it has no database of the address's number"
    if said.startswith("DENIED"):  # what follows is a page
        return "it runs in protected mode: without a password, only programs of its own machine may use it"
    return said


_WANTS_TLS = "; if it wants TLS, its address begins with rediss://"
_CLOSED = f"it closed the connection{_WANTS_TLS}"


def _silence(below: BaseException | None) -> str:
    """Why there is no connection, as the system says it; "" if it has nothing to say."""
    if isinstance(below, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({below.verify_message}): ?ssl_ca_certs=FILE names who signed it"
    if isinstance(below, ssl.SSLError):
        return f"there is no TLS with it ({below.reason}): an address without TLS begins with redis://"
    if isinstance(below, socket.gaierror):
        return "its host's name is not known"
    if isinstance(below, FileNotFoundError):
        return "there is no such socket"
    if isinstance(below, ConnectionRefusedError):
        return "nobody listens there (connection refused)"
    if isinstance(below, ConnectionResetError):
        return _CLOSED
    return (below.strerror or "") if isinstance(below, OSError) else ""
