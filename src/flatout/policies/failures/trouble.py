"""What went wrong with one call so far: how often, when, and whose fault it was. It begins with the first failure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from flatout.errors import CallError, RateLimited

SHOWN = 8
"""Most attempts that a message lists one by one."""


class Trouble:
    """The failed attempts of one call.

    Args:
        first: the number of the first of them, among all calls to its target.

    Attributes:
        spent: attempts of the call that they cost.
        excused: whether the last failure was the target's fault, and cost no attempt.
        times_excused: how many were.
        over: whether the last failure made flatout give up the target.
        closed: whether the last failure was a refusal that every call would meet.
        others: calls sent since the first failed one that were answered; if there are many, not all are counted.
    """

    __slots__ = ("_failed", "closed", "excused", "first", "others", "over", "spent", "times_excused")

    def __init__(self, first: int = 0) -> None:
        self.first: int = first
        self.spent: int = 0
        self.excused: bool = False
        self.closed: bool = False
        self.over: bool = False
        self.times_excused: int = 0
        self.others: int = 0
        self._failed: list[tuple[float, str]] = []

    def __repr__(self) -> str:
        return f"Trouble(spent={self.spent}, excused={self.times_excused}, {self.others} others answered)"

    def note(self, error: CallError, seconds: float) -> None:
        """An attempt failed, this many seconds after the call began."""
        if not isinstance(error, RateLimited):
            self._failed.append((seconds, str(error.status) if error.status else type(error).__name__))
            self.times_excused += self.excused

    def tried(self) -> str:
        """The attempts and how they ended: ``500 at 0.1, 0.7 s; ConnectError at 2.3 s``; "" if there were none."""
        shown = self._failed
        if len(shown) > SHOWN:
            shown = [*shown[: SHOWN // 2], *shown[-SHOWN // 2 :]]
        text = "; ".join(_listed(what, [at for at, _ in group]) for what, group in groupby(shown, lambda each: each[1]))
        return f"{text} ({len(self._failed)} in all)" if len(self._failed) > SHOWN else text

    def whose(self) -> str:
        """Whose fault it seems to be. It is the call's own if at least as many other calls were answered."""
        answered = f"{self.others} other {'call' if self.others == 1 else 'calls'}"
        if self.others >= max(1, self.spent):
            return f"at least {answered} sent meanwhile {_were(self.others)} answered, so it is this call"
        if self.others:
            return f"only {answered} sent meanwhile {_were(self.others)} answered"
        return "no other call sent meanwhile was answered: it may be the server"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _listed(what: str, times: Sequence[float]) -> str:
    return f"{what} at {', '.join(f'{at:.1f}' for at in times)} s"
