"""While a target accepts nothing: one request at a time goes to see, after waits that double."""

from __future__ import annotations

TOO_SHORT = 5
"""Refused looks after which the waits that the provider names count as too short."""

DOUBTED = 2.0
"""Seconds of such a wait after which it is doubted: gateways name a minute for what is free in two seconds."""

LONGEST = 15.0
"""Most seconds between two looks."""


class Shut:
    """A time in which nothing is accepted.

    Args:
        since: when the first refused request was sent.
        accepted: how many were accepted by then.
        wait: seconds until the first look, if the provider names no time.
        retry_after: seconds that the provider asked to wait.
        now: the present.

    Attributes:
        mark: the last request that went to see.
        sent: when it was sent.
        out: whether its outcome is still open.
        looks: how many such requests were refused.
    """

    def __init__(self, since: float, accepted: int, wait: float, retry_after: float | None, now: float) -> None:
        self.since, self.accepted = since, accepted
        self.mark, self.sent, self.out, self.looks = 0, since, False, 0
        self._wait = wait
        self._set(retry_after, now)

    @property
    def seconds(self) -> float:
        """Seconds from the first refused request to the last that went to see."""
        return self.sent - self.since

    def ready_at(self, grace: float) -> float:
        """When the next request may go to see, or when the one on its way counts as accepted."""
        return self.sent + grace if self.out else self._at

    def look(self, mark: int, now: float) -> None:
        """A request goes to see."""
        self.mark, self.sent, self.out = mark, now, True

    def refused(self, retry_after: float | None, now: float) -> None:
        """The request that went to see was refused."""
        self.out = False
        self.looks += 1
        self._wait = min(LONGEST, 2.0 * self._wait)
        self._set(retry_after, now)

    def _set(self, retry_after: float | None, now: float) -> None:
        told = self._wait if retry_after is None or self.looks >= TOO_SHORT else retry_after
        self._wait = max(self._wait, min(DOUBTED, told))
        self._at = now + min(self._wait, told)
