"""Which target of a route an attempt goes to, and when a call leaves its model for another."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from flatout import errors
from flatout.errors import CallError
from flatout.layer import Away, CallNext, Elsewhere, Queue
from flatout.values.route import Cause

from .failures.decision import Decision, decide
from .failures.service import Service

DOWN_FOR = 30.0
"""Seconds without an answer after which a call leaves a target that is down for the fallback."""

PAUSED_FOR = 60.0
"""A call leaves a target for the fallback if its pause has at least this many seconds left."""

LATELY = 30.0
"""Seconds in which the weight of an observed latency falls to 1/e."""

SLOWER = 2.0
"""How many times the latency of another target a target may have to get calls that the other could take at once."""

SEEN = 200
"""Latencies that a target's slow answers are judged by."""

ENOUGH = 20
"""Fewest latencies that say anything."""

SAVED = 10.0
"""Hedges that may be saved up."""

_CAUSES: dict[type[CallError], Cause] = {
    errors.ContextTooLong: "context",
    errors.ContentFiltered: "refusal",
    errors.Refused: "refusal",
    errors.SchemaMismatch: "schema",
    errors.AttemptTimeout: "silence",
    errors.RateLimited: "rate",
    errors.Overloaded: "down",
    errors.ServerError: "down",
    errors.TransportError: "down",
}


def cause(error: BaseException) -> Cause | None:
    """The cause for which a failed call may be asked of another model; None if no other model would help."""
    if isinstance(error, Elsewhere):
        return error.why
    if isinstance(error, errors.CircuitOpen) and isinstance(error.__cause__, CallError):
        error = error.__cause__
    if not isinstance(error, CallError):
        return None
    if decide(error) is Decision.STOP_TARGET:
        return "quota"
    return next((found for kind, found in _CAUSES.items() if isinstance(error, kind)), None)


def long_away(targets: Iterable[Away | None]) -> frozenset[Cause]:
    """Why no target will take a call for long: ``down``, ``silence`` or ``rate``; nothing if one may take it soon."""
    why: set[Cause] = set()
    for away in targets:
        if away is None:
            return frozenset()
        if away.down_for >= DOWN_FOR:
            why |= {"down", "silence"} if away.silent else {"down"}
        elif away.paused_for >= PAUSED_FOR:
            why.add("rate")
        else:
            return frozenset()
    return frozenset(why)


def is_worth(lane: Lane, lanes: Iterable[Lane], now: float) -> bool:
    """Whether a lane answers a call about as soon as any other, for which the call would have to wait.

    A target whose answers take ten times as long is of use only to those who would wait that long for the others. One
    that is left out gets a call now and then, which tells whether it is still so slow.
    """
    seconds = lane.latency.seconds
    if not seconds or (lane.queue.in_flight == 0 and lane.latency.age(now) >= LATELY):
        return True
    for other in lanes:
        known = other.latency.seconds
        if other is lane or not known or other.service.stop is not None:
            continue
        if seconds > SLOWER * known + other.queue.wait() and other.queue.away(now) is None:
            return False
    return True


class Lane:
    """The way to one target of a route.

    Args:
        target: the target's name.
        queue: its limiter.
        service: the kind of request that goes there.
        send: sends one attempt; it has the permit already.

    Attributes:
        latency: how long the target has taken lately.
    """

    __slots__ = ("_since", "latency", "queue", "send", "service", "target")

    def __init__(self, target: str, queue: Queue, service: Service, send: CallNext) -> None:
        self.target = target
        self.queue = queue
        self.service = service
        self.send = send
        self.latency = Latency()
        self._since = 0.0  # when the oldest attempt in flight went, while nothing has been answered

    def goes(self, now: float) -> None:
        """An attempt goes there. It has its permit."""
        if self.queue.in_flight <= 1:
            self._since = now

    def load(self, now: float) -> float:
        """What one more call would have to wait for, to compare targets; 0 for an unused one.

        Before the first answer, a target is as slow as its oldest attempt is old. Else all calls would go to the one
        that takes longest to answer at all.
        """
        in_flight = self.queue.in_flight
        seconds = self.latency.seconds or (now - self._since if in_flight else 0.0)
        return seconds * (in_flight + 1)

    def is_open(self, now: float) -> bool:
        """Whether a call may go: the target is not stopped, or it is time to look at it again."""
        return self.service.stop is None or self.service.due(now)


class Latency:
    """How long a target has taken lately, by the rule known as peak EWMA.

    A slow answer counts at once and is forgotten slowly, so a target that becomes slow gets fewer calls at once. See
    the balancer of Finagle for the origin of the rule.

    Attributes:
        seconds: how long; 0 without an answer so far.
    """

    __slots__ = ("_at", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self._at = -math.inf

    def age(self, now: float) -> float:
        """Seconds since the last answer."""
        return now - self._at

    def observe(self, seconds: float, now: float) -> None:
        """An answer took this long."""
        if seconds >= self.seconds:
            self.seconds = seconds
        else:
            old = math.exp((self._at - now) / LATELY)
            self.seconds = old * self.seconds + (1.0 - old) * seconds
        self._at = now


class Hedging:
    """When a second attempt may be sent because the first is slow.

    Args:
        share: the share of requests that may be hedges.
    """

    __slots__ = ("_earned", "_seen", "_share", "_slow")

    def __init__(self, share: float) -> None:
        self._share = share
        self._earned = 0.0
        self._seen: deque[float] = deque(maxlen=SEEN)
        self._slow: float | None = None  # None after an observation

    def sent(self) -> None:
        """A first attempt is sent, which earns a share of a hedge."""
        self._earned = min(SAVED, self._earned + self._share)

    def observe(self, seconds: float) -> None:
        """A first attempt was answered after this long, or was still not answered when a hedge was."""
        self._seen.append(seconds)
        self._slow = None

    def after(self) -> float | None:
        """Seconds after which an attempt is slow: it takes longer than all but the slowest ``share`` did lately.

        None while too little is known.
        """
        if len(self._seen) < ENOUGH:
            return None
        if self._slow is None:
            ordered = sorted(self._seen)
            self._slow = ordered[min(len(ordered) - 1, math.ceil((1.0 - self._share) * len(ordered)))]
        return self._slow

    def take(self) -> bool:
        """Take one hedge, if one has been earned."""
        if self._earned < 1.0:
            return False
        self._earned -= 1.0
        return True
