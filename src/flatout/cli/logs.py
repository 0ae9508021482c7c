"""Shows the library's log on standard error: always warnings, and with ``-v`` and ``-vv`` also events.

A separate thread writes the lines, as it does for the live line. A blocked terminal must not stop the calls.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue

from flatout.events import TARGETS

from .terminal import clean, say

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


class _TerminalHandler(logging.Handler):
    """Writes each record on one line."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"flatout: {clean(record.getMessage())}")


class _OnceEach(logging.Filter):
    """Lets each warning pass once: each of several workers would give the same."""

    def __init__(self) -> None:
        super().__init__()
        self._given: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        text = record.getMessage()
        first = text not in self._given
        self._given.add(text)
        return first


@contextmanager
def shown(verbosity: int = 0, *, once: bool = False, targets: bool = False) -> Iterator[None]:
    """Within the block, show the library's log. The end of the block waits until everything is written.

    Args:
        verbosity: 0 for warnings only, 1 for events, 2 for every call.
        once: show each warning once, however many processes give it.
        targets: show warnings that a target is down or stopped. Those who display a run's progress tell it there.
    """
    logger, others = logging.getLogger("flatout"), logging.getLogger()
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler, silence = QueueHandler(queue), logging.NullHandler()
    listener = QueueListener(queue, _TerminalHandler())
    before, repeats = logger.level, _OnceEach()
    logger.setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])
    logger.addHandler(handler)
    if once:
        logger.addFilter(repeats)
    of_targets, silent = logging.getLogger(TARGETS), not (targets or verbosity)
    if silent:
        of_targets.setLevel(logging.ERROR)
    others.addHandler(silence)  # otherwise warnings of other libraries would tear up the live line
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        others.removeHandler(silence)
        logger.removeFilter(repeats)
        logger.removeHandler(handler)
        logger.setLevel(before)
        if silent:
            of_targets.setLevel(logging.NOTSET)
