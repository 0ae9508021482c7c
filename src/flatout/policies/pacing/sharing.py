"""What several programs share in order to pace one target as one program would.

This module has only the protocols. `flatout.store.shared` keeps the data in a file of this machine; programs on several
machines keep it together (`team`). Programs share:

- *cells*, each a number: theoretical arrival times, a pause, the limits in headers;
- a *log* of what happened to requests, in one order for all. A search for an unknown limit is pure: the same events in
  the same order give the same result. So each program runs the whole search, and none of them leads;
- *kept states* of that search, where programs that come late begin;
- *members*: how many requests each program has in flight. When a program dies, its requests become free.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from .gcra import Gcra

if TYPE_CHECKING:
    from .aimd import Aimd
    from .unknown.search import RateSearch

LogEntry = tuple[float, float, float, float, float, float]
"""One event: its kind, when it happened, and up to four more figures."""


class Log(Protocol):
    """The events, in one order for all programs."""

    @property
    def end(self) -> int:
        """The number of events so far."""
        ...

    def append(self, event: LogEntry, /) -> None:
        """Add an event."""
        ...

    def since(self, place: int, /) -> Sequence[LogEntry] | None:
        """The events from this number on; None when the log no longer has all of them."""
        ...

    def keep(self, state: bytes, /) -> None:
        """Keep the state after all events so far."""
        ...

    def kept(self) -> tuple[int, bytes]:
        """The state that was kept last, after the number of events that led to it.

        Raises:
            ValueError: no state was kept, or it is damaged.
        """
        ...


class Members(Protocol):
    """The programs.

    Attributes:
        given: how many requests all may have in flight, as only other programs were told; `inf` if none was.
    """

    given: float

    @property
    def in_flight(self) -> float:
        """The requests in flight of all programs."""
        ...

    def fits(self, most: float, count: float, now: float, /) -> bool:
        """Whether this program may have one more in flight: ``count`` are, of at most ``most``. If not, it waits."""
        ...

    def sent(self, now: float, /) -> None:
        """This program sent a request, so it does not wait."""
        ...

    def ended(self) -> None:
        """One of this program's requests is over."""
        ...

    def bury(self, now: float, /) -> int:
        """Free the requests of programs that died, unless another program looked just now. Returns how many."""
        ...


class Searches(Protocol):
    """The searches for an unknown limit that all programs share.

    Attributes:
        rate: the search for a rate; None when there is none.
        aimd: adapts the number in flight; None when nothing does.
        adapts_together: whether `aimd` counts the requests of all programs, and not only of this one.
    """

    adapts_together: bool

    @property
    def rate(self) -> RateSearch | None: ...

    @property
    def aimd(self) -> Aimd | None: ...

    def join(self, now: float, rate: float | None, /) -> None:
        """Take part in the search for a rate, or begin it."""
        ...

    def adapt(self, now: float, most: float, /) -> None:
        """Take part in the search for a number in flight, or begin it."""
        ...

    def begin(self, now: float, rate: float, ceiling: float, /) -> None:
        """Begin a search for a rate below a ceiling, for all programs."""
        ...

    def catch_up(self, now: float, /) -> None:
        """Follow what other programs have found."""
        ...


class Shared(AbstractContextManager[None], Protocol):
    """What several pacers share. While one program has entered it, no other reads or changes it.

    Attributes:
        recheck: seconds after which a call that waits asks again: others may have changed what it waits for.
        paused_until: until when nothing may be sent.
    """

    recheck: float
    paused_until: float

    @property
    def members(self) -> Members: ...

    def gcra(self, cell: str, rate: float, burst: float, now: float, /) -> Gcra:
        """A GCRA that all programs share."""
        ...

    def together(self) -> Searches:
        """The searches that all programs share."""
        ...

    def read(self, cell: str, /) -> float:
        """A cell's number; 0.0 before the first write."""
        ...

    def write(self, cell: str, value: float, /) -> None:
        """Change a cell."""
        ...
