"""A call that waits in a target's queue, and the till that the one in front pays at.

An attempt's money is reserved at the moment when nothing else keeps it from being sent. So calls that wait hold none,
and what a process holds of a budget is what it has in flight. If money is short, the call in front waits for it; the
others wait behind that one, as they do for every other limit.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct

from flatout.errors import CallError
from flatout.layer import Turn
from flatout.money.attempt import Money
from flatout.policies.failures.service import Service
from flatout.policies.pacing.tokens import Need
from flatout.values import Call


class Waiter(Struct, eq=False):
    """One attempt in the queue. Attempts of a route stand in the queues of several targets, and share one future."""

    call: Call
    service: Service
    need: Need
    admitted: asyncio.Future[Any]
    since: float
    held: dict[str, float]
    turn: Turn | None = None
    money: Money | None = None
    went: int = 0
    guessed: bool = False
    passed: int = 0
    started: float = 0.0
    left: bool = True

    def refuse(self, error: CallError) -> None:
        """The attempt can never go here. Whoever waits in several queues decides whether that is the end."""
        if self.turn is not None:
            self.turn.refused(self.service, error)
        elif not self.admitted.done():
            self.admitted.set_exception(error)
            self.admitted.exception()  # else asyncio warns if the waiter was cancelled in this same turn


class Till:
    """Where the calls of one queue have their money reserved. While one waits for money, none behind it takes any."""

    __slots__ = ("_poor",)

    def __init__(self) -> None:
        self._poor: Waiter | None = None  # the call in front, while it waits for money

    def pays(self, money: Money | None) -> bool:
        """Whether an attempt has its money, or takes it now, or needs none."""
        if self._poor is not None:
            return money is not None and money.held is not None
        return money is None or money.take()

    def lacks(self, waiter: Waiter, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the call in front lacks money. It is then told to wait for that, and to ask again for its turn."""
        if self.pays(waiter.money):
            return False
        if self._poor is None:
            self._poor = waiter
            told, waiter.admitted = waiter.admitted, loop.create_future()
            told.set_result(True)
        return True

    async def fund(self, waiter: Waiter) -> None:
        """Wait for the money of a call that lacks it.

        Raises:
            BudgetExceeded: it is not to be had.
        """
        assert waiter.money is not None
        try:
            await waiter.money.wait()
        finally:
            self.forget(waiter)

    def forget(self, waiter: Waiter) -> None:
        """A call waits for money no longer."""
        if self._poor is waiter:
            self._poor = None
