"""Programs that share one name, each with its own pacer on one shared file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random

from flatout import Limits
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.tokens import Need
from flatout.store.shared import SharedLimits
from flatout.testing._limits import Window
from flatout.values import Usage

from .flat_out import FlatOut, Sender
from .several_searches import Limited, Minutes


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
        self.all: list[Sharing] = []
        self.most_in_flight = 0
        self._together, self._target = FlatOut(), Limited(self, Random(1))

    seconds = 1.26
    """How long a request takes, on average."""

    @property
    def busy(self) -> int:
        """The number of accepted requests of all programs that are not answered yet."""
        return sum(each.busy for each in self._together.senders)

    def wait(self, now: float, amount: float) -> float:
        return self.limit.wait(now, amount)

    def take(self, now: float, amount: float) -> None:
        self.limit.take(now, amount)

    def join(self, count: int = 1, headers: Mapping[str, str] | None = None) -> None:
        """Start more programs now."""
        for _ in range(count):
            self.all.append(Sharing(self._folder, self._limits, self._together.now, headers))
            self._together.join(Sender(self.all[-1], self._target))

    def die(self, number: int) -> None:
        """Let one program die."""
        self.all[number].die()
        self.all[number].pacer._in_flight.own = 0
        self._together.leave(number)

    def run(self, seconds: float) -> Minutes:
        """Run for some seconds. Returns the accepted and refused requests of each program, minute by minute."""
        began = self._together.now
        seen = Minutes(len(self.all), max(1, round(seconds / 60.0)))
        for number, accepted, refused in self._together.run(began + seconds):
            seen.count(self._together.now - began, number, accepted, refused)
            self.most_in_flight = max(self.most_in_flight, sum(each.pacer.in_flight for each in self.all))
        return seen
