"""What every view in a terminal has: its keys, its way to the terminal, and its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.widgets import Input

from .help import HelpScreen
from .link import Link, with_link

if TYPE_CHECKING:
    from textual.driver import Driver


class View(App[None]):
    """A view that is held back while its terminal is behind.

    Args:
        words: what its words mean, for the help.
    """

    TITLE = "flatout watch"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(self, words: str) -> None:
        self._link = Link(self._held)
        super().__init__(ansi_color=True)  # from the start: without colours it would else be black on black
        self._words = words

    def on_mount(self) -> None:
        self.theme = "ansi-dark"  # the terminal's own colours, so that it suits a light one, too

    def get_driver_class(self) -> type[Driver]:
        """The driver of this system, with a link that knows whether the terminal is behind."""
        return with_link(super().get_driver_class(), self._link, self._quits)

    def _quits(self, key: str) -> bool:
        """Whether a key quits now, and is not typed into a field."""
        return key == "ctrl+c" or (key == "q" and not isinstance(self.focused, Input))

    def on_cursor_position(self) -> None:
        """Hear that the terminal has caught up."""
        self._link.answered()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """A block in which nothing is repainted."""
        with self.batch_update():
            yield
        if self._screen_stack:  # it has not ended meanwhile
            self.screen.check_idle()  # else what changed within would be painted with the next change, if one comes

    async def action_quit(self) -> None:
        """Quit, and read no more keys from now on: taking the view down takes a while."""
        if self._driver is not None:
            self._driver.disable_input()
        self.exit()

    def action_help(self) -> None:
        """Show what the keys do, and what the words mean."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self._words))

    @property
    def defect(self) -> Exception | None:
        """The unexpected error that ended it."""
        found: Exception | None = self._exception
        return found

    def _fatal_error(self) -> None:
        """Leave after an unexpected error. Textual's own report would show local variables, and with them prompts."""
        self._close_messages_no_wait()
