"""Asks the model again if its answer does not fit, and tells it what is wrong. The same question would fail again.

Outside the retry layer, because a reask is another question with its own attempts. Every answer is salvaged, if
possible, before another is paid for. An answer that was paid for is never lost, neither to a worse one nor to an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from flatout.errors import CallError
from flatout.journey import Journey, current_journey
from flatout.layer import CallNext, ValidatorRaised
from flatout.policies.reask import reask
from flatout.values import Call, Reply


class Reask:
    """Asks up to ``reasks`` times more, unless the answer can be salvaged.

    The readable part of an answer that was cut off is kept as `Unfit.fallback`, in case no better answer comes before
    the deadline.

    Args:
        reasks: the default for calls. Each reask is paid for, and counts among the attempts.
        salvage: reads an answer that is not quite JSON, and says whether it is complete; None if nothing in it fits.
    """

    def __init__(self, reasks: int, salvage: Callable[[Call, Reply], tuple[Reply, bool] | None]) -> None:
        self._reasks = reasks
        self._salvage = salvage

    def __call__(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        fits_anyway = call.output is None and not call.tools
        return call_next(call) if fits_anyway else self._fitting(call, call_next)

    async def _fitting(self, call: Call, call_next: CallNext) -> Reply:
        left = self._reasks if call.reasks is None else call.reasks
        journey = current_journey()
        asked = call
        while True:
            try:
                return await call_next(asked)
            except asyncio.CancelledError:
                with suppress(Exception):  # a user's validator may fail; the cancellation goes on all the same
                    self._read(call, journey)  # the deadline returns the fallback
                raise
            except ValidatorRaised as error:
                if error.__cause__ is None:
                    raise
                raise error.__cause__ from None  # the model can do nothing about a failure in the user's code
            except CallError as error:
                if (readable := self._read(call, journey)) is not None:
                    return readable
                again = reask(asked, error) if left > 0 and not journey.delivered else None
                if again is None:
                    if journey.unfit.fallback is not None:
                        return journey.unfit.fallback
                    # A later failure must not lose the model's answer.
                    error.reply = error.reply or journey.unfit.last
                    raise
                if journey.notes is not None and journey.numbers is None:  # else several were in flight
                    journey.notes.failed(journey.account.attempts, error)
                left -= 1
                journey.account.reasks += 1
                asked = again

    def _read(self, call: Call, journey: Journey) -> Reply | None:
        """The first complete answer among the unread ones. Any before it become the fallback."""
        unread, journey.unfit.unread = journey.unfit.unread, ()
        for found in filter(None, (self._salvage(call, reply) for reply in unread)):
            journey.unfit.fallback, whole = found
            if whole:
                return journey.unfit.fallback
        return None
