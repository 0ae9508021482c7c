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
from flatout.journey import Journey
from flatout.layer import Turn
from flatout.money.attempt import Money
from flatout.policies.failures.service import Service
from flatout.policies.pacing.line import Line
from flatout.policies.pacing.tokens import Need
from flatout.values import Call

OFTEN = 3
"""After this many refusals a call goes to the back, after as many failures in outages to the retries: it may be this
call that is refused or fails, and not the rate or the target."""


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


def line_up(waiter: Waiter, line: Line[Waiter], journey: Journey) -> None:
    """Let an attempt stand in line: at the back, or in front if it had its turn and was sent back."""
    trouble, sent_back, money = journey.trouble, journey.sent_back, waiter.money
    again = sent_back and journey.refusals < OFTEN and not (trouble is not None and trouble.closed)
    if again or (money is not None and money.short):
        line.put_back(waiter, journey.started)
    else:
        failed = trouble is not None and (trouble.excused or (bool(trouble.spent) and not sent_back))
        line.add(waiter, retry=failed)


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
