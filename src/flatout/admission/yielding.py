"""Gives the event loop a turn after every few attempts, so that a busy computer hears of a refusal soon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

AT_A_TIME = 8
"""Attempts that go before the event loop has a turn."""


class Yielding:
    """Counts the attempts since the event loop's last turn.

    Attributes:
        due: whether the loop's turn is due. No attempt goes before it.
    """

    __slots__ = ("_gone", "due")

    def __init__(self) -> None:
        self._gone = 0
        self.due = False

    def gone(self, loop: asyncio.AbstractEventLoop, go_on: Callable[..., object], *given: object) -> None:
        """An attempt has gone. After the loop's next turn, ``go_on(*given)`` lets others go."""
        self._gone += 1
        if self._gone >= AT_A_TIME:
            self._yield(loop, go_on, given)

    def _yield(self, loop: asyncio.AbstractEventLoop, go_on: Callable[..., object], given: tuple[object, ...]) -> None:
        self.due = True
        loop.call_soon(self._go_on, loop, go_on, given)

    def _go_on(self, loop: asyncio.AbstractEventLoop, go_on: Callable[..., object], given: tuple[object, ...]) -> None:
        self._gone, self.due = 0, False
        go_on(*given)
        if self._gone and not self.due:  # calls that arrive before these have sent must not overtake them
            self._yield(loop, go_on, given)
