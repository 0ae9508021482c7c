"""The terminal program: it looks at the run file every second, in a thread, and shows what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from flatout.errors import FlatoutError
from flatout.runs.story.node import Node
from flatout.store import RunNotBegun

from .first import FirstScreen
from .glance import Glance, Watcher
from .help import HelpScreen
from .link import Link, with_link

if TYPE_CHECKING:
    from textual.driver import Driver

EVERY = 1.0
"""Seconds between two looks."""

SHARE = 10
"""A look is followed by a pause of at least this many times as long as it took."""

TreeLines = Callable[[Node], Iterable[str]]
"""Writes the tree of a row as lines."""


class Watch(App[None]):
    """Shows a run.

    Args:
        find: finds the run file; it need not be there yet.
        name: its name as the user gave it.
        tree_lines: how the tree of a row is written.
        every: seconds between two looks.
    """

    TITLE = "flatout watch"
    ENABLE_COMMAND_PALETTE = False
    CSS_PATH = "watch.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(self, find: Callable[[], Path], name: str, tree_lines: TreeLines, *, every: float = EVERY) -> None:
        self._link = Link(self.batch_update)
        super().__init__(ansi_color=True)  # from the start: without colours it would else be black on black
        self._find = find
        self.place = find()
        self.shown_name = name
        self.tree_lines = tree_lines
        self._every = every
        self._watcher = Watcher(self.place)
        self._first = FirstScreen(name)

    def get_driver_class(self) -> type[Driver]:
        """The driver of this system, with a link that knows whether the terminal is behind."""
        return with_link(super().get_driver_class(), self._link)

    async def action_quit(self) -> None:
        """Quit, and read no more keys from now on: taking the view down takes a while."""
        if self._driver is not None:
            self._driver.disable_input()
        self.exit()

    def on_cursor_position(self) -> None:
        """Hear that the terminal has caught up."""
        self._link.answered()

    def on_mount(self) -> None:
        self.theme = "ansi-dark"  # the terminal's own colours, so that it suits a light one, too
        self.push_screen(self._first)
        self.run_worker(self._look_again_and_again(), name="looks")
        self.run_worker(self._count_again_and_again(), name="counts")

    async def _look_again_and_again(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                self._first.glance = await asyncio.to_thread(self._look)
                self._first.trouble = None
                self._first.before = "There is no run yet. It is shown as soon as it begins."
            except FlatoutError as error:
                self._first.trouble = str(error)
            self._first.present()
            await asyncio.sleep(max(self._every, SHARE * (loop.time() - began)))

    async def _count_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            if self._watcher.due:
                with suppress(FlatoutError):  # the next look says why
                    await asyncio.to_thread(self._watcher.count)

    def _look(self) -> Glance | None:
        """What is known now; None before the run begins."""
        if self._first.glance is None and not self.place.exists():
            self.place = self._find()
            if not self.place.exists():
                return None
            self._watcher = Watcher(self.place)
        try:
            return self._watcher.look()
        except RunNotBegun:
            if self._first.glance is None:
                return None
            raise

    @property
    def defect(self) -> Exception | None:
        """The unexpected error that ended it."""
        found: Exception | None = self._exception
        return found

    def _fatal_error(self) -> None:
        """Leave after an unexpected error. Textual's own report would show local variables, and with them prompts."""
        self._close_messages_no_wait()

    def action_help(self) -> None:
        """Show what the keys do, and what the words mean."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())
