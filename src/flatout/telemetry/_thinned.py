"""Keeps a log readable while thousands of calls fail in the same way: the first line at once, and then counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from flatout.text import figures

SHORTEST, LONGEST = 1.0, 60.0
"""Seconds between two lines of one kind. They double while there are more of the kind, and begin anew after a pause."""

EventT = TypeVar("EventT")


class _Kind(Generic[EventT]):
    """The events of one kind since its last line."""

    __slots__ = ("began", "count", "last", "level", "seconds", "timer", "written")

    def __init__(self, level: int, written: Callable[[EventT], str]) -> None:
        self.level = level
        self.written = written
        self.seconds = SHORTEST
        self.began = 0.0
        self.count = 0
        self.last: EventT | None = None
        self.timer: asyncio.TimerHandle | None = None


class Thinned:
    """Logs events of many kinds. At DEBUG, each has its line.

    Args:
        log: the logger.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._kinds: dict[Hashable, _Kind[object]] = {}

    def tell(self, kind: Hashable, level: int, written: Callable[[EventT], str], event: EventT) -> None:
        """Log an event, or count it.

        Args:
            kind: events of one kind share a line.
            level: the level of the line.
            written: makes the line from an event.
            event: the event.
        """
        if self._log.isEnabledFor(logging.DEBUG):
            self._log.log(level, "%s", written(event))
            return
        known = self._kinds.get(kind)
        if known is not None:
            known.count += 1
            known.last = event
            return
        self._log.log(level, "%s", written(event))
        known = self._kinds[kind] = _Kind(level, written)  # type: ignore[arg-type]  # of the kind's own events
        self._wait(kind, known)

    def flush(self) -> None:
        """Log what was counted: the client is closed."""
        kinds, self._kinds = self._kinds, {}
        for known in kinds.values():
            if known.timer is not None:
                known.timer.cancel()
            self._write(known)

    def _wait(self, kind: Hashable, known: _Kind[object]) -> None:
        loop = asyncio.get_running_loop()
        known.began = loop.time()
        known.timer = loop.call_later(known.seconds, self._look, kind, known)

    def _look(self, kind: Hashable, known: _Kind[object]) -> None:
        if not known.count:
            del self._kinds[kind]
            return
        self._write(known)
        known.count = 0
        known.seconds = min(LONGEST, 2.0 * known.seconds)
        self._wait(kind, known)

    def _write(self, known: _Kind[object]) -> None:
        if not known.count:
            return
        line = known.written(known.last)
        passed = figures.duration(asyncio.get_running_loop().time() - known.began)
        others = "" if known.count == 1 else f" ({known.count:,} such in {passed})"
        self._log.log(known.level, "%s%s", line, others)
