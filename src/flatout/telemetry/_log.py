"""Writes events to the logger ``flatout``, and what becomes of targets to ``flatout.targets`` below it.

WARNING: a target is stopped or down, and takes calls again. INFO: pauses, retries, limits, calls without an answer.
DEBUG: every call and every throttled attempt. Below DEBUG, what happens a thousand times is one line a second or less,
with a count.

A client checks the loggers' levels at its first use. The events of calls cost every call a little, so nothing
subscribes to them unless INFO is enabled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from flatout.errors import RateLimited
from flatout.events import (
    TARGETS,
    AttemptFailed,
    CallFinished,
    Event,
    LimitCrowded,
    NoRoom,
    Steered,
    TargetDown,
    TargetPaused,
    TargetResumed,
)
from flatout.text import figures
from flatout.values.limits import UNITS

from ._thinned import SHORTEST, Thinned

if TYPE_CHECKING:
    from flatout.layers.limit import Limit

_log = logging.getLogger("flatout")
_of_targets = logging.getLogger(TARGETS)

_LONGEST = 300
"""Characters of an error's message that are logged."""

_CHANGED = 0.2
"""A found limit is logged again if it differs from the last logged one by more than this share."""


class _Away(NamedTuple):
    """A target that takes no calls.

    Attributes:
        since: when it went down or was stopped.
        reason: why; "" for a stop.
        level: of the lines that say so, and that it is back.
    """

    since: float
    reason: str
    level: int


class EventLog:
    """Logs the events of one client.

    Args:
        limits: the limiters of its targets, by the targets' names.
    """

    def __init__(self, limits: Mapping[str, Limit]) -> None:
        self._limits = limits
        self._logged: dict[tuple[str, str], tuple[float, float]] = {}  # the last logged limits, and when
        self._away: dict[str, _Away] = {}  # the targets that take no calls
        self._thinned = Thinned(_log)

    def hear(self, event: Event) -> None:
        """Log an event."""
        if isinstance(event, CallFinished):
            self._limits_of(event.journey.attempt.target, event.at)
            self._ended(event)
        elif isinstance(event, AttemptFailed):
            self._limits_of(event.journey.attempt.target, event.at)
            self._failed(event)
        elif isinstance(event, TargetPaused):
            self._paused(event)
        elif isinstance(event, TargetDown | NoRoom):
            self._gone(event)
        elif isinstance(event, LimitCrowded):
            _of_targets.warning("%s %s", event.target, event.reason)
        elif isinstance(event, TargetResumed):
            away = self._away.pop(event.target, _Away(event.at, "", logging.INFO))
            _of_targets.log(
                away.level, "%s takes calls again, after %s", event.target, figures.duration(event.at - away.since)
            )
        elif isinstance(event, Steered):
            _log.info("%s%s%s", event.what, f" ({event.target})" if event.target else "", _by(event))

    def flush(self) -> None:
        """Log what is counted: the client is closed."""
        self._thinned.flush()

    def _ended(self, event: CallFinished) -> None:
        if event.error is None or isinstance(event.error, asyncio.CancelledError):
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("%s", _over(event))
            return
        kind = "ended", event.journey.attempt.target, type(event.error)
        self._thinned.tell(kind, logging.INFO, _over, event)

    def _failed(self, event: AttemptFailed) -> None:
        if event.retry_in is None:
            return  # the call has ended with it, and `_ended` logs that
        if isinstance(event.error, RateLimited):
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("%s", _retried(event))
            return
        kind = "failed", event.journey.attempt.target, type(event.error)
        self._thinned.tell(kind, logging.INFO, _retried, event)

    def _paused(self, event: TargetPaused) -> None:
        if event.until is None:
            since = self._away[event.target].since if event.target in self._away else event.at
            self._away[event.target] = _Away(since, "", logging.WARNING)
            _of_targets.warning("%s is stopped: %s", event.target, event.reason[:_LONGEST])
        else:
            self._thinned.tell(("paused", event.target), logging.INFO, _pause, event)

    def _gone(self, event: TargetDown | NoRoom) -> None:
        """Log that a target is down, once. It may be told again with another reason, which then has a line."""
        how, level = ("is down", logging.WARNING) if isinstance(event, TargetDown) else ("has no room", logging.INFO)
        known = self._away.get(event.target)
        self._away[event.target] = _Away(event.at if known is None else known.since, event.reason, level)
        if known is None or event.reason != known.reason:
            _of_targets.log(level, "%s %s, and its calls wait: %s", event.target, how, event.reason[:_LONGEST])

    def _limits_of(self, target: str, now: float) -> None:
        limit = self._limits.get(target)
        if limit is None or limit.pacer is None:
            return
        for name, amount in limit.pacer.found().items():
            logged, at = self._logged.get((target, name), (0.0, -SHORTEST))
            if abs(amount - logged) > _CHANGED * logged and now - at >= SHORTEST:
                self._logged[target, name] = amount, now
                _log.info("%s: the limit was found to be %s %s", target, f"{amount:,.0f}", UNITS[name])


def _over(event: CallFinished) -> str:
    journey, age = event.journey, event.at - event.journey.started
    name = f"call {event.call.id}" if event.call.id is not None else "a call"
    if event.error is None:
        return f"{journey.attempt.target}: {name} was answered after {age:.1f} s, attempt {journey.attempts}"
    if isinstance(event.error, asyncio.CancelledError):
        return f"{name} was cancelled after {age:.1f} s"
    return f"{name} has no answer after {age:.1f} s: {_said(event.error)}"


def _retried(event: AttemptFailed) -> str:
    when = f"in {event.retry_in:.1f} s" if event.retry_in else "when its turn comes"
    target = event.journey.attempt.target
    return f"{target}: attempt {event.attempt} failed: {_said(event.error)}; again {when}"


def _pause(event: TargetPaused) -> str:
    seconds = (event.until or event.at) - event.at
    return f"{event.target} pauses for {seconds:.1f} s: {event.reason[:_LONGEST]}"


def _by(event: Steered) -> str:
    return "" if event.by is None else f", by {event.by}"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:_LONGEST]}"
