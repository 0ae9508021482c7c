"""One limiter per target. It joins the target's pacer, what earlier runs learnt, and the limits that others share."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, NamedTuple

from .config.folders import cache_folder
from .config.settings import Settings
from .events import Events
from .layers.limit import Limit, TargetStatus
from .policies.failures.health import TargetHealth
from .policies.pacing.ahead import MINUTE
from .policies.pacing.pacer import Pacer
from .policies.pacing.sharing import Shared
from .policies.pacing.tokens import Estimator, Need
from .store.memory import Learnt, Memory
from .store.shared import SharedLimits
from .tasks.closing import close_all
from .values import Call, Limits, Target
from .values.place import is_place, place_of

if TYPE_CHECKING:
    from .cluster.limits import LeasedLimits
    from .cluster.links import Link, Links
    from .cluster.reporter import Reporter, Tally

Key = tuple[str, str]
"""What limits belong to; see `Target.limited`."""


class Speed(NamedTuple):
    """How many requests a target accepts.

    Attributes:
        per_second: None if nobody knows.
        source: who says so, in words.
    """

    per_second: float | None
    source: str


_rate = itemgetter(0)

_TOKENS: Mapping[str, Callable[[Need], float]] = {
    "tpm": attrgetter("tokens"),
    "itpm": attrgetter("input"),
    "otpm": attrgetter("output"),
}
"""What each limit of tokens counts."""


class Limiter:
    """The limiter of one target.

    Attributes:
        limit: the layer that holds its calls back until they may be sent.
        estimator: estimates how many tokens a call needs.
    """

    __slots__ = ("_anew", "_given", "estimator", "limit")

    def __init__(
        self, limit: Limit, estimator: Estimator, anew: Callable[..., Pacer], given: Callable[[], Limits]
    ) -> None:
        self.limit = limit
        self.estimator = estimator
        self._anew = anew
        self._given = given

    def change(self) -> None:
        """Follow limits that the user has changed."""
        self.limit.change(self._given())

    def imagined(self, now: float, *, later: bool) -> Pacer:
        """The pacer, to try out what it would do; a new one if it has not begun, or if other processes share it.

        Args:
            now: the event loop's time.
            later: whether another process will send the calls. What this one has tried ahead, that one does not try.
        """
        pacer = self.limit.pacer
        if pacer is None or pacer.shares:
            return self._anew(now)
        tried = pacer.depths()[1] > 0.0
        return self._anew(now, learnt=self.learnt()) if later and tried else pacer

    def found(self) -> float | None:
        """Requests per second that the target was found to accept; None if it tells its limits, or none was met."""
        pacer = self.limit.pacer
        search = pacer.search if pacer is not None else None
        return search.rate if search is not None and search.found else None

    def told(self) -> float | None:
        """Requests per second that the target says it allows, where the user gave no limit; None if it does not say."""
        pacer = self.limit.pacer
        if pacer is None or pacer.search is not None or (rpm := pacer.found().get("rpm")) is None:
            return None
        return rpm / MINUTE

    def learnt(self) -> Learnt | None:
        """The knowledge about the target to keep for the next run; None if nothing was learnt."""
        pacer, rate = self.limit.pacer, self.found()
        even = pacer is not None and pacer.even
        depths, owes = pacer.depths() if pacer is not None else ({}, 0.0)
        weights, seen = self.estimator.learnt
        told = self.told()
        if rate is None and told is None and not (even or depths or seen):
            return None
        return Learnt(
            at=time.time(),
            rate=rate,
            told=told,
            even=even,
            depths=depths,
            owes=owes,
            charges=pacer.charge.rule if pacer is not None else None,
            weights=weights if seen else None,
            seen=seen,
        )


class Limiters:
    """The limiters of all targets in use.

    Args:
        limits: the known limits of a target.
        settings: the client's settings.
        events: receives pauses, stops and found limits.
        memory: keeps what earlier runs learnt; None to remember nothing.

    Attributes:
        limits: the limit layer of each target in use, by the target's name.
    """

    def __init__(
        self, limits: Callable[[Target], Limits], settings: Settings, events: Events, memory: Memory | None
    ) -> None:
        self._given = limits
        self._settings = settings
        self._events = events
        self._memory = memory
        self._paused = False
        self._trusted = False
        self._found: dict[Key, tuple[Learnt | None, SharedLimits | LeasedLimits | None]] = {}
        self._tally: Tally | None = None
        self._links: Links | None = None  # to the places through which limits are shared
        self._linking = threading.Lock()
        self._made: dict[Key, Limiter] = {}  # one for all targets of a group
        self._keys: dict[str, Key] = {}  # by the target's name
        self._at: defaultdict[tuple[str, str], list[Limit]] = defaultdict(list)  # by the address and the model
        self.limits: dict[str, Limit] = {}

    def knows(self, target: Target) -> bool:
        """Whether `find` has read the stored knowledge of a target."""
        return target.limited in self._found

    def shared(self, target: Target) -> str | None:
        """The name under which a target's limits are shared, or the place; None if they are this process' own."""
        return self._given(target).shared

    def find(self, target: Target) -> None:
        """Read what earlier runs learnt about a target, and open the limits that it shares. Blocks on the disk.

        Raises:
            ConfigError: the limits cannot be shared.
        """
        _, key = target.limited
        learnt = self._memory.recall(key) if self._memory is not None else None
        name = self.shared(target)
        self._found[target.limited] = learnt, None if name is None else self._share(name, key)

    def check(self, target: Target) -> None:
        """Find out once whether the place is there where a target's limits are shared. Blocks.

        Raises:
            ConfigError: it is not.
        """
        self.check_place(self.shared(target))

    def check_place(self, name: str | None) -> None:
        """As `check`, for the name under which limits are shared; None if they are not."""
        if name is not None and is_place(name):
            self._link(name)

    def _share(self, name: str, key: str) -> SharedLimits | LeasedLimits:
        """The limits of a target that are shared under a name, or at a place."""
        if not is_place(name):
            return SharedLimits(name, key, cache_folder() / "limits")
        from .cluster.limits import LeasedLimits

        return LeasedLimits(self._link(name).keeper(key))

    def _link(self, name: str) -> Link:
        """The connection to a place; see `flatout.cluster.links.Links`. Any thread may ask."""
        from .cluster.links import Links

        with self._linking:  # else others would be made, and only the last be closed
            links = self._links = self._links or Links()
        return links.to(place_of(name))

    def count(self) -> Tally:
        """Count what calls come to, for those who look at the team. Calls that have begun are not counted."""
        from .cluster.reporter import Tally

        self._tally = self._tally or Tally(self._events)
        return self._tally

    def _reporter(self, limit: Limit, key: Key) -> Reporter:
        """What tells the team of a target."""
        from .cluster.reporter import Reporter

        tally = self.count()
        return Reporter(limit.status, lambda: tally.of(lambda name: self._keys.get(name) == key))

    def speed(self, target: Target, calls: Sequence[Call] = ()) -> Speed:
        """How many requests a target accepts, and who says so. What an earlier run learnt is read from the disk.

        Args:
            target: the target.
            calls: some of those that will be sent. Limits that count tokens count by them; without any, not at all.
        """
        known = [self._requests(target), *self._by_tokens(target, calls)]
        return min((speed for speed in known if speed.per_second is not None), key=_rate, default=Speed(None, ""))

    def _by_tokens(self, target: Target, calls: Sequence[Call]) -> list[Speed]:
        """How many requests the limits allow that count tokens."""
        if not calls:
            return []
        limiter, limits = self._made.get(target.limited), self._given(target)
        pacer = limiter.limit.pacer if limiter is not None else None
        told = pacer.found() if pacer is not None else {}
        needs = list(map(self._estimator(target).need, calls))
        found: list[Speed] = []
        for name, counts in _TOKENS.items():
            each = sum(map(counts, needs)) / len(needs)
            if (given := getattr(limits, name)) is not None:
                found.append(Speed(given / each / MINUTE, "by its limit of tokens"))
            elif name in told:
                found.append(Speed(told[name] / each / MINUTE, "by its limit of tokens, as this run has learnt"))
        return found

    def _estimator(self, target: Target) -> Estimator:
        """What guesses the tokens of a target's calls, with what this run or an earlier one has learnt."""
        if (limiter := self._made.get(target.limited)) is not None:
            return limiter.estimator
        estimator = Estimator()
        learnt = self._memory.recall(target.limited[1]) if self._memory is not None else None
        if learnt is not None and learnt.weights is not None:
            estimator.recall(learnt.weights, learnt.seen)
        return estimator

    def _requests(self, target: Target) -> Speed:
        if (rpm := self._given(target).rpm) is not None:
            return Speed(rpm / MINUTE, "as its limit says")
        limiter = self._made.get(target.limited)
        if limiter is not None and (rate := limiter.told() or limiter.found()) is not None:
            return Speed(rate, "as this run has learnt")
        learnt = self._memory.recall(target.limited[1]) if self._memory is not None else None
        if learnt is not None and (rate := learnt.told or learnt.rate) is not None:
            return Speed(rate, "as an earlier run has learnt")
        return Speed(None, "")

    def of(self, target: Target) -> Limiter:
        """The one limiter of a target, or of the group that it shares its limits with, after `find`."""
        key = self._keys[target.name] = target.limited
        limiter = self._made.get(key)
        if limiter is None:
            name = key[0] if key[0] not in self.limits else f"{key[0]} (group)"  # an endpoint may have the group's name
            limiter = self._made[key] = self._make(name, target, *self._found[key])
            self.limits[name] = limiter.limit
            limiter.limit.pause(self._paused)
            if self._trusted:
                limiter.limit.health.trust()
            self._beside(target, limiter.limit)
        return limiter

    def _beside(self, target: Target, limit: Limit) -> None:
        """Let targets of the same model on the same server know of each other: they may share its limits."""
        place = (target.endpoint.base_url, target.model)
        for other in self._at[place]:
            other.beside.append(limit.target)
            limit.beside.append(other.target)
        self._at[place].append(limit)

    def imagined(self, targets: Iterable[Target], now: float, *, later: bool) -> list[Pacer]:
        """The pacers of some targets, to try out what they would do; see `Limiter.imagined`. A group has one.

        New targets block on the disk.
        """
        for target in targets:
            if not self.knows(target):
                self.find(target)
        return [each.imagined(now, later=later) for each in dict.fromkeys(map(self.of, targets))]

    def status(self) -> list[TargetStatus]:
        """The present state of each target in use."""
        limits = list(self.limits.values())  # a copy: exporters call this from other threads
        return [limit.status() for limit in limits]

    def searched(self) -> frozenset[str]:
        """The causes of waiting (see `flatout.events.WAITS`) whose limit is unknown, so flatout searches for it."""
        pacers = [limit.pacer for limit in self.limits.values() if limit.pacer is not None]
        requests = not all(pacer.knows_requests for pacer in pacers)
        concurrency = any(pacer.limits.concurrency is None for pacer in pacers)
        return frozenset([*(["requests"] if requests else []), *(["concurrency"] if concurrency else [])])

    def change(self) -> None:
        """Follow limits that the user has changed."""
        for limiter in self._made.values():
            limiter.change()

    def pause(self, paused: bool) -> None:
        """Let no attempt begin, or let them begin again."""
        self._paused = paused
        for limiter in self._made.values():
            limiter.limit.pause(paused)

    def trust(self) -> None:
        """A run file or a cache has answers: calls of this kind are answered, and refusals concern single calls."""
        if not self._trusted:
            self._trusted = True
            for limiter in self._made.values():
                limiter.limit.health.trust()

    def remember(self) -> None:
        """Store what was learnt about each target, for the next run."""
        if self._memory is None:
            return
        for (_, key), limiter in self._made.items():
            if (learnt := limiter.learnt()) is not None:
                self._memory.keep(key, learnt)

    async def close(self) -> None:
        """Leave the limits that are shared with other processes."""
        shared = [limits for _, limits in self._found.values() if limits is not None]
        self._found = {key: (learnt, None) for key, (learnt, _) in self._found.items()}
        links, self._links = self._links, None
        await close_all(*(each.close for each in shared), *(() if links is None else (links.close,)))

    def _make(
        self, name: str, target: Target, learnt: Learnt | None, shared: SharedLimits | LeasedLimits | None
    ) -> Limiter:
        given, endpoint, settings = partial(self._given, target), target.endpoint, self._settings

        def pacer(now: float, shared: Shared | None = shared, learnt: Learnt | None = learnt) -> Pacer:
            return Pacer(
                given(),
                now,
                reserve=(learnt.charges if learnt is not None else None) or endpoint.reserves,
                self_hosted=endpoint.self_hosted,
                probe=endpoint.api_key is not None,  # it may be wrong
                requests_per_day=endpoint.limit_headers == "groq",
                shared=shared,
                learnt=learnt.rate if learnt is not None else None,
                even=self._memory is None or (learnt is not None and learnt.even),
                depths=learnt.depths if learnt is not None else {},
                idle=time.time() - learnt.at - learnt.owes if learnt is not None else math.inf,
            )

        estimator = Estimator()
        if learnt is not None and learnt.weights is not None:
            estimator.recall(learnt.weights, learnt.seen)
        limit = Limit(
            name,
            pacer,
            estimator,
            self._events,
            TargetHealth(settings.give_up),
            wait_for_quota=settings.wait_for_quota,
            retries=settings.retry_share,
            hosted=endpoint.key_required,  # a server that needs no key is most likely the user's own
        )
        if shared is not None and not isinstance(shared, SharedLimits):
            shared.attend(name, limit.queue, self._events.emit, self._reporter(limit, target.limited), estimator)
        return Limiter(limit, estimator, partial(pacer, shared=None), given)
