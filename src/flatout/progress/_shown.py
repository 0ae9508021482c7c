"""How a program's progress is shown: lines of a terminal or a log, HTML in a notebook, or as the user wants it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from shutil import get_terminal_size
from textwrap import fill
from typing import Protocol

from flatout.errors import ConfigError
from flatout.text.terminal import is_live, write
from flatout.text.visible import visible_lines

from ._counters import Progress
from ._display import Display, LiveLine, PlainLines
from ._line import Ways, at_rest, last_facts, state

WAYS = Ways("Limits(rpm=…) or Limits(concurrency=…)", "client.resume()")

CALLED_SECONDS = 0.25
"""Seconds between two calls of a user's function."""

_log = logging.getLogger("flatout")


class Shows(Protocol):
    """Shows progress. ``seconds`` is the time between two updates."""

    seconds: float

    async def show(self, progress: Progress) -> None:
        """Show the current numbers."""
        ...

    async def end(self, progress: Progress) -> None:
        """Show the last numbers. They stay."""
        ...


def shows_for(wanted: bool | Callable[[Progress], None]) -> Shows:
    """What fits: the user's function, a notebook's output, or lines on standard error.

    Raises:
        ConfigError: ``wanted`` is neither True nor a function.
    """
    if callable(wanted):
        return _Told(wanted)
    if wanted is not True:
        raise ConfigError(f"progress is True, False, or a function that receives the progress, not {wanted!r}")
    if is_notebook():
        from ._notebook import NotebookCard

        return NotebookCard(WAYS)
    return _Lines(LiveLine(WAYS, over_answers=is_live(sys.stdout)) if is_live(sys.stderr) else PlainLines(_say, WAYS))


def is_notebook() -> bool:
    """Whether this program is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


class _Lines:
    """Lines on standard error. A thread writes them: a blocked terminal must not stop the calls."""

    def __init__(self, display: Display) -> None:
        self.seconds = display.seconds
        self._display = display

    async def show(self, progress: Progress) -> None:
        await asyncio.to_thread(self._display.show, progress)

    async def end(self, progress: Progress) -> None:
        await asyncio.to_thread(self._end, " · ".join([*last_facts(progress), *state(at_rest(progress), WAYS)]))

    def _end(self, line: str) -> None:
        self._display.close()
        _say(line)


class _Told:
    """The user's function. It is called in the event loop, like the subscribers of events."""

    seconds = CALLED_SECONDS

    def __init__(self, function: Callable[[Progress], None]) -> None:
        self._function = function
        self._broken = False

    async def show(self, progress: Progress) -> None:
        try:
            self._function(progress)
        except Exception as error:
            if not self._broken:
                self._broken = True
                name = getattr(self._function, "__qualname__", type(self._function).__qualname__)
                _log.warning("%s failed to show the progress; it is not told again", name, exc_info=error)

    async def end(self, progress: Progress) -> None:
        await self.show(progress)


def _say(text: str) -> None:
    line = visible_lines(text)
    if is_live(sys.stderr):
        line = fill(line, max(40, get_terminal_size().columns), subsequent_indent="  ", break_on_hyphens=False)
    write(sys.stderr, f"{line}\n")
