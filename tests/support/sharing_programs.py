"""Programs that share one name, each with its own pacer on one shared file: an event simulation."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from pathlib import Path
from random import Random

from flatout import Limits
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Need
from flatout.store.shared import SharedLimits
from flatout.testing._limits import Window
from flatout.values import Usage

from .several_searches import Minutes, Sender


class Sharing:
    """One program. It asks its pacer again as often as the limit layer does.

    Args:
        folder: the folder of the shared file.
        limits: the limits that it is given.
        now: the time at which it begins.
        headers: the headers of each answer.
    """

    def __init__(
        self, folder: Path, limits: Limits, now: float = 0.0, headers: Mapping[str, str] | None = None
    ) -> None:
        self.shared = SharedLimits("name", "target", folder)
        self.pacer = Pacer(limits, now, shared=self.shared)
        self._headers = headers or {}

    def ready_at(self, now: float) -> float:
        with self.pacer.exclusive:
            at = self.pacer.ready_at(Need(), now)[0]
        return at if at <= now else min(at, now + self.pacer.recheck)

    def take(self, now: float) -> object:
        need = Need()
        with self.pacer.exclusive:
            self.pacer.admit(need, now)
        return need

    def ended(self, request: object, sent: float, now: float, *, fine: bool, told: float | None) -> None:
        assert isinstance(request, Need)
        with self.pacer.exclusive:
            if fine:
                self.pacer.answered(request, Usage(), self._headers, sent, now, now)
            else:
                self.pacer.refused(request, told, {}, sent, now, now)

    def die(self) -> None:
        """End as by kill -9: nothing is returned, but the system releases all locks."""
        self.shared._numbers.release()
        self.shared.members._rows.release()
        self.shared._map.close()
        self.shared._let_go()


class Programs:
    """Several programs that send at full speed.

    Args:
        folder: the folder of the shared file.
        limit: the limit that the target enforces; it may be replaced.
        limits: the limits that each program is given.
    """

    def __init__(self, folder: Path, limit: Window, limits: Limits = Limits()) -> None:  # noqa: B008
        self._folder, self._limits = folder, limits
        self.limit = limit
        self._random, self._ties = Random(1), Random(2)
        self._due: list[tuple[float, float, int]] = []
        self._senders: list[Sender] = []
        self.all: list[Sharing] = []
        self.now = 0.0
        self.most_in_flight = 0

    seconds = 1.26
    """How long a request takes, on average."""

    @property
    def busy(self) -> int:
        """The number of accepted requests of all programs that are not answered yet."""
        return sum(each.busy for each in self._senders)

    def wait(self, now: float, amount: float) -> float:
        return self.limit.wait(now, amount)

    def take(self, now: float, amount: float) -> None:
        self.limit.take(now, amount)

    def join(self, count: int = 1, headers: Mapping[str, str] | None = None) -> None:
        """Start more programs now."""
        for _ in range(count):
            self.all.append(Sharing(self._folder, self._limits, self.now, headers))
            self._senders.append(Sender(self.all[-1], self, self._random))
            heapq.heappush(self._due, (self.now, self._ties.random(), len(self.all) - 1))

    def die(self, number: int) -> None:
        """Let one program die."""
        self.all[number].die()
        self.all[number].pacer._in_flight.own = 0
        self._senders[number] = Sender(self.all[number], self, self._random)
        self._due = [each for each in self._due if each[2] != number]
        heapq.heapify(self._due)

    def run(self, seconds: float) -> Minutes:
        """Run for some seconds. Returns the accepted and refused requests of each program, minute by minute."""
        began = self.now
        seen = Minutes(len(self.all), max(1, round(seconds / 60.0)))
        while self._due[0][0] < began + seconds:
            self.now, _, number = heapq.heappop(self._due)
            outcomes = self._senders[number].go_on(self.now)
            minute = min(len(seen.accepted) - 1, int((self.now - began) // 60))
            seen.accepted[minute][number] += outcomes[0]
            seen.refused[minute][number] += outcomes[1]
            self.most_in_flight = max(self.most_in_flight, sum(each.pacer.in_flight for each in self.all))
            heapq.heappush(self._due, (self._senders[number].next_at(self.now), self._ties.random(), number))
        self.now = began + seconds
        return seen
