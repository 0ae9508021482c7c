"""What a worker tells its team of one target's calls: what they came to, how fast they go, and what holds them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import defaultdict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from flatout.errors import NotSent
from flatout.events import AttemptFailed, CallFinished, Event, Events
from flatout.policies.pacing.reports import Report, Sums
from flatout.values import Usage

if TYPE_CHECKING:
    from flatout.layers.limit import TargetStatus

EVERY = 1.0
"""Seconds from one report to the next, at least."""

WINDOW = 60.0
"""Seconds over which a worker's speed is taken."""

MOSTLY = 0.5
"""The share of the time for which a cause must hold the queue to be what binds."""

LONGEST = 120
"""Most characters of a name."""

_encode = msgspec.msgpack.Encoder().encode


class Tally:
    """Counts what a client's calls come to, by target. Requests count as sent when they have ended.

    Make it before the first call: a call that has begun before is not counted.
    """

    def __init__(self, events: Events) -> None:
        self._sums: defaultdict[str, Sums] = defaultdict(Sums)
        events.subscribe(self._hear)

    def of(self, concerns: Callable[[str], bool]) -> Sums:
        """The sum over some targets."""
        return sum((sums for target, sums in self._sums.items() if concerns(target)), Sums())

    def _hear(self, event: Event) -> None:
        if isinstance(event, CallFinished):
            if event.journey.account.attempts:  # else it came from a cache, or was never sent
                self._sums[event.journey.attempt.target] += _came_to(event)
        elif isinstance(event, AttemptFailed) and not isinstance(event.error, NotSent):
            self._sums[event.journey.attempt.target] += Sums(sent=1)


def _came_to(event: CallFinished) -> Sums:
    """What a call came to."""
    reply = event.reply or getattr(event.error, "reply", None)
    usage = reply.usage if reply is not None else Usage()
    failed = isinstance(event.error, Exception)  # and was not cancelled
    cost = event.journey.account.cost
    return Sums(
        answered=int(event.reply is not None),
        failed=int(failed),
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        uncounted=int(cost is None if reply is None else usage.total_tokens is None),  # what cost nothing had none
        cost=cost or 0.0,
        unpriced=int(cost is None),
        sent=int(not failed),  # a failed request has been counted
    )


class _Moment(Struct, frozen=True):
    """How many requests had been sent by an instant."""

    at: float
    sent: int


class Reporter:
    """Makes a worker's reports of one target. It works in one event loop.

    Args:
        status: tells the target's present state.
        sums: tells what its calls came to so far; see `Tally`.
    """

    def __init__(self, status: Callable[[], TargetStatus], sums: Callable[[], Sums]) -> None:
        self._status, self._sums = status, sums
        self._name = f"{socket.gethostname()[:LONGEST]}:{os.getpid()}"
        self._said = self._heard = Sums()
        self._moments: deque[_Moment] = deque()
        self._began: _Moment | None = None
        self._held: dict[str, float] = {}
        self._binds, self._since = "", 0.0

    def report(self, *, last: bool = False) -> bytes:
        """What to say now; empty if the last report is younger than `EVERY`, and this is not the last of all."""
        now = asyncio.get_running_loop().time()
        if self._moments and now - self._moments[-1].at < EVERY and not last:
            return b""
        state, sums = self._status(), self._sums()
        since = self._move(state, sums.sent, now)
        present = self._moments[-1]
        self._began = self._began or present
        self._said = replace(sums, sent=present.sent - self._began.sent, seconds=now - self._began.at)
        return _encode(
            Report(
                sums=self._said,
                heard=self._heard,
                target=state.target[:LONGEST],
                name=self._name,
                sent=max(0, present.sent - since.sent) / max(now - since.at, EVERY),
                in_flight=state.in_flight,
                waiting=state.waiting,
                binds=self._binds,
                binding=now - self._since if self._binds else 0.0,
                allows=_common(state),
                pace=state.pace,
                rising=state.rising,
            )
        )

    def heard(self, report: bytes) -> None:
        """The keeper has heard a report."""
        if report:
            self._heard = self._said

    def _move(self, state: TargetStatus, ended: int, now: float) -> _Moment:
        """Go on to the present. Returns the moment from which on the speed is taken."""
        moments = self._moments
        self._see_what_binds(state, moments[-1].at if moments else now, now)
        moments.append(_Moment(now, ended + state.in_flight))
        while now - moments[0].at > WINDOW:
            moments.popleft()
        return moments[0]

    def _see_what_binds(self, state: TargetStatus, before: float, now: float) -> None:
        """Find the cause that has held the queue for most of the time since the last report."""
        held = dict(state.held)
        if state.holds:
            held[state.holds] = held.get(state.holds, 0.0) + now - state.holds_since
        longer = {cause: seconds - self._held.get(cause, 0.0) for cause, seconds in held.items()}
        self._held = held
        cause = max(longer, key=longer.__getitem__, default="")
        binds = cause if cause and longer[cause] > MOSTLY * (now - before) else ""
        if binds != self._binds:
            self._binds, self._since = binds, before


def _common(state: TargetStatus) -> dict[str, float]:
    """The limits that hold for all workers. How many requests at once a server takes, each may find by itself."""
    return {name: limit for name, limit in state.allows.items() if name != "concurrency" or not state.tried}
