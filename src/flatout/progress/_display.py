"""Shows progress on standard error: two lines of a terminal, updated in place, or a plain line every few seconds.

The numbers are read in the event loop and written by a thread. A blocked terminal (Ctrl-S, a slow connection) must not
stop the calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from flatout.text.visible import visible_lines

from ._line import Ways, compose, how_far, how_fast, state
from ._pace import Pace

if TYPE_CHECKING:
    from rich.live import Live

    from ._counters import Progress

PLAIN_SECONDS = 5.0
"""Seconds between two plain lines."""

SHORTEST_SILENCE, LONGEST_SILENCE = 60.0, 1_800.0
"""Seconds between two plain lines while a run waits for batches and nothing changes: they double."""

_LIVE_SECONDS = 0.125

_SCREEN = Lock()
"""Held by the live line that the terminal shows: two would overwrite each other."""


class Display(Protocol):
    """Shows progress. ``seconds`` is the time between two updates."""

    seconds: float

    def show(self, progress: Progress, note: str = "") -> None:
        """Show the current numbers. The note reports a special state, such as that the run is stopping."""
        ...

    def close(self) -> None:
        """Remove everything temporary."""
        ...


async def watch(refresh: Callable[[], None], progress: Progress, display: Display, note: Callable[[], str]) -> None:
    """Show progress until cancelled.

    Args:
        refresh: brings ``progress`` up to date.
        progress: the numbers.
        display: shows them.
        note: returns the note to show beside them.
    """
    while True:
        await asyncio.sleep(display.seconds)
        refresh()
        await asyncio.to_thread(display.show, progress, note())


class Silent:
    """Shows nothing."""

    seconds = 3_600.0

    def show(self, progress: Progress, note: str = "") -> None:
        """Show nothing."""

    def close(self) -> None:
        """There is nothing to close."""


class PlainLines:
    """One line every few seconds, without control characters: for logs, pipes and simple terminals.

    Args:
        say: writes a line.
        ways: what the user can do.
        seconds: the time between two lines.
    """

    def __init__(self, say: Callable[[str], None], ways: Ways, seconds: float = PLAIN_SECONDS) -> None:
        self.seconds = seconds
        self._say = say
        self._ways = ways
        self._pace = Pace()
        self._waits: tuple[Any, ...] = ()  # what was last said of batches
        self._said_at = self._next_at = 0.0

    def show(self, progress: Progress, note: str = "") -> None:
        """Write a line. While a run only waits for batches, write what changes, and a sign of life now and then."""
        if not self._is_news(progress, note):
            return
        facts = [how_far(progress), *how_fast(progress, self._pace.look(progress)), *state(progress, self._ways)]
        self._say(", ".join([*facts, note] if note else facts))

    def _is_news(self, progress: Progress, note: str) -> bool:
        under_way, now = progress.batches, progress.elapsed
        if not under_way.open or progress.in_flight:
            self._waits = ()
            return True
        waits = (under_way.open, under_way.states, progress.finished, progress.held, note)
        if waits == self._waits and now < self._next_at:
            return False
        quiet = 0.0 if waits != self._waits else now - self._said_at
        self._waits, self._said_at = waits, now
        self._next_at = now + min(LONGEST_SILENCE, max(2.0 * quiet, SHORTEST_SILENCE))
        return True

    def close(self) -> None:
        """There is nothing to close."""


class LiveLine:
    """Two lines at the bottom of a terminal, updated in place.

    Args:
        ways: what the user can do.
        over_answers: what the program writes to standard output meanwhile goes above the lines. It must be the same
            terminal.
    """

    seconds = _LIVE_SECONDS

    def __init__(self, ways: Ways, *, over_answers: bool = False) -> None:
        self._ways = ways
        self._over_answers = over_answers
        self._pace = Pace()
        self._live: Live | None = None
        self._closed = False
        self._lock = Lock()  # `show` runs in a thread, which may be late

    def show(self, progress: Progress, note: str = "") -> None:
        """Update the two lines."""
        from rich.text import Text

        with self._lock, suppress(OSError, ValueError):  # the terminal has gone; the run goes on
            if self._closed:
                return
            live = self._live or self._start()
            if live is None:
                return
            first, second = compose(progress, self._pace.look(progress), note, live.console.width - 1, self._ways)
            text = Text(visible_lines(f"{first}\n{second}".rstrip("\n")), no_wrap=True, overflow="ellipsis")
            text.highlight_regex(r"━+", "cyan")
            text.highlight_regex(r"[\d,]+ failed|[^·\n]+ stopped: [^·\n]+", "red")
            text.highlight_regex(r"[^·\n]+ paused: [^·\n]+", "yellow")
            live.update(text, refresh=True)

    def close(self) -> None:
        """Remove the lines."""
        with self._lock, suppress(OSError, ValueError):
            self._closed = True
            if self._live is not None:
                try:
                    self._live.stop()
                finally:
                    self._live = None
                    _SCREEN.release()

    def _start(self) -> Live | None:
        """Take the screen; None if another live line has it."""
        if not _SCREEN.acquire(blocking=False):
            return None
        from rich.console import Console
        from rich.live import Live

        # Otherwise standard output stays untouched: it belongs to the answers.
        self._live = Live(
            console=Console(stderr=True), auto_refresh=False, transient=True, redirect_stdout=self._over_answers
        )
        self._live.start()
        return self._live
