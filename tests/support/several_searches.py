"""Several independent searches that send to one target at full speed: an event simulation."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from random import Random
from typing import Protocol

from flatout import Limits
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Need
from flatout.policies.pacing.unknown.search import RateSearch
from flatout.testing._limits import Window
from flatout.values import Usage


class Minutes:
    """The accepted and refused requests of each search, minute by minute."""

    def __init__(self, count: int, minutes: int) -> None:
        self.accepted = [[0] * count for _ in range(minutes)]
        self.refused = [[0] * count for _ in range(minutes)]

    def used(self, rpm: float, since: int = 0) -> float:
        counted = self.accepted[since:]
        return sum(map(sum, counted)) / (rpm * len(counted))

    def refusals(self, since: int = 0) -> float:
        refused = sum(map(sum, self.refused[since:]))
        return refused / (refused + sum(map(sum, self.accepted[since:])))

    def fairness(self, since: int) -> float:
        """Jain's index of the shares: 1.0 if they are equal, 1 / n if one of n has everything."""
        shares = [sum(each) for each in zip(*self.accepted[since:], strict=True)]
        return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


class Enforces(Protocol):
    """A target: it accepts or refuses requests."""

    def wait(self, now: float, amount: float, /) -> float: ...

    def take(self, now: float, amount: float, /) -> None: ...


class Sends(Protocol):
    """Decides when a sender may send."""

    def ready_at(self, now: float) -> float: ...

    def take(self, now: float) -> object: ...

    def ended(self, request: object, sent: float, now: float, *, fine: bool, told: float | None) -> None: ...


class Searching:
    """A sender that does not know the limit."""

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


class Knowing:
    """A sender with a given limit on requests."""

    def __init__(self, rpm: float) -> None:
        self.pacer = Pacer(Limits(rpm=rpm), 0.0, even=False)

    def ready_at(self, now: float) -> float:
        return self.pacer.ready_at(Need(), now)[0]

    def take(self, now: float) -> object:
        need = Need()
        self.pacer.admit(need, now)
        return need

    def ended(self, request: object, sent: float, now: float, *, fine: bool, told: float | None) -> None:
        assert isinstance(request, Need)
        if fine:
            self.pacer.answered(request, Usage(), {}, sent, now, now)
        else:
            self.pacer.refused(request, told, {}, sent, now, now)


class Sender:
    """One sender, with its requests in flight."""

    def __init__(self, sends: Sends, limit: Enforces, random: Random) -> None:
        self._sends, self._limit, self._random = sends, limit, random
        self._ends: list[tuple[float, int, object, float, bool, float | None]] = []
        self._count = 0

    @property
    def busy(self) -> int:
        """The number of accepted requests that are not answered yet."""
        return sum(fine for _, _, _, _, fine, _ in self._ends)

    def next_at(self, now: float) -> float:
        first = self._ends[0][0] if self._ends else math.inf
        return min(first, max(now, self._sends.ready_at(now)))

    def go_on(self, now: float) -> tuple[int, int]:
        """Process everything that is due. Returns how many requests were accepted and refused."""
        while self._ends and self._ends[0][0] <= now:
            _, _, request, sent, fine, told = heapq.heappop(self._ends)
            self._sends.ended(request, sent, now, fine=fine, told=told)
        outcomes = [0, 0]
        while self._sends.ready_at(now) <= now:
            outcomes[not self._send(now)] += 1
        return outcomes[0], outcomes[1]

    def _send(self, now: float) -> bool:
        request = self._sends.take(now)
        wait = self._limit.wait(now, 1)
        if fine := wait <= 0:
            self._limit.take(now, 1)
        after = 0.05 * self._random.uniform(0.5, 2.0) + fine * math.exp(0.6 * self._random.gauss(0.0, 1.0))
        told = None if fine or wait == math.inf else math.ceil(wait)
        self._count += 1
        heapq.heappush(self._ends, (now + after, self._count, request, now, fine, told))
        return fine


def side_by_side(count: int, limit: Window, minutes: int) -> Minutes:
    """Let a number of senders search at once. Answers take a second, refusals 0.05 s."""
    return _run([Searching() for _ in range(count)], limit, minutes)


def known_side_by_side(count: int, limit: Window, rpm: float, minutes: int, seed: int = 1) -> tuple[Minutes, bool]:
    """Give the same limit to a number of senders. Also returns whether all of them noticed that others use it too."""
    knowing = [Knowing(rpm) for _ in range(count)]
    seen = _run(knowing, limit, minutes, seed)
    return seen, all(each.pacer.overruled for each in knowing)


def _run(sends: Sequence[Sends], limit: Window, minutes: int, seed: int = 1) -> Minutes:
    random, seen = Random(seed), Minutes(len(sends), minutes)
    senders = [Sender(each, limit, random) for each in sends]
    due = [(0.0, number) for number in range(len(senders))]
    while due[0][0] < 60.0 * minutes:
        now, number = heapq.heappop(due)
        accepted, refused = senders[number].go_on(now)
        seen.accepted[int(now // 60)][number] += accepted
        seen.refused[int(now // 60)][number] += refused
        heapq.heappush(due, (senders[number].next_at(now), number))
    return seen
