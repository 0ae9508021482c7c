"""The pause of a target: no call goes before an instant.

Where limits are known, one refusal pauses all calls, until the time that the provider named. If there is reason to
doubt that time, one call is tried after 2, 4, 8 … seconds, and its answer ends the pause. Reasons for doubt are: the
gateway is known to exaggerate; it named hours; or calls were answered that had been sent after the refused one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .sharing import Shared
from .strays import FIRST_PAUSE

LAST_PAUSE = 10.0
"""Most seconds of a pause after a refusal that names no time. Pauses double while nothing is accepted in between."""

TOO_SHORT = 2
"""Pauses without an answer in between after which the waits that the provider names count as too short, and grow."""

LONGEST_PAUSE = 3_600.0
"""Most seconds that a refusal may ask to wait, unless there is a limit per day. More is cut to this, and doubted."""

DOUBTFUL = 5.0
"""Seconds. Only a longer pause is doubted."""

FIRST_DOUBT = 2.0
"""Seconds until the first call is tried in a pause that is doubted. This doubles each time."""


class Wait(NamedTuple):
    """Who waits after a refusal.

    Attributes:
        alone: seconds that the refused call waits by itself.
        until: when everybody may go on; `-inf` when that has not changed.
    """

    alone: float = 0.0
    until: float = -math.inf


class Pause:
    """One target's pause.

    Args:
        shared: what other processes share with this one; they pause, too.

    Attributes:
        began: when the last pause began.
        early_at: when one call may be tried before its end; `inf` while it is not doubted.
    """

    __slots__ = ("_early_wait", "_own", "_refused", "_shared", "_throttles", "began", "early_at")

    def __init__(self, shared: Shared | None) -> None:
        self._shared = shared
        self._own = self.began = -math.inf
        self._refused = -math.inf  # when the call was sent whose refusal began the pause
        self._throttles = 0  # refusals since the last answer
        self.early_at, self._early_wait = math.inf, FIRST_DOUBT

    @property
    def until(self) -> float:
        """Until when no call may go."""
        return self._own if self._shared is None else self._shared.paused_until

    @property
    def surely_until(self) -> float:
        """Until when surely no call may go; `-inf` for a doubted pause, which may end at any time."""
        return self.until if self.early_at == math.inf else -math.inf

    def refused(self, retry_after: float | None, sent: float, now: float, *, by_day: bool, exaggerated: bool) -> bool:
        """A call was refused, and all calls have to wait. Returns whether that begins a pause.

        Args:
            retry_after: seconds that the provider asked to wait.
            sent: when the call was sent.
            now: the present.
            by_day: whether a limit counts by the day, so that waits of hours are true.
            exaggerated: whether the answer came from a gateway that names a minute for what frees in seconds.
        """
        again = self.early_at != math.inf and sent >= self.began
        absurd = retry_after is not None and retry_after > LONGEST_PAUSE and not by_day
        seconds = self.seconds(None if absurd else retry_after, sent)
        news = self.begin(now + (LONGEST_PAUSE if absurd else seconds), sent, now)
        if absurd or again or (seconds > DOUBTFUL and exaggerated):
            self.doubt(now)
        return news

    def begin(self, until: float, sent: float, now: float) -> bool:
        """Pause until an instant, because a call sent at ``sent`` was refused. Returns whether that begins a pause."""
        if until <= self.until:
            return False
        self._set(until)
        self.began, self._refused = now, sent
        return True

    def answered(self, sent: float, now: float) -> bool:
        """A call was answered. Returns whether that ends a pause that was doubted."""
        if sent >= self.until:
            self._throttles = 0
        if self.early_at != math.inf:
            if sent >= self.began:
                self.early_at = math.inf
                self._set(min(self.until, now))
                return True
        elif self._refused < sent < self.began and self.until > now + DOUBTFUL:
            self.early_at = max(now, self.began + FIRST_DOUBT)
            self._early_wait = FIRST_DOUBT
        return False

    def seconds(self, retry_after: float | None, sent: float) -> float:
        """Seconds to pause after a refusal: those that it names, or else more each time."""
        own = min(LAST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._throttles, 6))
        told = own if retry_after is None else retry_after
        seconds = max(told, own) if self._throttles >= TOO_SHORT else told
        if sent >= self.began:
            self._throttles += 1
        return seconds

    def doubt(self, now: float) -> None:
        """Doubt the pause: try one call before its end, and wait twice as long each time."""
        self._early_wait = FIRST_DOUBT if self.early_at == math.inf else self._early_wait * 2.0
        self.early_at = now + self._early_wait

    def _set(self, until: float) -> None:
        if self._shared is None:
            self._own = until
        else:
            self._shared.paused_until = until
