"""A worker's end of the limits that workers on several machines share.

It stands where the file of one machine stands (`sharing.Shared`). The worker's own knowledge answers at once, and an
exchange with the keeper now and then keeps it right: `ask` says what to send, `granted` or `failed` what came of it.
Like the keeper, it is pure; `flatout.cluster` carries the messages.

While the keeper is away, each worker goes on with its share of the limits, and looks for the keeper. It never uses
more: a worker that was told no share sends nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import TracebackType

from .ahead import MINUTE
from .axis import CAUSES, DAY, USE
from .exchange import CONCURRENCY, Ask, Granted, News, Read, Told
from .gcra import BURST
from .leased import LeasedGcra
from .leased_slots import LeasedMembers
from .leases import ACTIVE, HEARTBEAT
from .tokens import Estimator
from .turns import PATIENT
from .unknown.leased import LeasedSearches
from .wanted import LEASE, Next, Wanted, wanted

LOOK = 0.25
"""Seconds between two looks for a keeper that is away."""

FORGOTTEN = ACTIVE + PATIENT
"""Seconds for which the keeper may still go by a worker's former limit after a raise, as if another one had it."""

HEADROOM = 0.01
"""Seconds, beside two exchanges, before the end of a lease at which to ask for the next."""


NOTHING = Wanted(0.0, 0.0)
"""What is asked of a limit while no call needs it."""


class Team:
    """What a worker knows of the limits that it shares. See `sharing.Shared`.

    Args:
        worker: its number, which no other worker has.
        clock: tells the present.
        ask: makes an exchange happen soon. It is called often.

    Attributes:
        members: the requests in flight.
        recheck: see `sharing.Shared`.
        waiting: tells how many calls wait.
        costs: tells what each of them takes, by limit, the next one first. It takes 1 of a limit that is not named. Its
            argument says whether to guess anew what the leases do not hold yet.
        estimator: learns what calls take, and shares that; None where calls take no tokens.
        away: whether the keeper is away.
        active: how many workers there are, as far as is known.
        share: this worker's share of all limits while the keeper is away.
        binding: by limit, the lower one of another worker that holds for this one, too; see `exchange.Given`.
    """

    recheck = math.inf

    def __init__(self, worker: int, clock: Callable[[], float], ask: Callable[[], None]) -> None:
        self._worker, self._clock, self._ask = worker, clock, ask
        self.members = LeasedMembers(ask)
        self._searches = LeasedSearches(worker, self._search_gcra, lambda: self.members.own, ask)
        self.waiting: Callable[[], int] = lambda: 0
        self.costs: Callable[[bool], Iterable[Mapping[str, float]]] = lambda anew: ()
        self.estimator: Estimator | None = None
        self.away = False
        self.active, self.share = 0, 0.0
        self.binding: Mapping[str, float] = {}
        self._gcras: dict[str, LeasedGcra] = {}
        self._cells: dict[str, float] = {}  # what the provider told, by the names of `told.Told`
        self._followed: dict[str, float] = {}  # units per second that only others were given
        self._following: dict[str, float] = {}  # those by which this worker goes: its pacer looks when calls come
        self._version = 0.0
        self._paused_until = -math.inf
        self._pause_news = False
        self._closed_until = -math.inf  # until when the keeper grants nothing
        self._number = 0  # of exchanges so far
        self._sent_at = self._heard_at = -math.inf
        self._known_at = -math.inf  # when the last message was sent that the keeper answered
        self._told_at = -math.inf  # what the provider told by then was passed on
        self._took = 0.0  # seconds of an exchange, lately
        self._using = 0.0  # how many workers the limits are divided among; 0 before that is known
        self._again_at = -math.inf  # when to ask again for leases
        self._beat = HEARTBEAT  # seconds after which the keeper should hear this worker

    def __enter__(self) -> None:
        """Nothing to do: no other program changes this worker's knowledge."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to do."""

    # What the pacer asks for: see `sharing.Shared`

    @property
    def paused_until(self) -> float:
        """Until when nothing may be sent."""
        return self._paused_until

    @paused_until.setter
    def paused_until(self, until: float) -> None:
        self._paused_until = until
        self._pause_news = True
        self._drop()
        self._ask()

    def gcra(self, cell: str, rate: float, burst: float, now: float, keeps: float = ACTIVE) -> LeasedGcra:
        """A GCRA that admits what the keeper grants."""
        made = self._gcras[cell] = LeasedGcra(cell, rate, burst, now, self._clock, self._ask_open, keeps)
        return made

    def together(self) -> LeasedSearches:
        """The searches for an unknown limit that all workers share."""
        return self._searches

    def _search_gcra(self, rate: float, now: float) -> LeasedGcra:
        """One for a rate that a search has found: all follow the search, so no worker's lower rate holds for others."""
        return self.gcra("search", rate, BURST, now, keeps=0.0)

    def read(self, cell: str) -> float:
        """A cell's number."""
        return self._cells.get(cell, 0.0)

    def write(self, cell: str, value: float) -> None:
        """Change a cell."""
        self._cells[cell] = value

    # The exchanges

    def due_at(self, now: float) -> float:
        """When to look whether there is need of an exchange, whatever happens."""
        if self.away:
            return max(now, self._sent_at + LOOK)
        if self.waiting() and self._closed_until > now:
            return self._closed_until
        return min(self._turn_at(now), self._must_at(now))

    def _turn_at(self, now: float) -> float:
        """When this worker may ask for what it was not granted."""
        if self._again_at > now:
            return self._again_at
        return self.members.asks_at if self.members.hungry else math.inf

    def _must_at(self, now: float) -> float:
        """When the next exchange is due, though this worker may need nothing."""
        if self._searches.active(now) and (self.waiting() or self.members.own):
            return self._heard_at + self._searches.heartbeat
        return self._heard_at + self._beat

    def needs(self, now: float) -> bool:
        """Whether an exchange would bring anything now."""
        if self.away:
            return now >= self._sent_at + LOOK
        if self._pause_news or self._searches.urgent or now >= self._must_at(now):
            return True
        if self._closed_until > now:
            return False
        if self.members.gives_up or any(each.settles for each in self._gcras.values()):
            return True
        return now >= self._again_at and (self.members.needs(now) or bool(self._next().units))

    def ask(self, now: float, *, leaves: bool = False) -> tuple[Ask, News]:
        """What to tell the keeper."""
        ask = self._asked(now, leaves=leaves)
        return ask, self._searches.news()

    def _asked(self, now: float, *, leaves: bool) -> Ask:
        waiting = 0 if leaves or self.away else self.waiting()
        if leaves:
            self._drop()
        going = self._next() if waiting else Next({}, 0, 0)
        pause = max(0.0, self._paused_until - now) if self._pause_news else -1.0
        since = now - self._known_at if self._is_known(now) else -1.0
        self._sent_at, self._pause_news = now, False
        self._number += 1
        return Ask(
            worker=f"{self._worker:x}",
            since=since,
            share=self.share,
            pause=pause,
            alone=self.away,
            leaves=leaves,
            cells=tuple(
                each.asks(*going.units.get(name, NOTHING), follows=self._goes_by(name, each.rate))
                for name, each in self._gcras.items()
            ),
            slots=self.members.wants(going, self._searches.slots or CONCURRENCY),
            told=self._told(),
            version=self._version,
            number=self._number,
            more=waiting > going.held + going.asked,
            usual=(self.estimator.usual,) if self.estimator is not None else (),
        )

    def _next(self) -> Next:
        """The calls that go next, of those that may be in flight. One that waits for a slot has looked at no limit."""
        gcras = {name: each for name, each in self._gcras.items() if each.looked or self.members.hungry}
        if not gcras:
            return Next({}, self.waiting(), 0)
        return wanted(
            islice(self.costs(not any(each.held for each in gcras.values())), self.members.room),
            rates={name: each.rate for name, each in gcras.items()},
            held={name: each.held for name, each in gcras.items()},
            seconds=(LEASE + self._took) / self._using if self._using else 0.0,
            lacks=any(each.lacks for each in gcras.values()),
        )

    def granted(self, ask: Ask, granted: Granted, read: Read, now: float) -> None:
        """The keeper answered."""
        self._searches.offset = granted.now - now
        self._searches.read(read)
        if self.away:
            self.away = False
            for each in self._gcras.values():
                each.go_together(was_away=granted.wait > 0.0)
        self._known_at = self._sent_at
        took = now - self._sent_at
        self._took += (took - self._took) * (0.1 if self._took else 1.0)
        self._heard_at, self.share, self.active = now, granted.share, int(granted.active)
        self._using, self._beat = granted.using, granted.beat
        if any(each.want > 0.0 for each in ask.cells):
            self._again_at = now + granted.again
        self._closed_until = now + max(granted.pause, granted.wait)
        if self.estimator is not None:
            for usual in granted.usual:
                self.estimator.hear(usual)
        self._follow_pause(granted.pause, now)
        self._follow_told(granted, now)
        self._follow_leases(ask, granted, now)
        self._follow_given(ask, granted, now)
        self.members.granted(granted.slots, granted.others, granted.beat, now)

    def failed(self, ask: Ask, now: float) -> bool:
        """The keeper did not answer. Returns whether that is news."""
        for gcra, cell in zip(self._gcras.values(), ask.cells, strict=False):
            gcra.unheard(cell)
        self._pause_news = self._pause_news or ask.pause >= 0.0
        if ask.told:
            self._told_at = -math.inf
        if self.away:
            return False
        self.away = True
        share = self.share if self._is_known(now) else 0.0
        for gcra in self._gcras.values():
            gcra.go_alone(share, now + LEASE)
        self.members.go_alone(now)
        return True

    def _is_known(self, now: float) -> bool:
        """Whether a keeper that kept its memory has not forgotten this worker."""
        return now < self._heard_at + self._beat + ACTIVE

    def _ask_open(self) -> None:
        """Ask, unless nothing is granted now."""
        if self._closed_until <= self._clock():
            self._ask()

    def _drop(self) -> None:
        for each in self._gcras.values():
            each.drop()

    def _follow_pause(self, seconds: float, now: float) -> None:
        until = now + seconds if seconds > 0.0 else min(self._paused_until, now)
        if self._pause_news:  # it began or ended during the exchange
            return
        if until > max(now, self._paused_until) + HEADROOM:
            self._drop()
        self._paused_until = until

    def _follow_leases(self, ask: Ask, granted: Granted, now: float) -> None:
        binding = {}
        leases = list(zip(self._gcras.values(), ask.cells, granted.leases, strict=False))
        end = max((gcra.end_of(lease, now) for gcra, _, lease in leases), default=now)
        for gcra, cell, lease in leases:
            gcra.granted(lease, end, now)
            gcra.lead = HEADROOM + 2.0 * self._took
            if lease.rate < cell.rate and not cell.follows and now >= gcra.raised_at + FORGOTTEN:
                binding[cell.name] = lease.rate
        self.binding = binding

    # What others were given: see `exchange.Given`

    def _follows(self, name: str, rate: float) -> bool:
        """Whether this worker has a rate from others alone."""
        return math.isclose(self._followed.get(name, 0.0), rate)

    def _goes_by(self, name: str, rate: float) -> bool:
        """Whether a rate of this worker is what others were given, or still is what they were given before."""
        if self._follows(name, rate):
            self._following[name] = rate
        return self._following.get(name) == rate

    def _follow_given(self, ask: Ask, granted: Granted, now: float) -> None:
        given = {each.name: each.most for each in granted.given}
        if (most := given.pop(CONCURRENCY, None)) is not None:
            self._follow_most(ask, most, now)
        for cell, lease in zip(ask.cells, granted.leases, strict=False):
            if cell.follows:
                given[cell.name] = lease.rate
        for name in CAUSES:
            if (rate := given.get(name)) is not None and not self._follows(name, rate):
                window = DAY if name == "rpd" else MINUTE
                self._followed[name] = rate
                self._learn(name, rate * window / USE, window, now)

    def _follow_most(self, ask: Ask, most: float, now: float) -> None:
        own = next((each.most for each in ask.slots if not each.follows), math.inf)
        if most < own < math.inf:
            if now >= self.members.raised_at + FORGOTTEN:
                self.binding = {**self.binding, CONCURRENCY: most}
        elif own == math.inf:
            self.members.given = most

    # What the provider told: see `told.Told`

    def _told(self) -> tuple[Told, ...]:
        if self.read("told_at") <= self._told_at:
            return ()
        self._told_at = self.read("told_at")
        limits = ((name, self.read(f"{name}_limit"), self.read(f"{name}_window")) for name in CAUSES)
        return tuple(
            Told(name, limit, window)
            for name, limit, window in limits
            if limit and window and not self._follows(name, limit * USE / window)
        )

    def _follow_told(self, granted: Granted, now: float) -> None:
        if granted.version == self._version:
            return
        self._version = granted.version
        for each in granted.told:
            self._learn(each.name, each.limit, each.window, now - each.age)
            self._told_at = self._cells["told_at"]

    def _learn(self, name: str, limit: float, window: float, at: float) -> None:
        """Another worker knows a limit, in units per window. The pacer takes it for one that the provider told."""
        self._cells[f"{name}_limit"], self._cells[f"{name}_window"] = limit, window
        self._cells["told_at"] = max(self._cells.get("told_at", -math.inf), at)
        self._cells["told"] = self.read("told") + 1.0
