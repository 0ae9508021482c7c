"""The order in which the calls to one target go: first in, first out, with three exceptions.

- A call that was sent back (refused for its speed, or it met an outage) had its turn already. It goes before calls that
  had none.
- Retries that cost an attempt have a queue of their own. While other calls wait, retries are only a share of what is
  sent; otherwise a target that fails half of its calls would be busy with these alone.
- While the target is in trouble, every second call is a new one, from the first on. Perhaps it is a dozen calls that
  fail, and not the target. Then it would seem down for as long as only these look at it. And only another call tells
  whether a refusal concerns all.
"""

from __future__ import annotations

from bisect import insort_right
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Generic, Protocol, TypeVar


class Entry(Protocol):
    """A call in the line.

    Attributes:
        started: when the call began; it counts for one that was sent back.
        left: whether it has left the line, or never stood in it.
    """

    started: float
    left: bool


EntryT = TypeVar("EntryT", bound=Entry)


class Line(Generic[EntryT]):
    """The calls that wait.

    Args:
        retries: the share of what is sent that may be retries while other calls wait.

    Attributes:
        back: calls that were sent back, the oldest first.
        first: calls on their first attempt, and those that were refused for their speed again and again.
        again: retries, and calls that met an outage again and again.
    """

    __slots__ = ("_between", "_new", "_others", "again", "back", "first")

    def __init__(self, retries: float) -> None:
        self.back: deque[EntryT] = deque()
        self.first: deque[EntryT] = deque()
        self.again: deque[EntryT] = deque()
        self._between = (1.0 - retries) / retries  # other calls that go between two retries
        self._others = 0.0  # other calls since the last retry
        self._new = False  # whether the last call that went was a new one, sent to a target in trouble

    def __len__(self) -> int:
        return len(self.back) + len(self.first) + len(self.again)

    def __iter__(self) -> Iterator[EntryT]:
        """The calls, about in the order in which they go."""
        return chain(self.back, self.first, self.again)

    def add(self, entry: EntryT, *, retry: bool) -> None:
        """Queue a call at the back."""
        entry.left = False
        (self.again if retry else self.first).append(entry)

    def put_back(self, entry: EntryT, started: float) -> None:
        """Queue a call that was sent back: before all that were not, and the oldest first."""
        entry.left = False
        entry.started = started
        insort_right(self.back, entry, key=_started)

    def next(self, *, troubled: bool = False) -> deque[EntryT]:
        """The queue whose head goes next; an empty one when no call waits.

        Args:
            troubled: whether the target is in trouble.
        """
        if troubled and self.first and not self._new:
            return self.first
        if self.again and (self._others >= self._between or not (self.back or self.first)):
            return self.again
        return self.back or self.first

    def pop(self, queue: deque[EntryT], *, troubled: bool = False) -> EntryT:
        """Take the head of a queue: it goes now. ``troubled`` as for `next`."""
        self._others = max(0.0, self._others - self._between) if queue is self.again else self._others + 1.0
        self._new = troubled and queue is self.first
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
        for queue in (self.back, self.first, self.again):
            if entry in queue:
                queue.remove(entry)
                return

    def leave(self, which: Callable[[EntryT], bool]) -> list[EntryT]:
        """Take out all calls for which ``which`` is true. Returns them in their order."""
        left: list[EntryT] = []
        for queue in (self.back, self.first, self.again):
            left += filter(which, queue)
            kept = [entry for entry in queue if not which(entry)]
            queue.clear()
            queue.extend(kept)
        for entry in left:
            entry.left = True
        return left


def _started(entry: Entry) -> float:
    return entry.started
