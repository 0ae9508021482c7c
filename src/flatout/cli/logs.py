"""What the library logs, on standard error: warnings always, and with ``-v`` and ``-vv`` what happens.

The lines are written by a thread of their own, as the live line is: a terminal that takes no output must not stop the
calls.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue

from .terminal import clean, say

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


class _TerminalHandler(logging.Handler):
    """Says each record on one line."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"flatout: {clean(record.getMessage())}")


@contextmanager
def shown(verbosity: int = 0) -> Iterator[None]:
    """Within the block, show what the library logs; what was logged is written when it ends."""
    logger, others = logging.getLogger("flatout"), logging.getLogger()
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler, silence = QueueHandler(queue), logging.NullHandler()
    listener = QueueListener(queue, _TerminalHandler())
    before = logger.level
    logger.setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])
    logger.addHandler(handler)
    others.addHandler(silence)  # else other libraries' warnings would tear up the live line
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        others.removeHandler(silence)
        logger.removeHandler(handler)
        logger.setLevel(before)
