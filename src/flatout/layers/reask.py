"""Asks the model again when its answer does not fit, and tells it what is wrong: the same question would not.

Outside the retry: what is asked again is another question, with attempts of its own. What can be read is read before
another answer is paid for, and an answer that was paid for is never lost: neither to a worse one, nor to an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from flatout.errors import CallError, OutputError
from flatout.layer import CallNext, Journey, journey
from flatout.policies.reask import reask
from flatout.values import Call, Reply


class Reask:
    """Asks up to ``reasks`` times more, unless an answer can be read all the same.

    An answer that was cut off is kept for the case that no better one comes (`Journey.fallback`).

    Args:
        reasks: for calls that say nothing of it. Each is paid for, and counted among the attempts.
        salvage: reads an answer that is not quite JSON, and says whether it is whole; None when nothing in it fits.
    """

    def __init__(self, reasks: int, salvage: Callable[[Call, Reply], tuple[Reply, bool] | None]) -> None:
        self._reasks = reasks
        self._salvage = salvage

    def __call__(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        fits_anyway = call.output is None and not call.tools
        return call_next(call) if fits_anyway else self._fitting(call, call_next)

    async def _fitting(self, call: Call, call_next: CallNext) -> Reply:
        left = self._reasks if call.reasks is None else call.reasks
        trip = journey()
        asked, unfit = call, None
        while True:
            try:
                return await call_next(asked)
            except CallError as error:
                if (readable := self._readable(call, error, trip)) is not None:
                    return readable
                again = reask(asked, error) if left > 0 and not trip.delivered else None
                if again is None:
                    if trip.fallback is not None:
                        return trip.fallback
                    error.reply = error.reply or unfit  # what the model said is not lost to a failure after it
                    raise
                left -= 1
                trip.reasks += 1
                asked, unfit = again, error.reply

    def _readable(self, call: Call, error: CallError, trip: Journey) -> Reply | None:
        """The answer in an error's reply, where it is whole; one that was cut off becomes the fallback."""
        if not isinstance(error, OutputError) or error.reply is None:
            return None
        found = self._salvage(call, error.reply)
        if found is None:
            return None
        reply, whole = found
        if not whole:
            trip.fallback = reply
        return reply if whole else None
