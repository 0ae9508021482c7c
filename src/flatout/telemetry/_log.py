"""Writes events to the logger ``flatout``.

WARNING: a target is stopped. INFO: pauses, retries, found limits, calls without an answer. DEBUG: every call and every
throttled attempt. A client checks the logger's level at its first use. Events cost every call a little, so nothing
subscribes to them unless INFO is enabled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flatout.errors import RateLimited
from flatout.events import AttemptFailed, CallFinished, Event, LimitCrowded, Steered, TargetPaused, TargetResumed

if TYPE_CHECKING:
    from flatout.layers.limit import Limit

_log = logging.getLogger("flatout")

_LONGEST = 300
"""Characters of an error's message that are logged."""

_CHANGED = 0.2
"""A found limit is logged again if it differs from the last logged one by more than this share."""

_UNITS = {
    "rpm": "requests per minute",
    "rpd": "requests per day",
    "tpm": "tokens per minute",
    "itpm": "input tokens per minute",
    "otpm": "output tokens per minute",
}


class EventLog:
    """Logs the events of one client.

    Args:
        limits: the limiters of its targets, by the targets' names.
    """

    def __init__(self, limits: Mapping[str, Limit]) -> None:
        self._limits = limits
        self._logged: dict[tuple[str, str], float] = {}

    def hear(self, event: Event) -> None:
        """Log an event."""
        if isinstance(event, CallFinished):
            self._limits_of(event.journey.attempt.target)
            _ended(event)
        elif isinstance(event, AttemptFailed):
            self._limits_of(event.journey.attempt.target)
            _failed(event)
        elif isinstance(event, TargetPaused):
            _paused(event)
        elif isinstance(event, LimitCrowded):
            _log.warning("%s %s", event.target, event.reason)
        elif isinstance(event, TargetResumed):
            _log.info("%s takes calls again", event.target)
        elif isinstance(event, Steered):
            _log.info("%s%s%s", event.what, f" ({event.target})" if event.target else "", _by(event))

    def _limits_of(self, target: str) -> None:
        limit = self._limits.get(target)
        if limit is None or limit.pacer is None:
            return
        for name, amount in limit.pacer.found().items():
            logged = self._logged.get((target, name))
            if logged is None or abs(amount - logged) > _CHANGED * logged:
                self._logged[target, name] = amount
                _log.info("%s: the limit was found to be %s %s", target, f"{amount:,.0f}", _UNITS[name])


def _ended(event: CallFinished) -> None:
    journey = event.journey
    name = f"call {event.call.id}" if event.call.id is not None else "a call"
    if event.error is None:
        _log.debug(
            "%s: %s was answered after %.1f s, attempt %d", journey.attempt.target, name, _age(event), journey.attempts
        )
    elif isinstance(event.error, asyncio.CancelledError):
        _log.debug("%s was cancelled after %.1f s", name, _age(event))
    else:
        _log.info("%s has no answer after %.1f s: %s", name, _age(event), _said(event.error))


def _failed(event: AttemptFailed) -> None:
    if event.retry_in is None:
        return  # the call has ended with it, and `_ended` logs that
    level = logging.DEBUG if isinstance(event.error, RateLimited) else logging.INFO
    when = f"in {event.retry_in:.1f} s" if event.retry_in else "when its turn comes"
    target, why = event.journey.attempt.target, _said(event.error)
    _log.log(level, "%s: attempt %d failed: %s; again %s", target, event.attempt, why, when)


def _paused(event: TargetPaused) -> None:
    if event.until is None:
        _log.warning("%s is stopped: %s", event.target, event.reason[:_LONGEST])
    else:
        _log.info("%s pauses for %.1f s: %s", event.target, event.until - event.at, event.reason[:_LONGEST])


def _by(event: Steered) -> str:
    return "" if event.by is None else f", by {event.by}"


def _age(event: CallFinished) -> float:
    return event.at - event.journey.started


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:_LONGEST]}"
