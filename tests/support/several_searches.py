"""Several independent searches that send to one target at full speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Protocol

from flatout import Limits
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Need
from flatout.testing._limits import Window
from flatout.values import Usage

from .flat_out import FlatOut, Searching, Sender, Sends


class Minutes:
    """The accepted and refused requests of each search, minute by minute."""

    def __init__(self, count: int, minutes: int) -> None:
        self.accepted = [[0] * count for _ in range(minutes)]
        self.refused = [[0] * count for _ in range(minutes)]

    def count(self, seconds: float, number: int, accepted: int, refused: int) -> None:
        """What one of them did, so many seconds after the beginning."""
        minute = min(len(self.accepted) - 1, int(seconds // 60))
        self.accepted[minute][number] += accepted
        self.refused[minute][number] += refused

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


class Limit(Protocol):
    """Accepts or refuses requests."""

    def wait(self, now: float, amount: float, /) -> float: ...

    def take(self, now: float, amount: float, /) -> None: ...


class Limited:
    """A target behind a limit. Answers take a second, refusals a twentieth."""

    def __init__(self, limit: Limit, random: Random) -> None:
        self._limit, self._random = limit, random

    def receive(self, now: float) -> tuple[bool, float, float | None]:
        wait = self._limit.wait(now, 1)
        if fine := wait <= 0:
            self._limit.take(now, 1)
        after = 0.05 * self._random.uniform(0.5, 2.0) + fine * math.exp(0.6 * self._random.gauss(0.0, 1.0))
        return fine, after, None if fine or wait == math.inf else math.ceil(wait)


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


def side_by_side(count: int, limit: Window, minutes: int) -> Minutes:
    """Let a number of senders search at once."""
    return _run([Searching() for _ in range(count)], limit, minutes)


def known_side_by_side(count: int, limit: Window, rpm: float, minutes: int, seed: int = 1) -> tuple[Minutes, bool]:
    """Give the same limit to a number of senders. Also returns whether all of them noticed that others use it too."""
    knowing = [Knowing(rpm) for _ in range(count)]
    seen = _run(knowing, limit, minutes, seed)
    return seen, all(each.pacer.overruled for each in knowing)


def _run(sends: Sequence[Sends], limit: Window, minutes: int, seed: int = 1) -> Minutes:
    target, seen = Limited(limit, Random(seed)), Minutes(len(sends), minutes)
    together = FlatOut(*(Sender(each, target) for each in sends))
    for number, accepted, refused in together.run(60.0 * minutes):
        seen.count(together.now, number, accepted, refused)
    return seen
