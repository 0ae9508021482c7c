"""The pacer: decides when a target may be sent the next call. Pure: time is handed in.

Why not back off call by call: with hundreds of workers each sleeping out its own Retry-After, about half of all
requests are refused, for the workers know nothing of each other. A limit belongs to a target, so one pacer holds it
for all callers: an axis for every limit that is known or advertised, a search where none is, a count of what is in
flight, and one shared pause.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from flatout.values import Limits, Usage

from .advertised import Quota, advertised, exaggerates
from .ahead import LOT, MINUTE, Trial, at_once
from .aimd import Aimd
from .axis import CAUSES, DAY, USE, Axis, MakeGcra, per_window
from .backlog import Backlog
from .charge import Charge, Reserve
from .crowd import Crowd
from .gcra import BURST, Steady
from .joint import Joint
from .pause import DOUBTFUL, FIRST_DOUBT, LONGEST_PAUSE, Pause
from .sharing import Shared
from .strays import CONFIRMED, FORGIVEN, FORGIVEN_UNKNOWN, Tolerance, own_wait
from .tokens import Need
from .unknown import RateSearch

STRAY = 2.0
"""Most seconds that the refusal of what was tried ahead may name to be its call's own affair."""

PROBE = 0.25
"""Seconds for which the first call to a target goes alone, so that a wrong key costs one refusal, not a storm."""

LEAST_WAIT = 0.1
"""Fewest seconds that a refused call waits by itself, whatever it is told."""

GUESSED = 1.3
"""A call fails unsent only if it needs so many times what a limit allows, where its need is a guess."""

TRUST = 0.9
"""The share of a rate found by an earlier run to begin with."""

TIMID = 1.0 / 8.0
"""The share of what went before with which to begin, where a rate that nobody limited is refused."""

OVERRULED, SOON_AGAIN = 3, 100
"""When what the limits allow is refused so often, each time before so many answers, they are wrong, or others use them
too: then the rate is searched for below them."""

UNUSED = 0.7
"""The share of a limit below which it was not used up."""

LEAST_SHARE = 1.0 / 32.0
"""The least share of known limits with which a search below them begins."""

IN_FLIGHT = 1_000
"""Most requests in flight where nothing else bounds them."""

RECHECK = 0.025
"""Seconds after which a call that waits looks again, where other programs may have changed what it waits for."""


NOTHING: Mapping[str, float] = MappingProxyType({})


class Wait(NamedTuple):
    """Who waits after a refusal.

    Attributes:
        alone: seconds that the refused call waits by itself.
        until: when everybody may go on; `-inf` when that has not changed.
    """

    alone: float = 0.0
    until: float = -math.inf


class Pacer:
    """The limits of one target, and how much of them is used.

    Args:
        limits: what the target allows, as far as it is known.
        now: the present, in seconds of any monotonic clock.
        reserve: how the provider charges tokens.
        self_hosted: adapt the concurrency, not the rate, where neither is known.
        probe: whether the first call goes alone until it is answered, or for `PROBE` seconds.
        requests_per_day: whether the provider's headers on requests count by the day.
        shared: what other processes hold in common with this one.
        learnt: requests per second that an earlier run found, where no limit is known.
        even: whether nothing is tried ahead of the limits: an earlier run was refused that, or nobody would remember.
        depths: seconds of each limit that earlier runs found to be taken ahead.
        idle: seconds since all that they sent was earned.
    """

    def __init__(
        self,
        limits: Limits,
        now: float,
        *,
        reserve: Reserve = "usage",
        self_hosted: bool = False,
        probe: bool = False,
        requests_per_day: bool = False,
        shared: Shared | None = None,
        learnt: float | None = None,
        even: bool = True,
        depths: Mapping[str, float] = NOTHING,
        idle: float = math.inf,
    ) -> None:
        self.limits = limits
        self.in_flight = 0
        self.exclusive: AbstractContextManager[None] = shared if shared is not None else nullcontext()
        self._shared = shared
        self._pause = Pause(shared)
        self.even = even
        self._depths, self._idle = depths, idle
        self._tried_at = -math.inf  # when a trial of going ahead was refused
        self._untold = LOT  # refusals that it may still explain
        self.charge = Charge(reserve)
        self._requests_per_day = requests_per_day
        self._axes: dict[str, Axis] = {}
        for name, limit, window in per_window(limits):
            self._axes[name] = self._known(name, limit, window, now)
        rate_known = bool(self._axes.keys() - {"rpd"})
        adaptive = limits.adaptive or ("concurrency" if self_hosted else "rate")
        bare = limits.concurrency is None and not rate_known
        self.search: RateSearch | None = None
        self.aimd: Aimd | None = None
        self.backlog: Backlog | None = None  # bounds what is in flight where nothing else does
        if bare and adaptive == "rate":
            self.backlog = Backlog(IN_FLIGHT) if learnt is None else Backlog(IN_FLIGHT, IN_FLIGHT)
        self._searches = adaptive == "rate"
        self._bare = bare  # whether nothing bounds what is sent but a search
        self._joint = Joint(shared) if shared is not None else None
        self._most = limits.concurrency or (math.inf if rate_known else IN_FLIGHT)
        if bare:
            self._begin(now, None if learnt is None else learnt * TRUST)
        self._answered = 0
        self._overruled, self._overruled_at = 0, 0  # how often running the limits were, and how many were answered then
        self._refusals = 0  # since the first of these
        self._before = 0  # answers before it
        self._unused, self._noted_at = 0, now  # how often running limits were refused that were not used up
        self._noted = {name: axis.taken for name, axis in self._axes.items()}  # what was taken of each by then
        self._tolerates = rate_known or limits.concurrency is not None
        self._tolerance = Tolerance(FORGIVEN, CONFIRMED - 1.0) if rate_known else Tolerance(FORGIVEN_UNKNOWN)
        self._probe = probe and self.search is None
        self.recheck = math.inf if shared is None else RECHECK
        self._probe_until = -math.inf
        self._crowd: Crowd | None = None  # bounds what is in flight at a server without capacity for more

    def __repr__(self) -> str:
        known = [*self._axes.values(), *filter(None, (self.search, self.aimd))]
        return f"Pacer(in_flight={self.in_flight}, {', '.join(map(repr, known))})"

    @property
    def paused_until(self) -> float:
        """Until when nobody may go."""
        return self._pause.until

    @property
    def surely_paused_until(self) -> float:
        """Until when nobody may go, as far as that is certain: a pause that is doubted may end at any time."""
        return self._pause.surely_until

    @property
    def counts_tokens(self) -> bool:
        """Whether a call's tokens matter; else nobody need estimate them."""
        return any(name in self._axes for name in ("tpm", "itpm", "otpm"))

    def never(self, need: Need) -> str | None:
        """Why a call can never be admitted; None when it can."""
        for name, axis in self._axes.items():
            most = axis.most if (cost := self.charge.cost(name, need)) == need.max_tokens else axis.most * GUESSED
            if name not in ("rpm", "rpd") and cost > most:
                return f"it needs about {cost:,.0f} tokens, and the limit is {axis.most:,.0f} a minute"
        return None

    def ready_at(self, need: Need, now: float) -> tuple[float, str]:
        """When a call may go, and what holds it: a cause of `flatout.events.WAITS`.

        `inf` means that no time will help, only another call's end.
        """
        self._catch_up(now)
        if not self._has_room(now):
            return math.inf, "concurrency"
        if self.backlog is not None and self.in_flight + 1 > self.backlog.limit:
            return math.inf, "concurrency"
        at, cause = self.paused_until, "pause"
        if self._probe and self.in_flight and self._probe_until > at:
            at, cause = self._probe_until, "probe" if self._pause.began == -math.inf else "pause"
        for name, axis in self._axes.items():
            if (ready := axis.ready_at(self.charge.cost(name, need), now)) > at:
                at, cause = ready, axis.cause
        if self.search is not None and (ready := self.search.ready_at(now)) > at:
            at, cause = ready, self._search_cause(self.search)
        if self.paused_until > now:
            return min(at, math.inf if self.in_flight else self._pause.early_at), "pause"
        return at, cause

    def use(self, cause: str) -> float | None:
        """How much of the limit behind a cause is used, 0 to 1; None when that is not known."""
        if cause == "concurrency":
            slots = self.search.slots if self.search is not None else None
            bounds = (self.aimd, self.backlog, slots, self._crowd.aimd if self._crowd is not None else None)
            most = min(self._most if each is None else each.limit for each in bounds)
            return min(1.0, self._count / most) if most != math.inf else None
        return USE if any(axis.cause == cause for axis in self._axes.values()) else None

    def found(self) -> dict[str, float]:
        """The limits that are in force and not the given ones: told by the provider, or found by trying.

        By their names in `Limits`, as many per minute or day.
        """
        given = {name: limit for name, limit, _ in per_window(self.limits)}
        rates = {name: axis.per(DAY if name == "rpd" else MINUTE) for name, axis in self._axes.items()}
        if self.search is not None and self.search.found:
            rates["rpm"] = self.search.rate * MINUTE
        return {name: rate for name, rate in rates.items() if rate != given.get(name)}

    def admit(self, need: Need, now: float) -> None:
        """Take a call's share of every axis. The caller has seen to `ready_at`."""
        self._begin_one(need, now)
        if self.backlog is not None:
            self.backlog.sent(need)
        if self._probe and self._probe_until == -math.inf:
            self._probe_until = now + PROBE
        need.costs = costs = {}
        need.marks = marks = {}
        for name, axis in self._axes.items():
            costs[name] = cost = self.charge.cost(name, need)
            axis.take(cost, now)
            marks[name] = axis.taken
        if "tpm" in costs:
            self.charge.sent(need)
        if self.search is not None:
            need.search, need.ended = self.search, self.search.ended
            self.search.take(now)
            need.mark = self.search.mark

    def answered(
        self, need: Need, usage: Usage, headers: Mapping[str, str], sent: float, now: float, wall: float
    ) -> None:
        """An admitted call was answered.

        Args:
            need: the call's need, as it was admitted.
            usage: what the provider counted.
            headers: the answer's headers.
            sent: when it was sent.
            now: the present.
            wall: the wall clock, in seconds since the epoch.
        """
        self._catch_up(now)
        if self.aimd is not None:
            self.aimd.answered(self._count, now - sent, now)
        if self._crowd is not None:
            self._crowd.answered(need, now)
            if self._crowd.aimd is not self.aimd:
                self._crowd.aimd.answered(self.in_flight, now - sent, now)
        if self.backlog is not None:
            self.backlog.answered(need, now - sent)
        self._end_one()
        if self._pause.answered(sent, now):
            for axis in self._axes.values():
                axis.begin(now)
        if sent >= self.paused_until:
            self._probe = False
        self._answered += 1
        self._tolerance.answered()
        if self.search is not None and need.search is self.search:
            self.search.accepted(need.mark, need.ended, now)
        if "tpm" in need.costs:
            self.charge.answered(need, usage)
        for name in need.costs:
            if name not in ("rpm", "rpd") and (used := self.charge.used(name, need, usage)) is not None:
                self._axes[name].settle(need.costs[name], used, now)
        self._hear(need, headers, sent, now, wall, fits=True)
        self._went_ahead(need, sent)

    def failed(
        self,
        need: Need,
        now: float,
        *,
        headers: Mapping[str, str] | None = None,
        sent: float = 0.0,
        wall: float = 0.0,
    ) -> None:
        """An admitted call failed, or was cancelled, for a reason that is not our speed."""
        self._catch_up(now)
        self._left(need)
        if self.search is not None and need.search is self.search:
            self.search.over()
        if headers is not None:
            self._hear(need, headers, sent, now, wall)

    def pushed_back(self, need: Need, sent: float, now: float) -> bool:
        """A call that has failed met a server without capacity. Returns whether fewer in flight would be no help."""
        if self._crowd is None:
            most = min(self._most, IN_FLIGHT)
            self._crowd = Crowd(self.aimd or Aimd(sent, most, limit=most))
        return self._crowd.pushed_back(need, self._count, sent, now)

    def went_down(self, now: float) -> None:
        """The target answers nothing: that it pushed back of late was no want of capacity."""
        if self._crowd is not None:
            self._crowd.take_back(now)

    def refused(
        self,
        need: Need,
        retry_after: float | None,
        headers: Mapping[str, str] | None,
        sent: float,
        now: float,
        wall: float,
        named: Limits | None = None,
    ) -> Wait:
        """An admitted call was refused for our speed. Returns who waits, and for how long.

        Args:
            need: the call's need, as it was admitted.
            retry_after: seconds that the provider asked to wait.
            headers: the refusal's headers.
            sent: when the call was sent.
            now: the present.
            wall: the wall clock, in seconds since the epoch.
            named: the limits that the refusal names.
        """
        self._catch_up(now)
        self._left(need)
        tried = self._tried(need, sent, now, short=retry_after is None or retry_after <= STRAY)
        if headers is not None:
            self._hear(need, headers, sent, now, wall, fits=True, refused=True)
        if (alone := self._alone(retry_after, tried)) is not None:
            doubtful = headers is not None and exaggerates(headers)
            return Wait(min(alone, FIRST_DOUBT) if doubtful else alone)
        for name, limit, window in per_window(named) if named is not None else ():
            self._follow(name, Quota(limit, None, None, window), need, sent, now, fits=True, refused=True)
        self._note_use(sent, now)
        for axis in self._axes.values():
            axis.refused(now)
        if self.aimd is not None:
            self.aimd.pushed_back(sent, now, max(need.at, self._count))
        elif self.search is None and self._searches and self._are_wrong(sent):
            self._search_below(need, sent, now)
        if self.search is not None and need.search is self.search:  # else it was sent before there was this search
            return self._refused_unknown(self.search, need, retry_after, sent, now)
        return Wait(until=self._refused_known(retry_after, headers, sent, now))

    def _left(self, need: Need) -> None:
        """A call is in flight no more, and was not answered."""
        self._end_one()
        if self.backlog is not None:
            self.backlog.over(need)

    def _alone(self, retry_after: float | None, tried: bool) -> float | None:
        """Seconds that a refused call waits by itself where limits are known; None when that is everybody's affair."""
        if tried and (retry_after is None or retry_after <= STRAY):
            return own_wait(retry_after)
        return self._tolerance.alone(retry_after) if self._tolerates and self.search is None else None

    def _refused_unknown(
        self, search: RateSearch, need: Need, retry_after: float | None, sent: float, now: float
    ) -> Wait:
        """A call was refused where the rate is searched for: that is its own affair, unless others are refused too."""
        was = search.shut
        if not search.refused(need.mark, need.ended, sent, retry_after, now):
            return Wait(max(LEAST_WAIT, own_wait(retry_after)))
        return Wait() if was else Wait(until=search.ready_at(now))

    def _refused_known(
        self, retry_after: float | None, headers: Mapping[str, str] | None, sent: float, now: float
    ) -> float:
        """A call was refused within the limits that are known: everybody waits. Returns until when."""
        if retry_after is None and self.aimd is not None and self.in_flight:
            return self.paused_until  # a slot that falls free says when to go on
        if retry_after is None and sent < self._pause.began:
            return self.paused_until  # the pause that answers it has begun already
        again = self._pause.early_at != math.inf and sent >= self._pause.began
        absurd = retry_after is not None and retry_after > LONGEST_PAUSE and "rpd" not in self._axes
        seconds = self._pause.seconds(None if absurd else retry_after, sent)
        self._begin_pause(now + (LONGEST_PAUSE if absurd else seconds), sent, now)
        if absurd or again or (seconds > DOUBTFUL and headers is not None and exaggerates(headers)):
            self._pause.doubt(now)
        return self.paused_until

    @staticmethod
    def _search_cause(search: RateSearch) -> str:
        """What a call waits for while the limit is searched for."""
        if search.slots is not None:
            return "concurrency"
        return "pause" if search.shut else "requests"

    def rest(self, seconds: float, now: float) -> float:
        """A call found the target closed for long (a quota): nobody goes before then, and then one first."""
        self._begin_pause(now + seconds, now, now)
        return self.paused_until

    def _begin_pause(self, until: float, sent: float, now: float) -> None:
        """Nobody goes before an instant; afterwards one after the other, not all at once."""
        if self._pause.begin(until, sent, now):
            for axis in self._axes.values():
                axis.resume(until)
            self._probe, self._probe_until = True, -math.inf

    def _are_wrong(self, sent: float) -> bool:
        """Whether the limits are not to be relied on: what they allow was refused, and soon after again and again."""
        if sent >= self._pause.began:
            again = self._answered - self._overruled_at <= SOON_AGAIN
            self._overruled = self._overruled + 1 if again else 1
            self._overruled_at = self._answered
            if not again:
                self._refusals, self._before = 0, self._answered
        self._refusals += 1
        return not self._axes or self._overruled >= OVERRULED

    def _search_below(self, need: Need, sent: float, now: float) -> None:
        """Look for a limit on requests below what those that are known allow."""
        ceiling = min(
            (axis.gcra.rate / max(1.0, need.costs[name]) for name, axis in self._axes.items() if name in need.costs),
            default=math.inf,
        )
        rate = self._share_left() * ceiling if ceiling < math.inf else TIMID * self.in_flight / max(0.1, now - sent)
        self._begin(now, max(1.0, rate), ceiling)

    def _share_left(self) -> float:
        """The share of what the limits allow that is accepted: others may use most of them."""
        answered = self._answered - self._before
        return max(LEAST_SHARE, min(0.5, answered / (answered + self._refusals)))

    def depths(self) -> tuple[dict[str, float], float]:
        """Seconds of each limit that were found to be taken ahead, and those until all that was sent is earned."""
        trials = {name: axis.gcra for name, axis in self._axes.items() if isinstance(axis.gcra, Trial)}
        depths = {name: trial.depth for name, trial in trials.items() if trial.depth > 0.0}
        return depths, max((trial.owes for trial in trials.values()), default=0.0)

    @property
    def overruled(self) -> bool:
        """Whether less than the known limits allow is refused again and again: others seem to use them too."""
        return bool(self._axes) and (self.search is not None or self._unused >= OVERRULED)

    def _note_use(self, sent: float, now: float) -> None:
        """Note, at a refusal, whether the limits were used up since the last time that everybody had to wait."""
        if sent < self._pause.began or now <= self._noted_at:
            return
        seconds = now - self._noted_at
        used = [(axis.taken - self._noted.get(name, 0.0)) / axis.per(seconds) for name, axis in self._axes.items()]
        self._unused = self._unused + 1 if max(used, default=1.0) < UNUSED else 0
        self._noted = {name: axis.taken for name, axis in self._axes.items()}
        self._noted_at = now

    def _tried(self, need: Need, sent: float, now: float, *, short: bool) -> bool:
        """Whether a refusal answers what was tried ahead, and not the pace. Then all is spent evenly from now on."""
        for name, axis in self._axes.items():
            if (trial := axis.trial) is None:
                continue
            if trial.open:
                trial.refused(axis.ahead(need.marks[name], need.costs[name], sent) if short else 0.0, now)
                self.even, self._tried_at = True, now
            elif sent > self._tried_at:
                self.even, trial.depth = True, 0.0  # what is emptied refills otherwise, or was not full
        self._untold = self._untold - (sent <= self._tried_at)
        tried = sent <= self._tried_at and self._untold >= 0
        self.even = self.even or tried
        return tried

    def _went_ahead(self, need: Need, sent: float) -> None:
        """Note how far ahead a call went that was answered, where that is tried."""
        for name, cost in need.costs.items():
            if (trial := self._axes[name].trial) is not None:
                trial.answered(self._axes[name].ahead(need.marks[name], cost, sent))

    def _known(self, name: str, limit: float, window: float, now: float) -> Axis:
        """The axis of a limit that the user gave."""
        gcra, burst = self._gcra(name), self.limits.burst
        counts = name == "rpm"  # what a call takes of it is known, and when
        depth = self._depths.get(name, 0.0)
        if burst is None and gcra is Steady and window == MINUTE and ((depth and counts) or not self.even):
            gcra = partial(Trial, depth=depth, idle=self._idle, tries=not self.even, at_once=counts)
        return Axis(
            CAUSES[name],
            limit,
            window,
            now,
            known=True,
            burst=BURST if burst is None or window > MINUTE else at_once(burst),
            follows=burst is None and self._shared is None and window == MINUTE,
            gcra=gcra,
        )

    # -- what is shared

    def _begin(self, now: float, rate: float | None, ceiling: float = math.inf) -> None:
        """Look for what is not known: alone, or together with those that share it."""
        if self._joint is None:
            if self._searches:
                self.search = RateSearch(now, rate, ceiling=ceiling)
            else:
                self.aimd = Aimd(now, IN_FLIGHT)
        elif not self._searches:
            self._joint.searches.adapt(now, IN_FLIGHT)
        elif ceiling == math.inf:
            self._joint.searches.join(now, rate)
        else:
            self._joint.searches.begin(now, rate, ceiling)
        self._catch_up(now)

    def _catch_up(self, now: float) -> None:
        """Learn what other programs have come to know."""
        joint = self._joint
        if joint is None:
            return
        joint.searches.catch_up(now)
        for name, quota in joint.told(now):
            assert quota.limit is not None
            axis = self._axes.get(name) or self._add_told(name, quota.limit, quota.window, now)
            axis.heard(quota, axis.taken, now, now)
        search = joint.searches.rate
        if search is not None and self._searches and (self._bare or search.bounded):
            self.search = search
        if self._bare and not self._searches:
            self.aimd = joint.searches.aimd

    def _add_told(self, name: str, limit: float, window: float, now: float) -> Axis:
        """The axis of a limit that was told and not given. Nothing need be searched for any more."""
        self._axes[name] = axis = Axis(
            CAUSES[name], limit, window, now, known=False, even=self._joint is not None, gcra=self._gcra(name)
        )
        self.search = self.aimd = self.backlog = None
        self._bare = False
        self._most = self.limits.concurrency or math.inf
        return axis

    @property
    def _bounds_all(self) -> bool:
        """Whether what is in flight is bounded for all that share."""
        return self._joint is not None and (self.limits.concurrency is not None or self.aimd is not None)

    @property
    def _count(self) -> int:
        """Requests in flight: of all programs, where these are bounded together."""
        return self._joint.in_flight if self._joint is not None and self._bounds_all else self.in_flight

    def _has_room(self, now: float) -> bool:
        """Whether one more may be in flight."""
        count = self._count
        most = self._most if self.aimd is None else self.aimd.limit
        if self._crowd is not None and count + 1 > self._crowd.aimd.limit:
            return False
        if self._joint is None:
            return count + 1 <= most
        slots = self.search.slots if self.search is not None else None
        if self.search is not None and slots is not None:
            most = min(most, count + slots.limit - self.search.in_flight)
        if slots is None and not self._bounds_all:
            return count + 1 <= most
        return self._joint.fits(most - count, self.search, now)

    def _begin_one(self, need: Need, now: float) -> None:
        """A request goes."""
        self.in_flight += 1
        if self._joint is not None:
            self._joint.sent(now)
        need.at = self._count

    def _end_one(self) -> None:
        """A request is over."""
        self.in_flight -= 1
        if self._joint is not None:
            self._joint.ended()

    def _gcra(self, name: str) -> MakeGcra:
        return Steady if self._shared is None else partial(self._shared.gcra, name)

    def _hear(
        self,
        need: Need,
        headers: Mapping[str, str],
        sent: float,
        now: float,
        wall: float,
        *,
        fits: bool = False,
        refused: bool = False,
    ) -> None:
        then = wall - (now - sent)  # what is told was so when the call was let in, not when its answer was ready
        told = advertised(headers, then, requests_per_day=self._requests_per_day)
        if told is None:
            return
        for name, quota in told.quotas():
            self._follow(name, quota, need, sent, now, fits=fits, refused=refused)

    def _follow(
        self, name: str, quota: Quota, need: Need, sent: float, now: float, *, fits: bool, refused: bool
    ) -> None:
        """Keep to what a provider tells of one limit."""
        least = self.charge.cost(name, need) if fits else 1.0
        if quota.limit is not None and quota.limit * max(1.0, MINUTE / quota.window) < least:
            return  # garbage, for the call that brought it was answered, or asked to come back
        if (axis := self._axes.get(name)) is None:
            if quota.limit is None:
                return
            axis = self._add_told(name, quota.limit, quota.window, now)
            need.marks[name] = axis.taken
            axis.gcra.taken += self.in_flight * self.charge.cost(name, need)  # sent meanwhile, and not counted yet
        caution = self.charge.caution if name == "tpm" else 1.0
        tried = axis.trial is not None and axis.trial.open
        axis.heard(quota, need.marks.get(name, axis.taken), sent, now, caution=caution)
        if self._joint is not None:
            self._joint.pass_on(name, quota, now)
        if tried and axis.trial is None:
            self._tried_at = now  # it may still be refused
        if name == "tpm" and quota.remaining is not None and self._shared is None:
            if refused:
                self.charge.refused(need, quota.remaining)
            else:
                self.charge.told(need, quota.remaining, axis.per(MINUTE), sent, refills=axis.refills)
