"""Finds the rate of a target that tells no limit: climb until it refuses, hold just below, look above at times.

Four ideas carry it:

- *What a limit accepts between two refusals, over the time between them, is its refill*, however deep its bucket.
- *A window shows itself by a long time in which nothing is accepted.* What it accepted before is its limit.
- *A limit refuses more of what is sent faster; strays do not.* So lone refusals are borne, and in a look some requests
  go faster: if most of those are refused, it was the limit.
- *A number of slots refuses whatever comes while as many are in flight*, whatever the rate: see `slots`.

There are four phases. In *climb* the rate grows until refusals come in a row. In *hold* it stays a margin below what is
known. In *look* it is a step higher, until that is refused or was accepted for long enough. And while nothing is
accepted the target is *shut*: one request at a time goes to see.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal, NamedTuple

from .company import Company, Suspicion, Twins
from .ledger import Ledger
from .lossy import FALLS, LESS, Lossy
from .shut import Shut
from .slots import Signs, Slots

FIRST, START = 20, 64
"""Requests that go at once; and the most before the first outcome, or the first second: a wrong key costs no more."""
GROWTH, TOP = 20.0, 100.0
"""The climb's growth in a second; and the requests per second above which it grows by as much, not by as many times."""
ALARM, MOST = 3.0, 0.15
"""Refusals in a run that are everybody's affair, of which every accepted request takes back this share. So it is also
the largest share of strays that can be borne, and the widest margin."""
MARGIN, WIDER, SOON = 0.02, 2.0, 400
"""The share of a rate that is left unused; and its growth when the limit is met in a hold so few requests after the
last time, although it was known well: then the limit itself is unsteady. After a longer hold it shrinks by as much."""
STEP, LEAP = 0.04, 0.5
"""How much more is sent in a look, at least; and at most, as where refusals must be told from strays."""
STAND, TIMES, LONGEST = 32, 8, 4_000
"""Requests from the first refusals to a look above; how many times as many after each look that found the limit where
it was; and the most."""
STRAYS = 0.003
"""The share of strays from which on one refusal in a look says nothing."""
FEW = 3
"""Refusals in a hold that show that its limit is too high; requests above a limit that show that it is too low."""
LONG = 10.0
"""Seconds in which nothing is accepted that show a window, where others may have taken what was there."""
SHARED = 2.5
"""Requests per second below which too little is refused to tell whether others use the limit too."""
ROUGH = 4
"""Requests that are accepted at each rate while only its order of magnitude is known; each rate is then doubled."""
WINDOW, DEEPEST = 60.0, 120.0
"""Seconds over which providers count; and of the deepest bucket that is thought of, in seconds of its refill."""
AHEAD = 0.02
"""Seconds by which a request may be early, since timers wake up late."""
SLOWEST = 1.0 / 60.0
"""Requests per second below which no rate is ever held."""


class Fall(NamedTuple):
    """What went before a limit fell: the limit, and the requests accepted per second."""

    limit: float
    accepted: float


class RateSearch:
    """The requests per second of one target, as far as they are known by trying.

    Args:
        now: the present.
        rate: requests per second that are known to be borne; None when nothing is known.
        ceiling: the most that limits allow that are known, whatever is found.

    Attributes:
        rate: requests per second that go now.
        slots: what bounds the requests in flight, where that is the limit; else None.
    """

    __slots__ = (
        "_anchor",
        "_base",
        "_began",
        "_borne",
        "_ceiling",
        "_company",
        "_cut",
        "_doubtless",
        "_ends",
        "_excess",
        "_fell",
        "_first",
        "_grown",
        "_heard",
        "_held",
        "_held_from",
        "_last",
        "_ledger",
        "_limit",
        "_look",
        "_lossy",
        "_margin",
        "_met",
        "_narrow",
        "_opened",
        "_phase",
        "_recent",
        "_rough",
        "_rtt",
        "_run",
        "_settled",
        "_shut",
        "_signs",
        "_stand",
        "_started",
        "_step",
        "_strays",
        "_surprise",
        "_suspicion",
        "_tat",
        "_top",
        "_window",
        "rate",
        "slots",
    )

    def __init__(self, now: float, rate: float | None = None, *, ceiling: float = math.inf) -> None:
        self._ceiling = ceiling
        self._phase: Literal["climb", "hold", "look"] = "climb"
        self.rate = self._limit = min(ceiling, FIRST * math.log(GROWTH) if rate is None else rate)
        self._ledger = Ledger(now, WINDOW)
        self._tat = self._grown = now
        self._started: float | None = None
        self._met = False  # whether any request had an outcome
        self._rtt = 0.1  # seconds until a refusal comes
        # The run of refusals: those that accepted requests have not made up for.
        self._run, self._last = 0.0, 0  # how many, and the mark of the last
        self._first = (now, 0)  # when the run began, and what had been accepted by then
        self._cut = 0  # the last request that was sent before the rate changed: its refusal is no news
        self._recent: deque[tuple[float, int]] = deque(maxlen=9)  # the same as `_first` of refusals in the climb
        # What is known of the limit.
        self._anchor = (-math.inf, 0)  # when it was last known to be used up, and what had been accepted by then
        self._rough = False  # whether only its order of magnitude is known
        self._settled = False  # whether it was found where it was expected
        self._margin = MARGIN
        self._surprise = 0  # the last request before it was last met in a hold
        self._window = 0  # requests that a window allows; 0 for a limit without windows
        self._opened = -math.inf  # when the last window began
        self._shut: Shut | None = None
        self._signs = Signs()
        self.slots: Slots | None = None
        self._fell: Fall | None = None  # the last fall, where the next one may show that it was for nothing
        self._top: Fall | None = None  # the first of several falls
        self._suspicion = Suspicion()
        self._company: Company | None = None  # what is sent where others use the limit too
        self._lossy: Lossy | None = None  # what is sent where refusals have nothing to do with the rate
        # Refusals that were shown to be strays, and of how many requests.
        self._strays = self._borne = 0.0
        # The hold: the last request before it, the requests until a look, and its refusals.
        self._base, self._stand, self._heard = 0, STAND, 0
        self._held, self._held_from = 0, now  # requests of the last hold, and when this one began
        # The look: the limit before it, the step, when it began and what was accepted by then.
        self._look, self._step, self._began = 0.0, STEP, (now, 0)
        self._excess = self._ends = 0.0  # requests above the limit that raise it; and the request at which it gives up
        self._doubtless = True  # whether one refusal ends it
        self._narrow = 0.0  # the step of the next look, where the last one leaves a wide gap; 0.0 for none
        if rate is not None:
            self._hold(now)

    def __repr__(self) -> str:
        if self.slots is not None:
            return f"RateSearch({self.slots!r})"
        how = "shut" if self._shut is not None else self._phase
        among = ", among others" if self._company is not None else ", by windows" * bool(self._window)
        return f"RateSearch({self.rate:.4g}/s, {how}{among})"

    @property
    def found(self) -> bool:
        """Whether the target's limit of a rate was met."""
        return self._ledger.any_refused and self._phase != "climb" and self.slots is None

    @property
    def climbs(self) -> bool:
        """Whether the limit is still to be found."""
        return self._phase == "climb" and self.slots is None

    @property
    def shut(self) -> bool:
        """Whether nothing is accepted, as far as is known."""
        return self._shut is not None

    @property
    def mark(self) -> int:
        """Requests sent so far; hand it back with `accepted` and `refused`."""
        return self._ledger.sent

    @property
    def ended(self) -> int:
        """Requests that are over, and were not refused; hand it back with `accepted` and `refused`."""
        return self._ledger.ended

    @property
    def in_flight(self) -> int:
        """Requests that are under way, as far as is known."""
        return self._ledger.in_flight

    def ready_at(self, now: float) -> float:
        """When the next request may go. Notices, too, that a request that went to see was not refused in time.

        `inf` means that only another request's end helps.
        """
        if self.slots is not None:
            return -math.inf if self._ledger.in_flight < self.slots.limit else math.inf
        if self._shut is not None:
            at = self._shut.ready_at(self._grace)
            if not self._shut.out or at > now:
                return at
            self._open(now)
        if self._phase == "climb":
            if self.mark < FIRST or self._started is None:
                return self._tat
            if self.mark >= START and not self._met and now < self._started + 1.0:
                return self._started + 1.0
        return self._tat - AHEAD

    def take(self, now: float) -> None:
        """A request goes."""
        others = self._ledger.in_flight
        self._ledger.sent += 1
        if self._started is None:
            self._started = self._grown = now
        if self.slots is not None:
            self.slots.sent(self.mark, others)
        elif self._shut is not None:
            self._shut.look(self.mark, now)
        else:
            self._pace(now)

    def over(self) -> None:
        """A request has ended that was neither answered nor refused."""
        self._ledger.ended += 1

    def accepted(self, mark: int, ended: int, now: float) -> None:
        """A request was answered.

        Args:
            mark: `mark` after it went.
            ended: `ended` when it went.
            now: the present.
        """
        self._ledger.ended += 1
        if self.slots is not None:
            self.slots.taken()
            return
        self._signs.taken(self._ledger.accepted_before(mark) - ended)
        if not self._met:
            self._met = True
            self._grown = now
            if self.mark >= START:
                self._tat = max(self._tat, now)
        if self._shut is not None and mark == self._shut.mark and self._shut.out:
            self._open(now)

    def refused(self, mark: int, ended: int, sent: float, retry_after: float | None, now: float) -> bool:
        """A request was refused. Returns whether that is everybody's affair.

        Args:
            mark: `mark` after it went.
            ended: `ended` when it went.
            sent: when it went.
            retry_after: seconds that the provider asked to wait.
            now: the present.
        """
        self._rtt += (0.2 if self._ledger.any_refused else 1.0) * (now - sent - self._rtt)
        self._met = True
        accepted = self._ledger.refused(mark)
        if self._phase == "climb":
            self._recent.append((sent, accepted))
        if self.slots is not None:
            if self.slots.refused(mark, accepted - ended):
                self._give_up_slots(now)
        elif self._shut is not None and self._shut.out and mark == self._shut.mark:
            self._shut.refused(retry_after, now)
        elif self._shut is None and mark > self._cut:
            self._judge(mark, accepted - ended, sent, accepted, retry_after, now)
        return self._shut is not None

    # -- what a refusal says

    @property
    def _grace(self) -> float:
        """Seconds after which a request that was not refused is held to be accepted."""
        return max(0.1, 2.5 * self._rtt)

    @property
    def _share(self) -> float:
        """The share of strays, as far as it is made up for."""
        return min(MOST, self._strays / max(50.0, self._borne))

    def _judge(
        self, mark: int, in_flight: int, sent: float, accepted: int, retry_after: float | None, now: float
    ) -> None:
        """What is to follow from a refusal: nothing, or a lower rate, or a pause, or another kind of limit."""
        self._run = max(0.0, self._run - MOST * (mark - self._last - 1)) + 1.0
        self._last = mark
        if self._run == 1.0:
            self._first = (sent, accepted)
        if self._lossy is not None:
            return
        if self._company is not None:
            if self._run == 1.0 and (slots := self._signs.refused(in_flight)):
                self._company, self.slots = None, Slots(slots, self.mark)
                return
            self._company.refused(mark, self.mark, now)
            if self._run > ALARM:
                self._shut_down(sent, accepted, retry_after, now)
            return
        if self._phase == "hold":
            self._heard += 1
            if self._run == 1.0 and (slots := self._signs.refused(in_flight)):
                self.slots, self._suspicion.twins = Slots(slots, self.mark), None
                return
            if self._meets_others(mark):
                self._company = Company(self.rate, SLOWEST, self.mark, now)
                return
        if self._phase == "look" and not self._window:
            if self._run >= self._enough():
                self._meet(sent, accepted, now)
                self._doubt(now)
        elif self._run >= (self._enough() if self._phase == "look" else ALARM + (self._share >= STRAYS)):
            self._shut_down(sent, accepted, retry_after, now)

    def _enough(self) -> float:
        """Refusals in a run that end a look."""
        if self._rough:
            return 2.0
        return 1.0 if self._doubtless else ALARM

    def _believe_strays(self, requests: int) -> None:
        """What was refused of the last requests was no limit's."""
        self._borne += requests
        self._strays += self._heard
        self._held = self._heard = 0
        if self._borne >= 2 * SOON:
            self._borne, self._strays = self._borne / 2.0, self._strays / 2.0

    def _give_up_slots(self, now: float) -> None:
        """It was no number in flight."""
        self.slots = None
        self._signs.were_wrong()
        self._cut = self.mark
        self._grown = self._tat = now

    # -- climb, hold, look

    def _pace(self, now: float) -> None:
        """A request goes while the target is open."""
        if self._lossy is not None:
            self._send_anyway(self._lossy, now)
        elif self._company is not None:
            self._share_with_others(self._company, now)
        elif self._phase == "climb":
            self._climb(now)
        elif self._phase == "hold":
            if self.mark - self._base >= self._patience():
                self._look_above(now)
        else:
            self._go_on_looking(now)
        self._grown = now
        if self._phase != "climb" or self.mark >= FIRST:
            self._tat = max(self._tat, now) + self._apart() / self.rate
        self._ledger.note(now)

    def _apart(self) -> float:
        """After how many times the usual interval the next request goes."""
        twins = self._twins
        if twins is None or self._lossy is not None or not twins.paired:
            return 1.0
        return 0.0 if twins.first(self.mark) else 2.0

    def _climb(self, now: float) -> None:
        """Grow, unless the last requests were refused."""
        if self.mark > FIRST and self._run - MOST * (self.mark - self._last) < 0.5:
            gentle = min(1.0, TOP / self.rate)
            self.rate = min(self._ceiling, self.rate * GROWTH ** (gentle * min(0.1, now - self._grown)))

    def _hold(self, now: float, skipped: int = 1) -> None:
        """Go on a margin below what is known."""
        self._phase = "hold"
        self._limit = min(self._ceiling, self._limit)
        self.rate = self._for_accepted(self._limit * (1.0 - self._margin))
        self._base = self._cut = self._last = self.mark
        self._run, self._heard = 0.0, 0
        self._grown = self._held_from = now
        self._tat = max(self._tat, now + skipped / self.rate)

    def _for_accepted(self, rate: float) -> float:
        """The rate at which to send so that as many are accepted: a stray uses nothing up."""
        return min(self._ceiling, max(SLOWEST, rate / (1.0 - self._share)))

    def _patience(self) -> float:
        """Requests of a hold before a look above."""
        return 0.0 if self._rough or self._narrow else max(self._window, self._stand)

    def _look_above(self, now: float) -> None:
        """Send a step faster. Where refusals are to be told from strays, that is a leap."""
        self._phase = "look"
        self._run, self._last = 0.0, self.mark
        self._doubtless = self._share < STRAYS and not self._heard
        self._held = self.mark - self._base
        self._look = self._limit
        self._step = self._first_step()
        self._excess = self._proof() + (0.0 if self._window else self._unused(now))
        self._begin_step(now)

    def _unused(self, now: float) -> float:
        """Requests that the hold has left unused, and a bucket may have saved up."""
        since, before = self._anchor
        if since == -math.inf:
            return 0.0
        saved = self._limit * (now - since) - (self._ledger.accepted - before)
        return max(0.0, min(DEEPEST * self._limit, saved))

    def _first_step(self) -> float:
        if self._window:
            return STEP
        if self._rough:
            return 1.0
        if self._narrow:
            return self._narrow
        return min(LEAP, max(STEP if self._doubtless else LEAP, 1.0 / (self._limit * self._grace)))

    def _proof(self) -> float:
        """Requests above the limit that show that it is higher: a window's share, where it comes in windows."""
        return self._step * self._window if self._window else FEW

    def _least(self) -> float:
        """Requests that a step takes at least."""
        return ROUGH if self._rough else STAND

    def _begin_step(self, now: float) -> None:
        self._began = (now, self._ledger.accepted)
        self.rate = self._for_accepted(self._limit * (1.0 + self._step))
        self._ends = math.inf if self._rough else self.mark + self._least() + 2.0 * self._excess / self._step

    def _go_on_looking(self, now: float) -> None:
        """Raise the limit when more than it allows was accepted, and look further; end when that takes too long."""
        since, before = self._began
        seconds, accepted = now - since, self._ledger.accepted - before
        if (
            accepted >= self._least()
            and seconds > max(1.0, 2.0 * self._grace)
            and accepted - self._limit * seconds >= self._excess
        ):
            self._believe_strays(self._held)
            self._top = None
            self._limit = min(self._ceiling, self._limit * (1.0 + self._step))
            self._step = self._step if self._window else max(self._step, min(LEAP, 2.0 * self._step))
            self._stand, self._excess = STAND, self._proof()
            self._begin_step(now)
        elif self.mark >= self._ends and seconds > max(1.5, 3.0 * self._grace):  # no more is accepted at a higher rate
            self._limit = self._look
            self._wait_longer()
            self._hold(now)

    def _wait_longer(self) -> None:
        """Look above later, for the limit was found where it was."""
        self._stand = min(LONGEST, self._stand * TIMES)

    def _send_anyway(self, lossy: Lossy, now: float) -> None:
        """A request goes to a target that refuses many, whatever the rate."""
        lossy.pace(self.mark, self._ledger.accepted, now, self._grace, self._ceiling)
        self.rate = lossy.rate
        if lossy.over:
            self._lossy, self._limit = None, lossy.rate
            self._hold(now)

    @property
    def _twins(self) -> Twins | None:
        return self._suspicion.twins if self._company is None else self._company.twins

    def _meets_others(self, mark: int) -> bool:
        """A request was refused in a hold. Returns whether others use the limit. Nothing tells that at low rates."""
        tells = self.rate >= SHARED or self._suspicion.twins is not None
        tells = tells and not self._window and not self._signs.likely
        return tells and self._suspicion.refused(mark, self.mark, self._base)

    def _share_with_others(self, company: Company, now: float) -> None:
        """A request goes to a target that others use too."""
        company.pace(self.mark, now, self._ceiling)
        self.rate = company.rate
        if company.over:
            self._suspicion.drop(self.mark)
            self._company, self._limit, self._stand = None, company.limit, STAND
            if company.strays:
                self._borne, self._strays = 2.0 * SOON, 2.0 * SOON * company.strays
            self._hold(now)

    def _accepted_in_hold(self, shut: Shut) -> float:
        """Requests per second that were accepted in the hold that ended when the target shut."""
        return (self._cut - self._base - self._heard) / max(1e-3, shut.since - self._held_from)

    def _doubt(self, now: float) -> None:
        """The limit was lowered. Where that goes on, and fewer are accepted each time, it is no limit that refuses."""
        fell = self._fell
        if fell is None:
            return
        top = self._top
        if top is None or fell.accepted > top.accepted:
            self._top = fell
        elif fell.limit * FALLS < top.limit and fell.accepted * LESS < top.accepted:
            self._lossy = Lossy(top.limit, self.mark, self._ledger.accepted, now)
            self._top = self._fell = None

    # -- the limit is met

    def _meet(self, sent: float, accepted: int, now: float) -> None:
        """A look met the limit."""
        since, before = self._anchor
        refill = min(self.rate, (accepted - before) / max(1e-3, sent - since))
        if self._rough:
            self._order(refill, accepted - before)
        elif self._limit == self._look and self._met_early():
            self._be_surprised()
            self._limit = min(self._look, max(refill, 0.7 * self._look))
            self._strays = self._borne = 0.0
            self._wait_longer()
        else:
            self._close_in(refill)
        self._anchor = (sent, accepted)
        self._hold(now, 2)

    def _order(self, refill: float, accepted: int) -> None:
        """The order of magnitude is known better."""
        raised = self._limit > self._look
        self._fell = None if raised else Fall(self._limit, refill)
        low = max(refill, (0.1 if raised else 0.5) * self._limit)
        self._limit = math.sqrt(low * self._limit) if raised else low
        self._rough = accepted < ROUGH
        self._stand = STAND

    def _close_in(self, refill: float) -> None:
        """The limit is at least what it was before the look, and at most what was refused."""
        raised = self._limit > self._look
        wide = self._step > 2.0 * STEP and self._doubtless and not (raised or self._window or self._settled)
        self._limit = max(self._look, math.sqrt(refill * self._look) if raised and not self._doubtless else refill)
        self._narrow = self._step / 2.0 if wide else 0.0
        if raised:
            self._stand = STAND
        elif not wide:
            self._wait_longer()
            if self._held > SOON:
                self._margin = max(MARGIN, self._margin / WIDER)
        self._settled = not (raised or wide)
        self._believe_strays(self._held)

    def _met_early(self) -> bool:
        """Whether what the hold had left unused was not there, so that its refusals were the limit's."""
        (at, accepted), (since, before) = self._first, self._began
        unused = self._excess - self._proof()
        return self._heard >= FEW and accepted - before - self._look * (at - since) < 0.5 * unused

    def _be_surprised(self) -> None:
        """The limit was met in a hold. When that comes soon after it was known well, it is unsteady."""
        if self._settled and self.mark - self._surprise < SOON:
            self._margin = min(MOST, self._margin * WIDER)
        self._surprise = self.mark
        self._settled = False

    # -- nothing is accepted

    def _shut_down(self, sent: float, accepted: int, retry_after: float | None, now: float) -> None:
        self._cut = self.mark
        first = 0.25 if self._phase == "climb" else min(2.0, max(0.1, 1.0 / self.rate))
        self._shut = Shut(sent, accepted, first, retry_after, now)

    def _open(self, now: float) -> None:
        """A request that went to see was accepted."""
        shut, self._shut = self._shut, None
        assert shut is not None
        lately = self._accepted_lately(shut)
        long = 2.0 if self._company is None else LONG
        if shut.seconds >= long and shut.looks > 1 and lately * shut.seconds > DEEPEST + WINDOW:
            self._begin_window(shut, lately)
            self._company = self._suspicion.twins = None
        elif self._company is not None:
            self._limit = self._company.rate
        elif self._phase == "climb":
            self._limit = self._guess(shut, lately)
            self._rough = True
        elif self._phase == "look":
            self._limit = self._look
            self._wait_longer()
        elif self._window and not shut.looks:  # a window that is used up refuses the next request too
            self._believe_strays(self.mark - self._base)
        else:
            self._fall(shut)
        self._anchor = (shut.since, shut.accepted)
        self._hold(shut.sent)
        self._doubt(now)
        self._tat = max(now, shut.sent + 1.0 / self.rate)
        self._grown = now

    def _accepted_lately(self, shut: Shut) -> int:
        """How many were accepted in the window that ended when the target shut."""
        if self._phase == "climb":
            return shut.accepted
        before = self._ledger.accepted_until(max(self._opened, shut.since - WINDOW))
        return 0 if before is None else shut.accepted - before

    def _begin_window(self, shut: Shut, accepted: int) -> None:
        """A window has begun after one that had accepted so many."""
        rate = accepted / min(WINDOW, shut.sent - max(self._opened, self._ledger.began))
        self._limit = self._look if self._window and self._phase == "look" else rate
        self._window = accepted
        self._opened = shut.sent
        self._rough = False
        self._wait_longer()

    def _guess(self, shut: Shut, accepted: int) -> float:
        """The order of magnitude of a limit that ended the climb."""
        low = max(1, accepted) / (shut.since - (self._started or 0.0) + DEEPEST)
        (first, before), (last, after) = self._recent[0], self._recent[-1]
        refill = (after - before) / max(1e-3, last - first) if after - before >= ROUGH else 0.0
        return max(low, min(refill, self.rate), 0.5 / max(0.1, shut.seconds))

    def _fall(self, shut: Shut) -> None:
        """Refusals came in a row in a hold: the limit has fallen, unless that was chance."""
        since, before = self._anchor
        accepted, seconds = shut.accepted - before, max(1e-3, shut.since - since)
        refill = accepted / seconds if accepted >= 5 * ROUGH else 0.7 * self._limit
        self._fell = Fall(self._limit, self._accepted_in_hold(shut))
        surely = shut.looks > 0 or self.mark - self._surprise < SOON
        if surely:
            self._window = 0
        if surely or refill * (1.0 + self._share) < self._limit * (1.0 - 2.0 * self._margin):
            self._be_surprised()
            self._limit = min(self._limit * (1.0 - self._margin), max(refill, 0.5 * self._limit))
            self._stand = STAND
