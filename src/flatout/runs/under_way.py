"""The calls in flight of a run, and how they end when the run stops."""

from __future__ import annotations

import asyncio
from operator import itemgetter

from flatout.errors import CallError
from flatout.journey import AttemptNotes, Journey
from flatout.progress._counters import Longest

from .skips import Skip, Skips
from .stops import Stops

GRACE = 30.0
"""Seconds that calls in flight may take to finish after an interrupt."""

_AGAIN_AFTER = 0.05  # seconds between two checks of a stopping run's calls


class UnderWay:
    """Tracks the calls in flight by their rows.

    Attributes:
        ending: what the run was told of its end.
        sent: how many attempts were sent.
        skips: the rows that are not to be asked.
    """

    def __init__(self) -> None:
        self.ending = Stops()
        self.sent = 0
        self.skips = Skips()
        self._calls: dict[int, tuple[asyncio.Task[None], Journey, str | None]] = {}  # by their rows

    def begin(self, task: asyncio.Task[None], index: int, journey: Journey, id: str | None = None) -> None:
        """A task makes a row's call from now on. Once the run is stopping, the call starts no attempt."""
        journey.notes = _Counted(self, journey.notes)
        self._calls[index] = task, journey, id

    def end(self, index: int) -> None:
        """The call of a row has ended."""
        del self._calls[index]

    def skip(self, skip: Skip) -> bool:
        """Skip a row: now if its call is under way, otherwise when it comes. Returns whether it is under way."""
        self.skips.add(skip)
        if skip.index is not None:
            found = [self._calls[skip.index]] if skip.index in self._calls else []
        else:
            found = [each for each in self._calls.values() if each[2] == skip.id]
        for task, _, _ in found:
            task.cancel()
        return bool(found)

    def longest(self, now: float) -> Longest | None:
        """The attempt that has been on the wire longest; None if there is none."""
        attempts = ((index, journey.attempt) for index, (_, journey, _) in self._calls.items())
        sent = ((attempt.sent_at, index, attempt.ends_at) for index, attempt in attempts if attempt.may_have_arrived)
        since, index, until = min(sent, key=itemgetter(0), default=(now, 0, None))
        return None if until is None else Longest(index + 1, now - since, until - now)

    def stop(self, *, drain: bool = False) -> None:
        """Let attempts in flight finish, and cancel the rest; after 30 s, or at the second call, cancel everything.

        Args:
            drain: let the attempts in flight take as long as they do. The next call is then like a first one.
        """
        self.ending.told(drain=drain)
        if self.ending.count == 1:
            self._drop_waiting()
            if not drain:
                asyncio.get_running_loop().call_later(GRACE, self.stop)
            return
        for task, _, _ in self._calls.values():
            task.cancel()

    def _drop_waiting(self) -> None:
        """Cancel the calls that only wait, for admission or for a retry.

        Repeated, because an attempt in flight may fail, and its call then waits too.
        """
        for task, journey, _ in self._calls.values():
            if not (journey.attempt.may_have_arrived or task.cancelling()):
                task.cancel()
        if self._calls and self.ending.count == 1:
            asyncio.get_running_loop().call_later(_AGAIN_AFTER, self._drop_waiting)


class _Counted:
    """Counts a row's attempts and passes them on to be noted. Once the run is stopping, it lets none begin."""

    def __init__(self, under_way: UnderWay, notes: AttemptNotes | None) -> None:
        self._under_way = under_way
        self._notes = notes

    async def begins(self, attempt: int, target: str, estimate: float | None, after: Exception | None, /) -> None:
        if self._under_way.ending.count:
            raise asyncio.CancelledError
        if self._notes is not None:
            await self._notes.begins(attempt, target, estimate, after)
        self._under_way.sent += 1

    def failed(self, attempt: int, error: CallError, /) -> None:
        if self._notes is not None:
            self._notes.failed(attempt, error)
