"""The pacer: decides when a target may be sent the next call. It is pure: callers hand in the time.

Why not back off call by call: with hundreds of workers that each sleep out their own Retry-After, about half of all
requests are refused, because the workers know nothing of each other. A limit belongs to a target, so one pacer holds it
for all callers. Its parts:

- `bounds`: what bounds the requests: known limits, the search for an unknown one, how many may be in flight at once;
- `trials`: how much of known limits may go before it is earned;
- `pause` and `probe`: after a refusal no call goes for a time, and then one goes first.

This module tells the life of one attempt. It asks (`ready_at`) and goes (`admit`); then it was answered, has failed or
was refused.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from flatout.values import Limits, Usage

from .advertised import exaggerates
from .aimd import Aimd
from .bounds import Bounds
from .charge import Charge, Reserve
from .discovery import refused_unknown
from .pause import FIRST_DOUBT, Pause, Wait
from .probe import Probe
from .sharing import Shared
from .strays import own_wait
from .tokens import Need
from .trials import NO_DEPTHS, Trials
from .unknown import RateSearch

STRAY = 2.0
"""A refusal of what was tried ahead concerns its call alone if it names at most this many seconds."""


class Pacer:
    """The limits of one target, and how much of them is used.

    Args:
        limits: what the target allows, as far as the user knows.
        now: the present, in seconds of any monotonic clock.
        reserve: how the provider charges tokens.
        self_hosted: where neither rate nor concurrency is known, adapt the concurrency.
        probe: whether the first call goes alone; see `probe`.
        requests_per_day: whether the provider's headers on requests count by the day.
        shared: what other processes hold in common with this one.
        learnt: requests per second that an earlier run found, where no limit is known.
        even: whether to try nothing ahead of the limits: an earlier run was refused that, or runs remember nothing.
        depths: seconds of each limit's rate that earlier runs could take ahead.
        idle: seconds since everything that they sent was earned.

    Attributes:
        charge: how the provider charges tokens, as far as answers tell.
        exclusive: enter it around every call of the pacer; it keeps other programs out.
        recheck: seconds after which a call that waits should ask again.
        shares: whether other processes hold the limits in common with this one.
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
        depths: Mapping[str, float] = NO_DEPTHS,
        idle: float = math.inf,
    ) -> None:
        self.charge = Charge(reserve)
        self.exclusive: AbstractContextManager[None] = shared if shared is not None else nullcontext()
        self.recheck = math.inf if shared is None else shared.recheck
        self.shares = shared is not None
        self._pause = Pause(shared)
        self._trials = Trials(even, depths, idle)
        self._bounds = Bounds(
            limits,
            now,
            self.charge,
            self._trials,
            self_hosted=self_hosted,
            requests_per_day=requests_per_day,
            shared=shared,
            learnt=learnt,
        )
        self._axes, self._discovery, self._in_flight = self._bounds.axes, self._bounds.discovery, self._bounds.in_flight
        self._probe = Probe(on=probe and self.search is None)

    def __repr__(self) -> str:
        known = [*self._axes.by_name.values(), *filter(None, (self.search, self.aimd))]
        return f"Pacer(in_flight={self.in_flight}, {', '.join(map(repr, known))})"

    @property
    def limits(self) -> Limits:
        """What the target allows, as far as the user knows."""
        return self._bounds.limits

    @property
    def in_flight(self) -> int:
        """This program's requests in flight."""
        return self._in_flight.own

    @property
    def search(self) -> RateSearch | None:
        """The search for an unknown rate, while there is one."""
        return self._discovery.search

    @property
    def aimd(self) -> Aimd | None:
        """What adapts the number in flight, where nothing is known."""
        return self._discovery.aimd

    @property
    def paused_until(self) -> float:
        """Until when no call may go."""
        return self._pause.until

    @property
    def surely_paused_until(self) -> float:
        """Until when surely no call may go; `-inf` for a doubted pause, which may end at any time."""
        return self._pause.surely_until

    @property
    def counts_tokens(self) -> bool:
        """Whether a call's tokens matter; if not, callers need not estimate them."""
        return self._axes.counts_tokens

    @property
    def overruled(self) -> bool:
        """Whether the provider refuses again and again what known limits allow: others seem to use them too."""
        return self._bounds.overruled

    @property
    def even(self) -> bool:
        """Whether the next run should spend the limits evenly from the start."""
        return self._trials.even

    def depths(self) -> tuple[dict[str, float], float]:
        """Seconds of each limit's rate that went ahead, and seconds until everything that was sent is earned."""
        return self._trials.found(self._axes.by_name)

    @property
    def knows_requests(self) -> bool:
        """Whether a limit of requests, per minute or per day, is known."""
        return self._axes.holds("requests")

    def found(self) -> dict[str, float]:
        """The limits in force that the user did not give: advertised, or found by trying.

        Their names are those in `Limits`; they count per minute, or per day.
        """
        return self._bounds.found()

    def allows(self) -> dict[str, float]:
        """The limits in force, by their names in `Limits`: per minute or day, and the most in flight at once."""
        return self._bounds.allow()

    @property
    def tries_concurrency(self) -> bool:
        """Whether the most in flight at once is found by trying: the user gave none, or a larger one."""
        return self._bounds.tries_concurrency

    def scaled(self, share: float) -> Pacer:
        """A copy with nothing in flight and this share of every limit: what it does can be tried out."""
        tried = copy.deepcopy(self)
        tried._bounds.scale(share)
        return tried

    def change(self, limits: Limits, now: float) -> None:
        """The user gives other limits while calls are in flight: from now on these hold.

        What was sent stays counted, so a limit that is lowered below its use lets no call go until it fits. A limit per
        time ends the search for it. If nothing is known any more, a search begins.

        Args:
            limits: all limits that hold from now on. ``burst``, ``adaptive`` and ``shared`` cannot change.
            now: the present.
        """
        self._bounds.change(limits, now)

    # A call asks, and goes.

    def never(self, need: Need) -> str | None:
        """Why a call can never be admitted; None when it can."""
        return self._axes.never(need)

    def costs(self, need: Need) -> Mapping[str, float]:
        """What a call takes of each known limit, by the names of `flatout.Limits`."""
        return self._axes.costs(need)

    def ready_at(self, need: Need, now: float) -> tuple[float, str]:
        """When a call may go, and what holds it: a cause of `flatout.events.WAITS`.

        `inf` means that no time will help, only another call's end.
        """
        if self.shares:
            self._bounds.catch_up(now)
        if not self._in_flight.has_room(now):
            return math.inf, "concurrency"
        at = paused_until = self._pause.until
        cause = "pause"
        if self._probe.until > at and self._probe.on and self._in_flight.own:
            at, cause = self._probe.until, "probe" if self._pause.began == -math.inf else "pause"
        at, cause = self._axes.ready_at(need, now, at, cause)
        search = self._discovery.search
        if search is not None and (ready := search.ready_at(now)) > at:
            at, cause = ready, search.cause
        if paused_until > now:
            return min(at, math.inf if self._in_flight.own else self._pause.early_at), "pause"
        return at, cause

    def admit(self, need: Need, now: float) -> None:
        """Take a call's share of every limit. The caller has asked `ready_at`."""
        self._in_flight.sent(need, now)
        self._probe.sent(now)
        self._axes.take(need, now)
        search = self._discovery.search
        if search is not None:
            need.search, need.ended = search, search.ended
            need.mark = search.take(now)

    # It was answered, or has failed.

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
        if self.shares:
            self._bounds.catch_up(now)
        self._in_flight.answered(need, now - sent, now)
        if self._pause.answered(sent, now):
            self._axes.begin(now)
        if self._probe.on and sent >= self._pause.until:
            self._probe.end()
        self._bounds.reliance.answered()
        search = self._discovery.search
        if search is not None and need.search is search:
            search.accepted(need.mark, need.ended, now)
        self._axes.settle(need, usage, now)
        if self._axes.hear(headers, need, sent, now, wall, self._in_flight.own, fits=True):
            self._bounds.know_more()
        self._trials.answered(self._axes.by_name, need, sent)

    def failed(
        self,
        need: Need,
        now: float,
        *,
        headers: Mapping[str, str] | None = None,
        sent: float = 0.0,
        wall: float = 0.0,
    ) -> None:
        """An admitted call failed or was cancelled, for another reason than our speed."""
        self._bounds.catch_up(now)
        self._in_flight.ended(need)
        if self.search is not None and need.search is self.search:
            self.search.over()
        if headers is not None and self._axes.hear(headers, need, sent, now, wall, self.in_flight):
            self._bounds.know_more()

    def unsent(self, need: Need, now: float) -> None:
        """An admitted call was not sent after all: give back what it took."""
        self.failed(need, now)
        self._axes.give_back(need, now)

    def pushed_back(self, need: Need, sent: float, now: float) -> bool:
        """A call that has failed met a server without capacity. Returns whether fewer in flight would be no help."""
        return self._in_flight.pushed_back(need, sent, now)

    def went_down(self, now: float) -> None:
        """The target answers nothing: its recent push-backs meant that it was going down, and not that it was full."""
        self._in_flight.take_back(now)

    def rest(self, seconds: float, now: float) -> float:
        """A call found the target closed for long (a quota): all calls pause. Returns until when."""
        if self._pause.begin(now + seconds, now, now):
            self._rest()
        return self.paused_until

    # Or it was refused for our speed.

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
        self._bounds.catch_up(now)
        self._in_flight.ended(need)
        short = retry_after is None or retry_after <= STRAY
        tried = self._trials.refused(self._axes.by_name, need, sent, now, short=short)
        if not tried:
            self._axes.keep_seconds()
        exaggerated = headers is not None and exaggerates(headers)
        if headers is not None and self._axes.hear(
            headers, need, sent, now, wall, self.in_flight, fits=True, refused=True
        ):
            self._bounds.know_more()
        alone = own_wait(retry_after) if tried and short else None
        if alone is None and self.search is None:
            alone = self._bounds.reliance.alone(retry_after)
        if alone is not None:
            return Wait(min(alone, FIRST_DOUBT) if exaggerated else alone)
        if named is not None and self._axes.name(named, need, sent, now, self.in_flight):
            self._bounds.know_more()
        self._bounds.refused(need, sent, now, news=sent >= self._pause.began)
        search = self.search
        if search is not None and need.search is search:  # else the call was sent before this search began
            return refused_unknown(search, need, retry_after, sent, now)
        return Wait(until=self._refused_known(retry_after, sent, now, exaggerated=exaggerated))

    def _refused_known(self, retry_after: float | None, sent: float, now: float, *, exaggerated: bool) -> float:
        """A call was refused within known limits: all calls wait. Returns until when."""
        slot_frees = retry_after is None and self.aimd is not None and self.in_flight  # which says when to go on
        paused = retry_after is None and sent < self._pause.began  # already, by the same refusals
        if not slot_frees and not paused:
            by_day = "rpd" in self._axes.by_name
            if self._pause.refused(retry_after, sent, now, by_day=by_day, exaggerated=exaggerated):
                self._rest()
        return self.paused_until

    def _rest(self) -> None:
        """A pause has begun: afterwards calls go one after the other, not all at once."""
        self._axes.resume(self._pause.until)
        self._probe.begin()
