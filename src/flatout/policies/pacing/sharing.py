"""What several programs hold in common, for them to pace one target as one program would.

Where it is kept is another's affair (a file of this machine: `flatout.store.shared`). Four things are held in common:

- *cells*, each a number: theoretical arrival times, a pause, the limits that headers told;
- a *log* of what happened to requests, in one order for all. A search for an unknown limit is pure: whoever is told the
  same, in the same order, comes to the same. So each program runs the whole search, and none of them leads;
- *kept states* of that search, from which those go on who come late;
- *members*: how many requests each program has in flight. What a program that died had in flight is free again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from .gcra import Gcra

LogEntry = tuple[float, float, float, float, float, float]
"""What happened: its kind, when, and up to four figures more."""


class Log(Protocol):
    """What happened, in one order for all."""

    @property
    def end(self) -> int:
        """How many events there were so far."""
        ...

    def append(self, event: LogEntry, /) -> None:
        """One more has happened."""
        ...

    def since(self, place: int, /) -> Sequence[LogEntry] | None:
        """The events from one on; None when they are not all there any more."""
        ...

    def keep(self, state: bytes, /) -> None:
        """Keep what all events so far have led to."""
        ...

    def kept(self) -> tuple[int, bytes]:
        """After how many events a state was kept last, and which.

        Raises:
            ValueError: none was, or it is damaged.
        """
        ...


class Member(NamedTuple):
    """A program.

    Attributes:
        held: requests that it has in flight.
        waits_until: until when it is to be thought to wait for more.
        went_at: when it sent the last one.
    """

    held: float
    waits_until: float
    went_at: float


class Members(Protocol):
    """Who is at it."""

    @property
    def in_flight(self) -> float:
        """How many requests all have in flight."""
        ...

    @property
    def waits_until(self) -> float:
        """Until when any of them is to be thought to wait."""
        ...

    def own(self) -> Member:
        """What this program has."""
        ...

    def others(self) -> Sequence[Member]:
        """What the others have."""
        ...

    def sent(self, now: float, /) -> None:
        """This program has sent a request, and does not wait."""
        ...

    def ended(self) -> None:
        """One of its requests is over."""
        ...

    def waits(self, until: float, /) -> None:
        """It waits."""
        ...

    def bury(self, now: float, /) -> int:
        """Take back what those held that have died, if nobody has just looked. Returns how many requests that were."""
        ...


class Shared(AbstractContextManager[None], Protocol):
    """What several pacers hold in common. Entered, nobody else reads or changes it."""

    paused_until: float

    @property
    def log(self) -> Log: ...

    @property
    def members(self) -> Members: ...

    def gcra(self, cell: str, rate: float, burst: float, now: float, /) -> Gcra:
        """A GCRA that all of them share."""
        ...

    def read(self, cell: str, /) -> float:
        """A cell's number; 0.0 when nobody wrote it."""
        ...

    def write(self, cell: str, value: float, /) -> None:
        """Change a cell."""
        ...
