"""Several searches that send to one target flat out, and know nothing of each other: a small event simulation."""

from __future__ import annotations

import heapq
import math
from random import Random

from flatout.policies.unknown.search import RateSearch
from flatout.testing.limits import Window


class Minutes:
    """What each of them had accepted and refused, minute by minute."""

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
        """Jain's index of the shares: 1.0 when they are equal, 1 / n when one of n has all."""
        shares = [sum(each) for each in zip(*self.accepted[since:], strict=True)]
        return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


class _Sender:
    """One of them, with what it has in flight."""

    def __init__(self, limit: Window, random: Random, told: bool) -> None:
        self.search = RateSearch(0.0)
        self._limit, self._random, self._told = limit, random, told
        self._ends: list[tuple[float, int, int, float, bool, float | None]] = []

    def next_at(self, now: float) -> float:
        first = self._ends[0][0] if self._ends else math.inf
        return min(first, max(now, self.search.ready_at(now)))

    def go_on(self, now: float) -> tuple[int, int]:
        """Do all that is due. Returns how many were accepted, and refused."""
        while self._ends and self._ends[0][0] <= now:
            _, mark, ended, sent, fine, told = heapq.heappop(self._ends)
            if fine:
                self.search.accepted(mark, ended, now)
            else:
                self.search.refused(mark, ended, sent, told, now)
        outcomes = [0, 0]
        while self.search.ready_at(now) <= now:
            outcomes[not self._send(now)] += 1
        return outcomes[0], outcomes[1]

    def _send(self, now: float) -> bool:
        ended = self.search.ended
        self.search.take(now)
        wait = self._limit.wait(now, 1)
        if fine := wait <= 0:
            self._limit.take(now, 1)
        after = 0.05 * self._random.uniform(0.5, 2.0) + fine * math.exp(0.6 * self._random.gauss(0.0, 1.0))
        told = float(math.ceil(wait)) if self._told and not fine else None
        heapq.heappush(self._ends, (now + after, self.search.mark, ended, now, fine, told))
        return fine


def side_by_side(count: int, limit: Window, minutes: int, *, told: bool = True, seed: int = 1) -> Minutes:
    """Let so many search at once. Answers take a second, refusals a twentieth."""
    random, seen = Random(seed), Minutes(count, minutes)
    senders = [_Sender(limit, random, told) for _ in range(count)]
    due = [(0.0, number) for number in range(count)]
    while due[0][0] < 60.0 * minutes:
        now, number = heapq.heappop(due)
        accepted, refused = senders[number].go_on(now)
        seen.accepted[int(now // 60)][number] += accepted
        seen.refused[int(now // 60)][number] += refused
        heapq.heappush(due, (senders[number].next_at(now), number))
    return seen
