"""The order in which the calls to one target go: first in, first out, with two exceptions.

A call that was sent back (refused for its speed, or it met an outage) had its turn already. It goes before calls that
had none. Retries that cost an attempt have a queue of their own. While other calls wait, retries are only a share of
what is sent; otherwise a target that fails half of its calls would be busy with these alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Entry(Protocol):
    """A call in the line.

    Attributes:
        sent_back: whether it had its turn already.
        started: when the call began.
        left: whether it has left the line, or never stood in it.
    """

    sent_back: bool
    started: float
    left: bool


EntryT = TypeVar("EntryT", bound=Entry)


class Line(Generic[EntryT]):
    """The calls that wait.

    Args:
        retries: the share of what is sent that may be retries while other calls wait.

    Attributes:
        first: calls on their first attempt, and those that were sent back.
        again: retries.
    """

    __slots__ = ("_between", "_others", "again", "first")

    def __init__(self, retries: float) -> None:
        self.first: deque[EntryT] = deque()
        self.again: deque[EntryT] = deque()
        self._between = (1.0 - retries) / retries  # other calls that go between two retries
        self._others = 0.0  # other calls since the last retry

    def __len__(self) -> int:
        return len(self.first) + len(self.again)

    def add(self, entry: EntryT, *, retry: bool) -> None:
        """Queue a call at the back."""
        entry.left = False
        (self.again if retry else self.first).append(entry)

    def put_back(self, entry: EntryT, started: float) -> None:
        """Queue a call that was sent back: before all that were not, and the oldest first."""
        entry.left = False
        entry.sent_back, entry.started = True, started
        place = 0
        for other in self.first:
            if not other.sent_back or other.started > started:
                break
            place += 1
        self.first.insert(place, entry)

    def next(self) -> deque[EntryT]:
        """The queue whose head goes next; an empty one when no call waits."""
        retry = self.again and (not self.first or self._others >= self._between)
        return self.again if retry else self.first

    def pop(self, queue: deque[EntryT]) -> EntryT:
        """Take the head of a queue: it goes now."""
        self._others = max(0.0, self._others - self._between) if queue is self.again else self._others + 1.0
        entry = queue.popleft()
        entry.left = True
        return entry

    def drop(self, queue: deque[EntryT], place: int = 0) -> EntryT:
        """Take a call out of a queue, by its place."""
        entry = queue[place]
        del queue[place]
        entry.left = True
        return entry

    def remove(self, entry: EntryT) -> None:
        """Take a call out of its queue, if it is still there."""
        if entry.left:
            return
        entry.left = True
        for queue in (self.first, self.again):
            if entry in queue:
                queue.remove(entry)
                return

    def leave(self, which: Callable[[EntryT], bool]) -> list[EntryT]:
        """Take out all calls for which ``which`` is true. Returns them in their order."""
        left = [entry for queue in (self.first, self.again) for entry in queue if which(entry)]
        for entry in left:
            entry.left = True
        for queue in (self.first, self.again):
            kept = [entry for entry in queue if not which(entry)]
            queue.clear()
            queue.extend(kept)
        return left
