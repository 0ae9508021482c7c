"""The terminal program for a team: it looks every second, in a thread, and shows what it found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from flatout.errors import ConfigError
from flatout.look.team import NobodyThere, TeamNow
from flatout.text import figures

from .help import TEAM, HelpScreen

EVERY = 1.0
"""Seconds between two looks."""


class WatchTeam(App[None]):
    """Shows a team.

    Args:
        look: looks at it; raises `ConfigError` if it cannot.
        lines: how it is written.
        every: seconds between two looks.
    """

    TITLE = "flatout watch"
    ENABLE_COMMAND_PALETTE = False
    CSS = "Screen { padding: 0 1; } Static { height: auto; } #team { text-wrap: nowrap; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(
        self, look: Callable[[], TeamNow], lines: Callable[[TeamNow], Sequence[str]], *, every: float = EVERY
    ) -> None:
        super().__init__(ansi_color=True)  # from the start: without colours it would else be black on black
        self._look, self._lines, self._every = look, lines, every

    def compose(self) -> ComposeResult:
        yield Static(id="trouble")
        with VerticalScroll():
            yield Static("Looking …", id="team")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.theme = "ansi-dark"  # the terminal's own colours, so that it suits a light one, too
        self.query_one("#trouble").display = False
        self.run_worker(self._look_again_and_again(), name="looks")

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

    def action_help(self) -> None:
        """Show what the keys do, and what the words mean."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(TEAM))

    @property
    def defect(self) -> Exception | None:
        """The unexpected error that ended it."""
        found: Exception | None = self._exception
        return found

    def _fatal_error(self) -> None:
        """Leave after an unexpected error, without Textual's report of it."""
        self._close_messages_no_wait()


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
