"""Finds out once, and not for each call, whether what calls need is there, such as a server."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from .errors import ConfigError

AGAIN = 5.0
"""Seconds after which something that was not there is looked for again: to find out may take as long."""


class Presence:
    """Whether something is there. Once it was found, it may be away: then calls wait for it, or do without.

    Args:
        look: looks for it, and raises ConfigError if it is not there. It may block.
        clock: tells the present.
    """

    __slots__ = ("_clock", "_found", "_look", "_missed_at", "_reason", "_turn")

    def __init__(self, look: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._turn = threading.Lock()
        self._found = False
        self._missed_at, self._reason = -math.inf, ""

    def check(self) -> None:
        """Look for it, unless it was found before. Blocks. Any thread may call this.

        Raises:
            ConfigError: it is not there, or was not a moment ago.
        """
        if self._found:
            return
        with self._turn:
            if not self._found:
                self._find()

    def _find(self) -> None:
        if self._clock() - self._missed_at < AGAIN:
            raise ConfigError(self._reason)
        try:
            self._look()
        except ConfigError as error:
            self._missed_at, self._reason = self._clock(), str(error)
            raise
        self._found = True
