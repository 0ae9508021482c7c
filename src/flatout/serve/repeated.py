"""What the gateway does again and again beside its calls, whatever goes wrong meanwhile.

Nobody awaits such a task while the gateway serves. If it ended with an error, nobody would hear of it, and what it
follows would stay as it was: a key that was removed would be valid until a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from flatout.errors import FlatoutError

_log = logging.getLogger("flatout")


async def repeated(turn: Callable[[], Awaitable[object]], seconds: float, what: str) -> NoReturn:
    """Take one turn after another, until cancelled.

    A turn that fails is logged and taken again. The same failure is logged once, until a turn succeeds.

    Args:
        turn: what is done.
        seconds: from the end of a turn to the next one.
        what: what is not done when a turn fails, for the log, such as "the file of keys is not followed".
    """
    told = ""
    while True:
        try:
            await turn()
            told = ""
        except Exception as error:
            if told != (told := repr(error)):
                foreseen = isinstance(error, FlatoutError | OSError)
                _log.warning("%s for now: %s", what, error, exc_info=not foreseen)
        await asyncio.sleep(seconds)
