"""The phases while the limit is known: *hold* just below it, and at times *look* whether more is accepted."""

from __future__ import annotations

import math

from .company import Among
from .known import ALARM, STAND, WINDOW, Known, Phase, Refusal
from .lossy import Lossy
from .shut import Shut

MARGIN = 0.02
"""The share of a limit that a hold leaves unused."""

STEP = 2.0 * MARGIN
"""The least share by which a look sends more."""

LEAP = 0.5
"""The largest such share."""

ROUGH = 4
"""Requests accepted at a rate after which it doubles, while only the limit's order of magnitude is known."""

FALLS = 4.0
"""If the limit fell by this factor, and what is accepted by `LESS`, then no limit refuses."""

LESS = 2.5
"""See `FALLS`."""


class AtLimit(Phase):
    """At a limit, or just above it."""

    def fallen(self, limit: float, accepted: float, now: float) -> Phase:
        """The limit seems lower. If fewer are accepted per second each time that it falls, no limit refuses."""
        known, was, (top, most) = self.known, self.known.limit, self.known.top
        known.limit, known.stand = limit, STAND
        if was * FALLS < top and accepted * LESS < most:
            known.top = (0.0, 0.0)
            return Lossy(known, top, now)
        known.top = (was, accepted) if accepted > most else known.top
        return Hold(known, now)


class Hold(AtLimit):
    """Send a margin below the limit.

    If the limit was just met, a bucket is empty. Its first refusals are no strays.
    """

    def __init__(self, known: Known, now: float, *, emptied: bool = False) -> None:
        super().__init__(known)
        known.limit = min(known.ceiling, known.limit)
        self.rate = known.for_accepted(known.limit * (1.0 - MARGIN))
        self.base = known.cut = known.ledger.sent
        self.began, self.heard = now, 0
        known.begin()
        self._deaf = self.base + STAND * emptied  # a refusal up to this request is no stray
        known.tat = max(known.tat, now + (1 + emptied) / self.rate)

    def take(self, now: float) -> Phase:
        rests = not self.known.rough and self.known.ledger.sent - self.base < self.known.stand
        return self if rests else Look(self, now)

    def refused(self, refusal: Refusal) -> Phase | Shut:
        known = self.known
        self.heard += refusal.mark > self._deaf
        tells = known.suspicion.tells(self.rate) and not (known.window or known.signs.likely)
        if tells and known.suspicion.refused(refusal.mark, known.ledger.sent, self.base):
            return Among(known, self.rate, refusal.now)
        return self.shut(refusal) if known.run >= ALARM else self

    def reopened(self, shut: Shut) -> Phase:
        """A request was accepted again: the limit has fallen, unless that was chance."""
        known = self.known
        refill, count = known.refill(shut.since, shut.accepted)
        refill = max(0.5 * known.limit, refill if count >= 5 * ROUGH else 0.7 * known.limit)
        if not shut.looks and (known.window or refill >= (1.0 - 2.0 * MARGIN - known.share) * known.limit):
            known.bear(self.heard, known.ledger.sent - self.base)
            return Hold(known, shut.sent)
        known.window = 0
        accepted = (known.cut - self.base - self.heard) / max(1e-3, shut.since - self.began)
        return self.fallen(min(known.limit * (1.0 - MARGIN), refill), accepted, shut.sent)


class Look(AtLimit):
    """Send a step faster, until that is refused or accepted for long enough."""

    def __init__(self, hold: Hold, now: float) -> None:
        super().__init__(known := hold.known)
        self._limit = known.limit  # before the look
        self._heard, self._held = hold.heard, known.ledger.sent - hold.base  # refusals and requests of the hold
        self._doubtless = not hold.heard and not known.share  # whether one refusal ends the look
        self._step = self._first_step()
        self._unused = 0.0 if known.window else self._saved(now)
        known.begin()
        self._begin_step(now, self._unused)

    def _first_step(self) -> float:
        """How much faster to send first: little, but more where that would take long and takes nobody's share."""
        known = self.known
        if known.window or known.rough:
            return STEP if known.window else 1.0
        quick = 0.3 / known.limit if known.suspicion.never else 0.0
        return min(LEAP, max(STEP, quick)) if self._doubtless else LEAP

    def _saved(self, now: float) -> float:
        """Requests that the hold left unused, and that a bucket may have saved up."""
        known, (since, before) = self.known, self.known.used_up
        saved = known.limit * (now - since) - (known.ledger.accepted - before)
        return 0.0 if since == -math.inf else max(0.0, min(2.0 * WINDOW * known.limit, saved))

    def _begin_step(self, now: float, unused: float) -> None:
        known = self.known
        self._began, self._before = now, known.ledger.accepted
        self.rate = known.for_accepted(known.limit * (1.0 + self._step))
        # Accepted requests above the limit that show that it is higher; of a limit by windows, a window's share.
        self._excess = unused + (self._step * known.window or ALARM)
        self._least = ROUGH if known.rough else STAND
        self._ends = math.inf if known.rough else known.ledger.sent + self._least + 2.0 * self._excess / self._step

    def take(self, now: float) -> Phase:
        """Raise the limit if more than it allows was accepted, and look further. End if that takes too long."""
        known = self.known
        seconds, accepted = now - self._began, known.ledger.accepted - self._before
        enough = accepted >= self._least and seconds > max(1.0, 2.0 * known.grace)
        if enough and accepted - known.limit * seconds >= self._excess:
            self._raise(now)
        elif known.ledger.sent >= self._ends and seconds > max(1.5, 3.0 * known.grace):
            return self._end(now)
        return self

    def _raise(self, now: float) -> None:
        known = self.known
        known.bear(self._heard, self._held)
        self._heard = self._held = 0
        known.limit = min(known.ceiling, known.limit * (1.0 + self._step))
        if not known.window:
            self._step = max(self._step, min(LEAP, 2.0 * self._step))
        known.stand, known.top = STAND, (0.0, 0.0)
        self._begin_step(now, 0.0)

    def _end(self, now: float) -> Phase:
        """The higher rate brings no more: go back to the limit before the look."""
        self.known.limit = self._limit
        self.known.wait_longer()
        return Hold(self.known, now)

    def refused(self, refusal: Refusal) -> Phase | Shut:
        known = self.known
        if known.run < (2.0 if known.rough else 1.0 if self._doubtless else ALARM):
            return self
        return self.shut(refusal) if known.window else self._meet(refusal)

    def reopened(self, shut: Shut) -> Phase:
        return self._end(shut.sent)

    def _meet(self, refusal: Refusal) -> Phase:
        """The limit is met: what was accepted since it was last met is its refill."""
        known, raised = self.known, self.known.limit > self._limit
        refill, count = known.refill(refusal.sent, refusal.accepted)
        refill = min(self.rate, refill)
        known.used_up = (refusal.sent, refusal.accepted)
        if known.rough:
            known.rough = count < ROUGH
            if not raised:
                return self.fallen(max(refill, 0.5 * known.limit), refill, refusal.now)
            known.limit = math.sqrt(max(refill, 0.1 * known.limit) * known.limit)
        elif not raised and self._met_early():
            known.limit = min(self._limit, max(refill, 0.7 * self._limit))
            known.bear_none()
        else:
            known.bear(self._heard, self._held)
            refill = math.sqrt(refill * self._limit) if raised and not self._doubtless else refill
            known.limit = max(self._limit, refill)
        if raised:
            known.stand = STAND
        else:
            known.wait_longer()
        return Hold(known, refusal.now, emptied=True)

    def _met_early(self) -> bool:
        """Whether the bucket had not saved what the hold left unused, so that the hold's refusals were the limit's."""
        at, accepted = self.known.first
        above = accepted - self._before - self._limit * (at - self._began)
        return self._heard >= ALARM and above < 0.5 * self._unused
