"""One search for workers on several machines: all read what happened to everybody's requests, in the keeper's order.

It differs from `together` in that a worker hears of an event only after an exchange, and of its own events, too: not
before the keeper has put them in order do they count. So the rate that the search has found is shared like a known
limit, by leases; and a request's mark is looked up when its outcome is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush

import msgspec

from flatout.policies.pacing.aimd import Aimd
from flatout.policies.pacing.exchange import News, Read
from flatout.policies.pacing.leased import LeasedGcra
from flatout.policies.pacing.leases import ACTIVE

from .leased_search import BEGIN, JOIN, OPEN, REFUSED, TAKE, TURN, LeasedSearch, Mark
from .search import RateSearch
from .state import from_bytes, into, to_bytes
from .together import STALE

DISORDER = 0.1
"""Seconds by which an event may be heard later than others that happened after it, and still be followed in order."""

AGAIN = 10.0
"""Seconds after a search below known limits began in which no other begins: all workers find out at about the same
time that the limits are wrong."""

LATELY = 1.0
"""Seconds after a call asked the search for which this worker follows what the others say of it."""

KEEP_EVERY = 64
"""Batches from one kept state to the next."""

MARKS = 10_000
"""Requests whose marks are remembered until they end."""

OUTBOX = 10_000
"""Most events that wait for the keeper."""

QUICK, QUIET = 0.05, 0.25
"""Seconds after which a worker says what happened, while the rate grows fast and while it stays."""

LATE = 0.5
"""Seconds by which a search may hold a request that the leases let go."""

CHANGED = 0.02
"""A smaller change of the rate is not worth a new lease."""

Event = tuple[int, float, float, float, float, float]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, list[Event]]).decode


class LeasedSearches:
    """One worker's copy of the searches that all share. See `sharing.Searches`.

    Args:
        worker: its number, which no other worker has.
        gcra: makes the GCRA whose leases share a rate per second.
        own_in_flight: how many requests this worker has in flight.
        ask: makes an exchange happen soon.

    Attributes:
        rate: the search for a rate; None when there is none.
        aimd: adapts this worker's number in flight; None when nothing does.
        adapts_together: see `sharing.Searches`.
        offset: seconds by which the keeper's present is ahead of this worker's.
        urgent: whether others should hear soon what there is to say.
    """

    adapts_together = False

    def __init__(
        self,
        worker: int,
        gcra: Callable[[float, float], LeasedGcra],
        own_in_flight: Callable[[], int],
        ask: Callable[[], None],
    ) -> None:
        self._worker, self._make_gcra, self._ask = worker, gcra, ask
        self.own_in_flight = own_in_flight
        self.rate: LeasedSearch | None = None
        self.aimd: Aimd | None = None
        self.offset = 0.0
        self._gcra: LeasedGcra | None = None
        self._serial = 0
        self._outbox: list[Event] = []
        self.urgent = False
        self._used_at = -math.inf  # when a call last asked the search
        self._place, self._last, self._began = 0, -math.inf, -math.inf
        self._marks: dict[tuple[int, int], Mark] = {}
        self._early: list[tuple[float, Event]] = []  # events that are not followed yet, the first in front
        self._newest = -math.inf  # when the last event happened
        self._seen: dict[int, float] = {}  # when each worker was heard last
        self._looked_at = -math.inf  # when this one sent a request to see whether the target is open
        self._kept = (0, b"")

    # What the pacer asks for

    def join(self, now: float, rate: float | None, /) -> None:
        """Take part in the search for a rate, or begin it. Until the keeper answers, nothing goes."""
        if self.rate is None:
            self.rate = LeasedSearch(self, self.common(now), rate)
        self.tell(JOIN, now, math.nan if rate is None else rate)

    def adapt(self, now: float, most: float, /) -> None:
        """Search for a number in flight. Each worker does by itself: what is in flight elsewhere is known too late.

        It asks the keeper nevertheless: another worker may have been given a number.
        """
        self.aimd = Aimd(now, most)
        self._urge()

    def begin(self, now: float, rate: float, ceiling: float, /) -> None:
        """Begin a search for a rate below a ceiling, unless another worker just did."""
        self.tell(BEGIN, now, rate, ceiling)

    def catch_up(self, now: float, /) -> None:
        """Nothing to do: exchanges bring the news."""

    def ready_at(self, search: LeasedSearch, now: float) -> float:
        """When a request may go."""
        self._used_at = now
        if search.slots is not None:
            return -math.inf  # `LeasedMembers` decides
        held = search.held_until(now)
        if search.shut:
            return max(held + TURN * self._turn(search.looks), self._looked_at + TURN)
        if held > now + LATE:  # else the leases say it better: events are heard late
            return held
        if self._gcra is None:
            self._gcra = self._make_gcra(search.rate, now)
        elif abs(search.rate - self._gcra.rate) > CHANGED * self._gcra.rate:
            self._gcra.set_rate(search.rate, now)
        return self._gcra.ready_at(1.0)

    def sent(self, now: float, cut: int) -> int:
        """A request goes, at the rate after a cut. Returns its number."""
        self._serial += 1
        self.tell(TAKE, now, self._serial, cut)
        search = self.rate
        if search is not None and search.shut:
            self._looked_at = now
            self._urge()  # the others must not go and see, too
        elif self._gcra is not None and search is not None and search.slots is None:
            self._gcra.take(1.0, now)
        return self._serial

    def tell(self, kind: int, now: float | None, *figures: float) -> None:
        """Say what happened, at the next exchange."""
        a, b, c = (*figures, 0.0, 0.0, 0.0)[:3]
        at = self._last if now is None else self.common(now)
        if len(self._outbox) < OUTBOX:
            self._outbox.append((kind, at, self._worker, a, b, c))
        if kind in (OPEN, REFUSED, BEGIN):
            self._urge()

    def common(self, at: float) -> float:
        """An instant by the keeper's clock."""
        return at + self.offset

    def _urge(self) -> None:
        self.urgent = True
        self._ask()

    def _turn(self, looks: int) -> int:
        """How many workers may go and see before this one: they take turns."""
        there = sorted(worker for worker, at in self._seen.items() if self._newest - at < ACTIVE)
        return (there.index(self._worker) - looks) % len(there) if self._worker in there else len(there)

    # The exchanges

    def active(self, now: float) -> bool:
        """Whether calls went or waited by the search lately, or there is something to say."""
        return bool(self._outbox) or now - self._used_at < LATELY

    @property
    def slots(self) -> str:
        """The name of a limit on requests in flight that the search has found; "" if it has found none."""
        return "slots" if self.rate is not None and self.rate.slots is not None else ""

    @property
    def heartbeat(self) -> float:
        """Seconds after which to say what happened, at the latest."""
        search = self.rate
        if search is None or search.steady:
            return QUIET
        return QUICK if search.climbs else DISORDER

    def news(self) -> News:
        """What to send to the keeper. It counts as sent."""
        self.urgent = False
        batch = _encode((self._worker, self._outbox)) if self._outbox else b""
        self._outbox = []
        (kept_at, kept), self._kept = self._kept, (0, b"")
        return News(batch, self._place, kept_at, kept)

    def read(self, read: Read) -> None:
        """Follow what the keeper has put in order."""
        if read.end < self._place:  # it has lost its memory
            self._begin_again()
        elif read.kept:
            self._recall(read.kept)
        place = read.end - len(read.batches)
        for batch in read.batches:
            place += 1
            worker, events = _decode(batch)
            self._sort_in(events)
            self._seen[worker] = self._newest
            if worker == self._worker and place % KEEP_EVERY == 0:
                self._kept = place, self._state()
        self._place = read.end

    def _sort_in(self, events: list[Event]) -> None:
        """Follow events in the order in which they happened. Those of other workers may come somewhat later."""
        for event in events:
            heappush(self._early, (event[1], event))
            self._newest = max(self._newest, event[1])
        while self._early and self._early[0][0] <= self._newest - DISORDER:
            self._happened(heappop(self._early)[1])

    def _happened(self, event: Event) -> None:
        kind, at, worker, a, b, c = event
        stale = at - self._last > STALE
        now = self._last = max(self._last, at)
        if kind == JOIN:
            if stale or self.rate is None or self._began == -math.inf:
                self._restart(now, None if math.isnan(a) else a)
        elif kind == BEGIN:
            if stale or self.rate is None or not self.rate.bounded or now - self._began > AGAIN:
                self.rate, self._began = LeasedSearch(self, now, a, b), now
        elif self.rate is not None:
            self._happened_to(self.rate, kind, now, (int(worker), int(a)), b, c)

    def _happened_to(
        self, search: LeasedSearch, kind: int, now: float, request: tuple[int, int], b: float, c: float
    ) -> None:
        if kind == TAKE:
            self._marks[request] = search.happened(kind, now, (0, 0, int(b)), b, c)
            if len(self._marks) > MARKS:
                del self._marks[next(iter(self._marks))]
        else:
            heard = self._newest if kind == REFUSED else now  # the search allows for the time until refusals are heard
            search.happened(kind, heard, self._marks.pop(request, search.latest), b, c)

    def _restart(self, now: float, rate: float | None) -> None:
        """Begin a search anew. The object stays the same: requests in flight belong to it."""
        self._began = now
        self._marks.clear()
        if self.rate is None:
            self.rate = LeasedSearch(self, now, rate)
        else:
            into(self.rate, RateSearch(now, rate))

    def _begin_again(self) -> None:
        """The log is lost: offer to go on with what is known."""
        self._began = -math.inf
        if self.rate is not None:
            self._outbox.insert(0, (JOIN, self._last, self._worker, self.rate.rate, 0.0, 0.0))

    def _state(self) -> bytes:
        marks = [(*request, *mark) for request, mark in self._marks.items()]
        others = [self._newest, self._early, list(self._seen.items()), marks]
        return to_bytes([self._last, self._began, self.rate, *others])

    def _recall(self, kept: bytes) -> None:
        """Go on from a kept state."""
        self._last, self._began, search, self._newest, early, seen, marks = from_bytes(kept)
        self._early = [(at, tuple(event)) for at, event in early]
        self._seen = dict(seen)
        self._marks = {(worker, serial): (mark, ended, cut) for worker, serial, mark, ended, cut in marks}
        if search is not None:
            self.rate = self.rate or LeasedSearch(self, 0.0, 1.0)
            into(self.rate, search)
