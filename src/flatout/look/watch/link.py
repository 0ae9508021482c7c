"""Waits for the terminal: what changes while it is behind is drawn once, when it has caught up.

Over a slow link, screens would queue up on their way, and keys would seem dead until all of them were shown. A terminal
that is asked for its cursor's place (DSR, ECMA-48 8.3.35) answers in the order of what it gets. So the question after a
repaint is answered when that repaint is on the screen; until then the next one is held back.

Keys are read one by one, and none after the one that quits: nobody may put back what was read, and what was typed next
was typed for the shell. If the terminal itself may have something to say yet, such as where the mouse is, a last
question is asked, and read up to its answer. Only what is typed in that moment is lost.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import threading
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.events import CursorPosition, Key, MouseEvent

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


STILL = 5.0
"""Seconds without a word of the mouse after which none is on its way any more, also over a slow link."""

QUITS = 1.0
"""Seconds in which a key that quits has quit."""


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


class Linked(LinuxDriver):
    """A driver that tells a link what it writes, and leaves to the shell what is typed after the end.

    Textual's own driver reads many keys at once, goes on reading for a moment, and throws away what has come by then.

    Attributes:
        link: the link.
        quits: whether a key quits, as things are. It is called in the thread that reads.
    """

    link: Link
    quits: Callable[[str], bool]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unanswered = 0
        self._leaves = False
        self._left = threading.Event()
        self._mouse_at = -STILL

    def write(self, data: str) -> None:
        """Write, and tell the link."""
        super().write(data)
        self.link.wrote(len(data), self._ask)

    def _ask(self) -> None:
        self._unanswered += 1
        super().write(ASK)

    def run_input_thread(self) -> None:
        """Read key by key, until the end."""
        parser, decode = XTermParser(self._debug), getincrementaldecoder("utf-8")("replace").decode
        with selectors.DefaultSelector() as ready:
            ready.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                if ready.select(0.1):
                    if not (read := os.read(self.fileno, 1)):
                        return
                    if text := decode(read):
                        self._hear(parser.feed(text))
                self._hear(parser.tick())

    def _hear(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.process_message(message)

    def process_message(self, message: Message) -> None:
        """Hear of a key, the mouse, or an answer."""
        if isinstance(message, CursorPosition):
            self._unanswered -= 1
            if self._leaves and self._unanswered <= 0:
                self.exit_event.set()  # it is looked at before the next reading, in this thread
        elif isinstance(message, MouseEvent):
            self._mouse_at = time.monotonic()
        super().process_message(message)
        if isinstance(message, Key) and not self._leaves and self.quits(message.key):
            self._left.wait(QUITS)  # what comes next is perhaps not for this view

    def disable_input(self) -> None:
        """Read no more than what the terminal itself has to say."""
        reads = self._key_thread
        if reads is None or not self.link.answers:
            super().disable_input()
        elif reads.is_alive():  # Textual calls this twice
            self._disable_mouse_support()
            self._leaves = True
            if self._unanswered or time.monotonic() - self._mouse_at < STILL:
                self._ask()
            else:
                self.exit_event.set()
            self.flush()
            self._left.set()
            reads.join(LAST)
            self._leaves = False
            if reads.is_alive():
                super().disable_input()
            else:
                signal.signal(signal.SIGWINCH, signal.SIG_DFL)
                self.exit_event.clear()


def with_link(kind: type[Driver], link: Link, quits: Callable[[str], bool]) -> type[Driver]:
    """The driver of a terminal as a `Linked` one; any other as it is."""
    return (
        type("LinkedDriver", (Linked,), {"link": link, "quits": staticmethod(quits)}) if kind is LinuxDriver else kind
    )
