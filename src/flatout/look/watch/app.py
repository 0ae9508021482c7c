"""The terminal program: it looks at the run file every second, in a thread, and shows what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from textual import work

from flatout.errors import FlatoutError
from flatout.runs.story.node import Node
from flatout.store import RunNotBegun

from .first import FirstScreen
from .glance import Glance, Watcher
from .help import KEYS
from .terminal import View

EVERY = 1.0
"""Seconds between two looks."""

SHARE = 10
"""A look is followed by a pause of at least this many times as long as it took."""

TreeLines = Callable[[Node], Iterable[str]]
"""Writes the tree of a row as lines."""


class Watch(View):
    """Shows a run.

    Args:
        find: finds the run file; it need not be there yet.
        name: its name as the user gave it.
        tree_lines: how the tree of a row is written.
        every: seconds between two looks.
    """

    CSS_PATH = "watch.tcss"

    def __init__(self, find: Callable[[], Path], name: str, tree_lines: TreeLines, *, every: float = EVERY) -> None:
        super().__init__(KEYS)
        self._find = find
        self.place = find()
        self.shown_name = name
        self.tree_lines = tree_lines
        self._every = every
        self._watcher = Watcher(self.place)
        self._first = FirstScreen(name)

    def on_mount(self) -> None:
        self.push_screen(self._first)
        self._look_again_and_again()
        self._count_again_and_again()

    @work(name="looks")
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

    @work(name="counts")
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
