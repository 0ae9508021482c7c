"""Programs that send to one target flat out, each when its own policy lets it: a small event simulation."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from random import Random
from typing import Protocol

from flatout.policies.pacing.unknown.search import RateSearch


class Target(Protocol):
    """What takes requests, or refuses them."""

    def receive(self, now: float, /) -> tuple[bool, float, float | None]:
        """Whether a request is accepted, after how many seconds that is known, and the Retry-After of a refusal."""
        ...


class Sends(Protocol):
    """What decides when a program sends."""

    def ready_at(self, now: float) -> float: ...

    def take(self, now: float) -> object: ...

    def ended(self, request: object, sent: float, now: float, *, fine: bool, told: float | None) -> None: ...


class Searching:
    """One that is told nothing of the limit."""

    def __init__(self) -> None:
        self.search = RateSearch(0.0)

    def ready_at(self, now: float) -> float:
        return self.search.ready_at(now)

    def take(self, now: float) -> object:
        ended = self.search.ended
        self.search.take(now)
        return self.search.mark, ended

    def ended(self, request: object, sent: float, now: float, *, fine: bool, told: float | None) -> None:
        mark, ended = request  # type: ignore[misc]
        if fine:
            self.search.accepted(mark, ended, now)
        else:
            self.search.refused(mark, ended, sent, told, now)


class Sender:
    """One program, with what it has in flight.

    Args:
        sends: decides when.
        target: where to.
        most: what it has in flight at most.
    """

    def __init__(self, sends: Sends, target: Target, most: float = math.inf) -> None:
        self._sends, self._target, self._most = sends, target, most
        self._ends: list[tuple[float, int, object, float, bool, float | None]] = []
        self._count = 0

    @property
    def busy(self) -> int:
        """Its requests that were accepted and are not answered yet."""
        return sum(fine for _, _, _, _, fine, _ in self._ends)

    def next_at(self, now: float) -> float:
        """When there is something to do."""
        first = self._ends[0][0] if self._ends else math.inf
        return min(first, max(now, self._ready_at(now)))

    def go_on(self, now: float) -> tuple[int, int]:
        """Do all that is due. Returns how many were accepted, and refused."""
        while self._ends and self._ends[0][0] <= now:
            _, _, request, sent, fine, told = heapq.heappop(self._ends)
            self._sends.ended(request, sent, now, fine=fine, told=told)
        outcomes = [0, 0]
        while self._ready_at(now) <= now:
            outcomes[not self._send(now)] += 1
        return outcomes[0], outcomes[1]

    def stop(self) -> None:
        """Forget what is in flight."""
        self._ends.clear()

    def _ready_at(self, now: float) -> float:
        return self._sends.ready_at(now) if len(self._ends) < self._most else math.inf

    def _send(self, now: float) -> bool:
        request = self._sends.take(now)
        fine, after, told = self._target.receive(now)
        self._count += 1
        heapq.heappush(self._ends, (now + after, self._count, request, now, fine, told))
        return fine


class FlatOut:
    """Several of them.

    Attributes:
        now: the time, in seconds.
        senders: all that ever joined.
    """

    def __init__(self, *senders: Sender) -> None:
        self.now = 0.0
        self.senders: list[Sender] = []
        self._due: list[tuple[float, float, int]] = []
        self._ties = Random(2)
        for sender in senders:
            self.join(sender)

    def join(self, sender: Sender) -> None:
        """One more begins now."""
        self.senders.append(sender)
        self._push(self.now, len(self.senders) - 1)

    def leave(self, number: int) -> None:
        """One ends: it has nothing in flight any more, and sends nothing."""
        self.senders[number].stop()
        self._due = [each for each in self._due if each[2] != number]
        heapq.heapify(self._due)

    def run(self, until: float) -> Iterator[tuple[int, int, int]]:
        """Go on. Gives, as it happens, who did something, and how many were accepted and refused."""
        while self._due[0][0] < until:
            self.now, _, number = heapq.heappop(self._due)
            yield number, *self.senders[number].go_on(self.now)
            self._push(self.senders[number].next_at(self.now), number)
        self.now = until

    def _push(self, at: float, number: int) -> None:
        heapq.heappush(self._due, (at, self._ties.random(), number))
