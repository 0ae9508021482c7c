"""What a failed attempt means for its call, for its target's pace and for its target's health."""

from __future__ import annotations

from flatout.errors import CallError, ConnectError, InvalidRequest, Overloaded, QuotaExhausted, RateLimited
from flatout.journey import Journey
from flatout.policies.pacing.pacer import Pacer
from flatout.policies.pacing.pause import LONGEST_PAUSE
from flatout.policies.pacing.tokens import Need

from .decision import Decision, Sign, decide, sign
from .health import News, TargetHealth
from .retry_after import retry_after
from .service import Service, is_own
from .trouble import Trouble

QUOTA_WAIT = 300.0
"""Seconds between two looks at a used-up quota, if the provider names no time."""

CROWDED = (
    "refuses what the given limits allow: others seem to use them too. "
    'Give all of them the same name (--shared NAME, shared="NAME"), or each a smaller limit (--rpm)'
)
"""The message, given once, when the given limits are refused again and again."""


class Outcomes:
    """Passes one target's failures on to its pacer and its health. The health's ``news`` then has what changed.

    Args:
        pacer: the target's pacer.
        health: its health.
        wait_for_quota: pause when a quota is used up, instead of stopping the target.
    """

    def __init__(self, pacer: Pacer, health: TargetHealth, *, wait_for_quota: bool) -> None:
        self._pacer = pacer
        self._health = health
        self._wait_for_quota = wait_for_quota
        self._crowded = False  # whether `CROWDED` was told

    def failed(
        self, journey: Journey, service: Service, need: Need, error: CallError, sent: float, now: float, wall: float
    ) -> float | None:
        """An admitted call has failed.

        Args:
            journey: the call's journey; its ``trouble`` then says whose fault it was.
            service: the kind of request.
            need: the call's need, as it was admitted.
            error: how it failed.
            sent: when it was sent.
            now: the present.
            wall: the wall clock, in seconds since the epoch.

        Returns:
            Seconds that this call waits alone, if any.
        """
        trouble = journey.trouble
        if trouble is None:
            trouble = journey.trouble = Trouble(need.number)
        trouble.others = self._health.answered_since(trouble.first)
        trouble.excused = False
        again, trouble.closed = trouble.closed, sign(error) is Sign.CLOSED
        if decide(error) is Decision.THROTTLE:
            self._health.passed(need.number, now, throttled=True)
            return self._throttled(need, error, sent, now, wall)
        self._pacer.failed(need, now, headers=error.headers, sent=sent, wall=wall)
        if trouble.closed:
            trouble.excused = self._closed(journey, service, need, error, now, again=again)
        else:
            targets = self._other(journey, service, need, error, sent, now)
            trouble.excused = targets and error.should_retry is not False
            trouble.over = service.stop is error
        return None

    def _other(self, journey: Journey, service: Service, need: Need, error: CallError, sent: float, now: float) -> bool:
        """This call failed, or its target did. Returns whether it was the target."""
        health, said = self._health, sign(error)
        if said is Sign.NOTHING:
            health.passed(need.number, now)
            return isinstance(error, ConnectError)  # it was not sent
        if service.spare and is_own(error):
            health.passed(need.number, now)
            return False
        if error.reply is not None:
            health.answered(service, need.number, now)
        elif type(error) is InvalidRequest and said is Sign.ALIVE:
            health.rejected(service, error, need.number, now)
        elif said is Sign.ALIVE:
            health.alive(need.number, now)
        else:
            return self._target_failed(journey, need, error, sent, now)
        return False

    def _target_failed(self, journey: Journey, need: Need, error: CallError, sent: float, now: float) -> bool:
        health, pacer = self._health, self._pacer
        was_down = health.down
        full = (
            isinstance(error, Overloaded)
            and not was_down
            and (health.answers > 0 or pacer.in_flight > 0)  # else nothing shows that it takes any call
            and not pacer.pushed_back(need, sent, now)
        )
        excused = health.failed(journey, error, need.number, now, full=full)
        if health.down and not was_down:
            pacer.went_down(now)
        return excused

    def _closed(
        self, journey: Journey, service: Service, need: Need, error: CallError, now: float, *, again: bool
    ) -> bool:
        """A refusal that every call would meet. Returns whether it is doubted, or waited out."""
        whose = self._health.refused(service, journey, need.number, now, again=again)
        if whose == "doubted":
            return True
        if self._wait_for_quota and isinstance(error, QuotaExhausted):
            until = self._pacer.rest(error.retry_after or QUOTA_WAIT, now)
            self._health.news.append(News("paused", reason=str(error), until=until))
            return True
        if whose == "all":
            self._health.stop(service, error, now)
        return False

    def _throttled(self, need: Need, error: CallError, sent: float, now: float, wall: float) -> float | None:
        """A call was refused for our speed."""
        pacer, told = self._pacer, _told(error, wall)
        was = pacer.paused_until
        wait = pacer.refused(need, told, error.headers, sent, now, wall, error.limits)
        if pacer.overruled and not self._crowded:
            self._crowded = True
            self._health.news.append(News("crowded", reason=CROWDED))
        if wait.until > max(was, now):
            self._health.news.append(News("paused", reason=_reason(error, told), until=wait.until))
        return wait.alone or None


def _told(error: CallError, wall: float) -> float | None:
    """Seconds that a refusal asks to wait; None when it names no time, or names 0, which is no wait."""
    if error.retry_after is None and error.headers is not None:
        return retry_after(error.headers, wall) or None  # an instant, in an answer without a date
    return error.retry_after or None


def _reason(error: CallError, told: float | None) -> str:
    """Why a target is paused."""
    if not isinstance(error, RateLimited):
        return "no capacity"
    if told is None or told <= LONGEST_PAUSE:
        return "rate limited"
    return f"rate limited; that it asks to wait {told:,.0f} s is not believed"
