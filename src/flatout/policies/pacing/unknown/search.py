"""Finds the rate of a target that advertises no limit: climb until it refuses, hold just below, look above at times.

Four ideas carry it:

- *The requests accepted between two refusals, per second, are the limit's refill*, however deep its bucket is.
- *A window accepts nothing for a long time when it is used up.* What it accepted before that is its limit.
- *A limit refuses a larger share at a higher rate; strays do not.* So the search bears lone refusals. In a look some
  requests go faster: if most of those are refused, it was the limit.
- *A limit on requests in flight refuses while that many are in flight*, whatever the rate: see `slots`.

The search is in one phase at a time:

- `climb`: the rate grows until refusals come in a row;
- *hold* (`steady`): the rate stays a margin below the known limit;
- *look* (`steady`): the rate is a step higher, until that is refused or accepted for long enough;
- `company`: others use the limit too, and the rate is a share of it;
- `lossy`: refusals do not depend on the rate, which grows while that brings more.

The phases share what is `known`. While nothing is accepted, the target is `shut`: one request at a time goes to see.
"""

from __future__ import annotations

import math

from .climb import Climb
from .company import Among
from .known import WINDOW, Known, Phase, Refusal
from .shut import Shut
from .slots import Slots
from .steady import Hold, Look


class RateSearch:
    """The requests per second of one target, as far as they are known by trying.

    Args:
        now: the present.
        rate: requests per second that the target is known to bear; None when nothing is known.
        ceiling: most requests per second that known limits allow. The search never exceeds it.

    Attributes:
        slots: bounds the requests in flight, where that is the limit; else None.
    """

    def __init__(self, now: float, rate: float | None = None, *, ceiling: float = math.inf) -> None:
        self._known = known = Known(now, math.inf if rate is None else rate, ceiling)
        self._phase: Phase = Climb(known, now) if rate is None else Hold(known, now)
        self._shut: Shut | None = None
        self._opened = -math.inf  # when the last window began
        self.slots: Slots | None = None

    def __repr__(self) -> str:
        if self.slots is not None:
            return f"RateSearch({self.slots!r})"
        how = "shut" if self.shut else type(self._phase).__name__.lower()
        return f"RateSearch({self.rate:.4g}/s, {how}{', by windows' * bool(self._known.window)})"

    @property
    def rate(self) -> float:
        """Requests per second that go now."""
        return self._phase.rate

    @property
    def found(self) -> bool:
        """Whether the target's limit on the rate was met."""
        return self._known.ledger.any_refused and not self.climbs and self.slots is None

    @property
    def bounded(self) -> bool:
        """Whether it searches below limits that are known."""
        return self._known.ceiling < math.inf

    @property
    def climbs(self) -> bool:
        """Whether the limit was not met yet."""
        return isinstance(self._phase, Climb)

    @property
    def shut(self) -> bool:
        """Whether the target seems to accept nothing."""
        return self._shut is not None

    @property
    def cause(self) -> str:
        """What a call waits for; see `flatout.events.WAITS`."""
        if self.slots is not None:
            return "concurrency"
        return "pause" if self.shut else "requests"

    @property
    def mark(self) -> int:
        """Requests sent so far."""
        return self._known.ledger.sent

    @property
    def ended(self) -> int:
        """Requests that are over, without those refused; hand it back with `accepted` and `refused`."""
        return self._known.ledger.ended

    @property
    def in_flight(self) -> int:
        """Requests that are in flight, as far as is known."""
        return self._known.ledger.in_flight

    def ready_at(self, now: float) -> float:
        """When the next request may go. Also notices when a request that went to see was not refused in time.

        `inf` means that only another request's end helps.
        """
        if self.slots is not None:
            return -math.inf if self.in_flight < self.slots.limit else math.inf
        if self._shut is not None:
            at = self._shut.ready_at(self._known.grace)
            if not self._shut.out or at > now:
                return at
            self._open(self._shut, now)
        return self._phase.ready_at(now)

    def take(self, now: float) -> int:
        """A request goes. Returns its mark; hand it back with `accepted` and `refused`."""
        known = self._known
        others = known.ledger.in_flight
        known.ledger.sent += 1
        if self.slots is not None:
            self.slots.sent(self.mark, others)
        elif self._shut is not None:
            self._shut.look(self.mark, now)
        else:
            phase = self._phase = self._phase.take(now) or Hold(known, now)
            known.tat = max(known.tat, now) + phase.apart() / phase.rate
            known.ledger.note(now)
        return self.mark

    def over(self) -> None:
        """A request has ended without an answer or a refusal."""
        self._known.ledger.ended += 1

    def accepted(self, mark: int, ended: int, now: float) -> None:
        """A request was answered. ``mark`` is what its `take` returned, and ``ended`` was read before."""
        known = self._known
        known.met = True
        known.ledger.ended += 1
        if self.slots is not None:
            self.slots.taken()
            return
        known.signs.taken(known.ledger.accepted_before(mark) - ended)
        if self._shut is not None and mark == self._shut.mark and self._shut.out:
            self._open(self._shut, now)

    def refused(self, mark: int, ended: int, sent: float, retry_after: float | None, now: float) -> bool:
        """A request was refused. Returns whether that concerns all requests. Marks are as for `accepted`."""
        known = self._known
        known.met = True
        known.rtt += (0.2 if known.ledger.any_refused else 1.0) * (now - sent - known.rtt)
        accepted = known.ledger.refused(mark)
        known.recent.append((sent, accepted))
        if self.slots is not None:
            if self.slots.refused(mark, accepted - ended):
                self._give_up_slots(now)
        elif self._shut is not None:
            if self._shut.out and mark == self._shut.mark:
                self._shut.refused(retry_after, now)
        elif self._is_news(mark):
            self._follow(Refusal(mark, sent, accepted, accepted - ended, retry_after, now))
        return self.shut

    def _is_news(self, mark: int) -> bool:
        """Whether a refused request was sent at the present rate."""
        return mark > self._known.cut

    def _follow(self, refusal: Refusal) -> None:
        """Draw the conclusion from a refusal: nothing, another rate, a pause, or another kind of limit."""
        known = self._known
        known.count(refusal)
        slots = 0
        if known.run == 1.0 and isinstance(self._phase, Hold | Among):
            slots = known.signs.refused(refusal.in_flight)
        if slots:
            self.slots, known.suspicion.twins = Slots(slots, self.mark), None
        elif isinstance(after := self._phase.refused(refusal), Shut):
            self._shut, known.cut = after, self.mark
        else:
            self._phase = after

    def _give_up_slots(self, now: float) -> None:
        """The limit is not on requests in flight."""
        known, self.slots = self._known, None
        known.signs.were_wrong()
        self._phase = Hold(known, now)

    def _open(self, shut: Shut, now: float) -> None:
        """A request that went to see was accepted."""
        known, self._shut = self._known, None
        lately = shut.accepted - known.ledger.accepted_until(max(self._opened, shut.since - WINDOW))
        if shut.seconds >= 2.0 and shut.looks > 1 and lately * shut.seconds > 3.0 * WINDOW:
            self._begin_window(shut, lately)
        else:
            self._phase = self._phase.reopened(shut) or Hold(known, shut.sent)
        known.used_up = (shut.since, shut.accepted)
        known.begin()
        known.tat = max(now, shut.sent + 1.0 / self.rate)

    def _begin_window(self, shut: Shut, accepted: int) -> None:
        """A new window began; the one before accepted this many requests."""
        known = self._known
        if isinstance(self._phase, Look) and known.window:
            self._phase.reopened(shut)
        else:
            known.limit = accepted / min(WINDOW, shut.sent - max(self._opened, known.ledger.began))
        known.wait_longer()
        known.window, known.rough = accepted, False
        known.suspicion.twins = None
        self._opened = shut.sent
        self._phase = Hold(known, shut.sent)
