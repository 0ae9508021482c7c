"""What the run file of a gateway tells of it: who has asked, and what became of that. It has no rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

JOB = {"gateway": True}
"""The job of such a run file. There is nothing to compare, for the file holds no calls."""

FACT = "gateway"
"""The fact that holds a `Served`."""


class FailedCalls(Struct, frozen=True):
    """The calls that failed for one reason.

    Attributes:
        error: the class of their errors.
        calls: how many they are.
        example: the words of the latest one. They come from outside and may hold anything.
    """

    error: str
    calls: int
    example: str = ""


def summed(failures: Iterable[FailedCalls]) -> list[FailedCalls]:
    """Failures with each class once, the most frequent first. Of two examples the later one stays."""
    found: dict[str, FailedCalls] = {}
    for each in failures:
        before = found.get(each.error)
        found[each.error] = FailedCalls(each.error, each.calls + (before.calls if before else 0), each.example)
    return sorted(found.values(), key=lambda each: -each.calls)


class CallerServed(Struct, frozen=True, omit_defaults=True):
    """What one caller has asked, since the file was made.

    Attributes:
        caller: the name of its key, or what tells it from others.
        calls: how many calls it has made.
        failed: how many of those ended with an error.
        hung_up: how many it did not wait for.
        lost: how many had not ended when their process was killed: nobody knows how they ended, and what they cost.
        waiting: how many wait for their turn now.
        open: how many have not ended: these, and those that are being answered.
        holds: the limit of its own for which these wait, such as ``rpm``; ``budget`` if calls that had their turn wait
            for money; "" for none.
        allowed: how much that limit allows.
        spent: US dollars known to be spent on it.
        unpriced: calls of unknown cost.
    """

    caller: str
    calls: int = 0
    failed: int = 0
    hung_up: int = 0
    lost: int = 0
    waiting: int = 0
    open: int = 0
    holds: str = ""
    allowed: float | None = None
    spent: float = 0.0
    unpriced: int = 0

    def ended(self) -> CallerServed:
        """These counts once the process has gone: its open calls are lost."""
        lost = self.lost + self.open
        return msgspec.structs.replace(self, lost=lost, waiting=0, open=0, holds="", allowed=None)

    def plus(self, other: CallerServed) -> CallerServed:
        """These counts with those of another one, such as an earlier process."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return msgspec.structs.replace(self, **sums)


_COUNTS = ("calls", "failed", "hung_up", "lost", "waiting", "open", "spent", "unpriced")


class Served(Struct, frozen=True):
    """What a gateway has done.

    Attributes:
        callers: those who have asked.
        failures: why calls failed, the most frequent reason first.
        serving: whether a process has not said that it ended.
        at_least: whether a process was killed: then there may be more calls than these, made in its last moments.
    """

    callers: Sequence[CallerServed] = ()
    failures: Sequence[FailedCalls] = ()
    serving: bool = False
    at_least: bool = False

    @property
    def calls(self) -> int:
        """Calls of all callers."""
        return sum(each.calls for each in self.callers)

    @property
    def answered(self) -> int:
        """Those of them that were answered."""
        return sum(each.calls - each.failed - each.hung_up - each.lost - each.open for each in self.callers)

    @property
    def failed(self) -> int:
        """Those of them that were not: they ended with an error, nobody waited for them, or they are lost."""
        return sum(each.failed + each.hung_up + each.lost for each in self.callers)

    @property
    def spent(self) -> float:
        """US dollars known to be spent."""
        return sum(each.spent for each in self.callers)

    @property
    def unpriced(self) -> int:
        """Calls of unknown cost."""
        return sum(each.unpriced + each.lost for each in self.callers)

    def settled(self) -> Served:
        """The same when its process has gone."""
        callers = [each.ended() for each in self.callers]
        return Served(callers, self.failures, at_least=self.at_least or self.serving)


class Told(Protocol):
    """What tells facts: a run file, or its reader."""

    def fact(self, name: str, /) -> Any:
        """One fact about the whole run; None if it is not there."""
        ...


def served_by(file: Told) -> Served:
    """What a gateway has done, as its run file tells."""
    try:
        return msgspec.convert(file.fact(FACT) or {}, Served)
    except msgspec.ValidationError:  # from another version
        return Served()
