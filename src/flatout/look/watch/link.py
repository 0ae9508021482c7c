"""Waits for the terminal: what changes while it is behind is drawn once, when it has caught up.

Over a slow link, screens would queue up on their way, and keys would seem dead until all of them were shown. A terminal
that is asked for its cursor's place (DSR, ECMA-48 8.3.35) answers in the order of what it gets. So the question after a
repaint is answered when that repaint is on the screen; until then the next one is held back.

The last question comes when the view ends. What the terminal itself had to say, such as where the mouse is, comes
before its answer. What comes after it was typed for the shell, and is left there.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

from textual.events import CursorPosition

if TYPE_CHECKING:
    from textual.driver import Driver
    from textual.message import Message

ASK = "\x1b[6n"

ENOUGH = 500
"""Characters after which the terminal is asked."""

FIRST = 2.0
"""Seconds for the first answer. A terminal that gives none is not asked again."""

LONGEST = 30.0
"""Seconds for which a terminal that has answered before is waited for."""

LAST = 3.0
"""Seconds for the last answer. What comes by then is thrown away if the answer does not; later, the shell would get it
as if it were typed."""


class Link:
    """The way to one terminal.

    Args:
        hold: gives a block in which nothing is repainted.
    """

    def __init__(self, hold: Callable[[], AbstractContextManager[object]]) -> None:
        self._hold = hold
        self._held = ExitStack()
        self._written = 0
        self._answers: bool | None = None  # None before the first question was answered, or was not
        self._timer: asyncio.TimerHandle | None = None

    @property
    def answers(self) -> bool:
        """Whether the terminal answers."""
        return bool(self._answers)

    def wrote(self, characters: int, ask: Callable[[], object]) -> None:
        """Hear of characters on their way. If they are many, ask the terminal, and hold the next repaint back."""
        self._written += characters
        if self._answers is False or self._timer is not None or self._written < ENOUGH:
            return
        self._written = 0
        ask()
        self._held.enter_context(self._hold())
        patience = LONGEST if self._answers else FIRST
        self._timer = asyncio.get_running_loop().call_later(patience, self._go_on, bool(self._answers))

    def answered(self) -> None:
        """Hear that the terminal has shown what it was sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._go_on(answers=True)

    def _go_on(self, answers: bool) -> None:
        self._answers, self._timer = answers, None
        self._held.close()


def with_link(kind: type[Driver], link: Link) -> type[Driver]:
    """A kind of driver that tells a link what it writes, and leaves to the shell what is typed after the end.

    Textual's own driver goes on reading for a moment, and throws away what has come by then. Nobody may put back what
    was read, so this one stops reading in time.
    """

    class Linked(kind):  # type: ignore[misc, valid-type]
        _unanswered = 0
        _leaves = False

        def write(self, data: str) -> None:
            super().write(data)
            link.wrote(len(data), self._ask)

        def _ask(self) -> None:
            self._unanswered += 1
            super().write(ASK)

        def process_message(self, message: Message) -> None:
            if isinstance(message, CursorPosition):
                self._unanswered -= 1
                if self._leaves and self._unanswered <= 0:
                    self.exit_event.set()  # it is looked at before the next reading, in this thread
            super().process_message(message)

        def disable_input(self) -> None:
            reads = getattr(self, "_key_thread", None)
            if reads is None or not link.answers:
                super().disable_input()
            elif reads.is_alive():  # Textual calls this twice
                self._disable_mouse_support()
                self._leaves = True
                self._ask()
                self.flush()
                reads.join(LAST)
                self._leaves = False
                if reads.is_alive():
                    super().disable_input()
                else:
                    signal.signal(signal.SIGWINCH, signal.SIG_DFL)
                    self.exit_event.clear()

    return Linked
