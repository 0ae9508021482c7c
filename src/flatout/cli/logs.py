"""Shows the library's log on standard error: always warnings, and with ``-v`` and ``-vv`` also events.

A separate thread writes the lines, as it does for the live line. A blocked terminal must not stop the calls.
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
    """Writes each record on one line."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"flatout: {clean(record.getMessage())}")


@contextmanager
def shown(verbosity: int = 0) -> Iterator[None]:
    """Within the block, show the library's log. The end of the block waits until everything is written."""
    logger, others = logging.getLogger("flatout"), logging.getLogger()
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler, silence = QueueHandler(queue), logging.NullHandler()
    listener = QueueListener(queue, _TerminalHandler())
    before = logger.level
    logger.setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])
    logger.addHandler(handler)
    others.addHandler(silence)  # otherwise warnings of other libraries would tear up the live line
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        others.removeHandler(silence)
        logger.removeHandler(handler)
        logger.setLevel(before)
