"""Waits for the terminal: what changes while it is behind is drawn once, when it has caught up.

Over a slow link, screens would queue up on their way, and keys would seem dead until all of them were shown. A terminal
that is asked for its cursor's place (DSR, ECMA-48 8.3.35) answers in the order of what it gets. So the question after a
repaint is answered when that repaint is on the screen; until then the next one is held back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.driver import Driver

ASK = "\x1b[6n"

ENOUGH = 500
"""Characters after which the terminal is asked."""

FIRST = 2.0
"""Seconds for the first answer. A terminal that gives none is not asked again."""

LONGEST = 30.0
"""Seconds for which a terminal that has answered before is waited for."""


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
    """A kind of driver that tells a link what it writes."""

    class Linked(kind):  # type: ignore[misc, valid-type]
        def write(self, data: str) -> None:
            super().write(data)
            link.wrote(len(data), lambda: super(Linked, self).write(ASK))

    return Linked
