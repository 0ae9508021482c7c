"""The terminal program for a team: it looks every second, in a thread, and shows what it found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from flatout.errors import ConfigError
from flatout.look.team import NobodyThere, TeamNow
from flatout.text import figures

from .help import TEAM
from .terminal import View

EVERY = 1.0
"""Seconds between two looks."""


class WatchTeam(View):
    """Shows a team.

    Args:
        look: looks at it; raises `ConfigError` if it cannot.
        lines: how it is written.
        every: seconds between two looks.
    """

    CSS = "Screen { padding: 0 1; } Static { height: auto; } #team { text-wrap: nowrap; }"

    def __init__(
        self, look: Callable[[], TeamNow], lines: Callable[[TeamNow], Sequence[str]], *, every: float = EVERY
    ) -> None:
        super().__init__(TEAM)
        self._look, self._lines, self._every = look, lines, every

    def compose(self) -> ComposeResult:
        yield Static(id="trouble")
        with VerticalScroll():
            yield Static("Looking …", id="team")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.query_one("#trouble").display = False
        self._look_again_and_again()

    @work(name="looks")
    async def _look_again_and_again(self) -> None:
        trouble, team = self.query_one("#trouble", Static), self.query_one("#team", Static)
        shown: TeamNow | None = None
        while True:
            try:
                found = await asyncio.to_thread(self._look)
            except NobodyThere as error:
                trouble.update(Text(f"Waiting for the first worker: {error}."))
                trouble.display, shown = True, None
                team.update("")
            except ConfigError as error:
                trouble.update(Text(f"{error}.{_of_then(shown)}", style="red"))
                trouble.display = True
            else:
                shown, trouble.display = found, False
                team.update(_drawn(self._lines(found)))
            await asyncio.sleep(self._every)


def _of_then(shown: TeamNow | None) -> str:
    """Of when the figures are that are still shown."""
    if shown is None:
        return ""
    at = time.strftime("%H:%M:%S", time.localtime(shown.at))
    return f" What is shown was read at {at}, {figures.duration(max(0.0, time.time() - shown.at))} ago."


def _drawn(lines: Sequence[str]) -> Text:
    """The lines: what is not indented is a heading."""
    text = Text()
    for line in lines:
        text.append(f"{line}\n", style="" if line.startswith(" ") else "bold")
    text.rstrip()
    return text
