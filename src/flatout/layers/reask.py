"""Asks the model again when its answer does not fit, and tells it what is wrong: the same question would not.

Outside the retry: what is asked again is another question, with attempts of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from flatout.errors import OutputError
from flatout.layer import CallNext, journey
from flatout.policies.reask import reask
from flatout.values import Call, Reply


class Reask:
    """Asks up to ``reasks`` times more; then saves what can be read of the last answer.

    Args:
        reasks: for calls that say nothing of it. Each is paid for, and counted among the attempts.
        salvage: reads an answer that is not quite JSON; None when there is nothing that fits.
    """

    def __init__(self, reasks: int, salvage: Callable[[Call, Reply], Reply | None]) -> None:
        self._reasks = reasks
        self._salvage = salvage

    def __call__(self, call: Call, call_next: CallNext, /) -> Awaitable[Reply]:
        fits_anyway = call.output is None and not call.tools
        return call_next(call) if fits_anyway else self._fitting(call, call_next)

    async def _fitting(self, call: Call, call_next: CallNext) -> Reply:
        left = self._reasks if call.reasks is None else call.reasks
        asked = call
        while True:
            try:
                return await call_next(asked)
            except OutputError as error:
                trip = journey()
                again = reask(asked, error) if left > 0 and not trip.delivered else None
                if again is None:
                    saved = self._salvage(call, error.reply) if call.output is not None and error.reply else None
                    if saved is None:
                        raise
                    return saved
                left -= 1
                trip.reasks += 1
                asked = again
