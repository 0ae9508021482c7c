"""One program's part in what several hold in common: what it hears of the others, and tells them."""

from __future__ import annotations

from .advertised import Quota
from .axis import CAUSES
from .permits import fits
from .sharing import Shared
from .unknown import RateSearch, Together

TOLD = 600.0
"""Seconds for which a limit is kept to that headers told another program."""


class Joint:
    """See `flatout.policies.pacing.sharing`.

    Args:
        shared: what they hold in common.

    Attributes:
        searches: the searches for what nobody told.
    """

    __slots__ = ("_shared", "_told", "searches")

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._told = 0.0  # how often others were told by now than before
        self.searches = Together(shared.log)

    @property
    def in_flight(self) -> int:
        """How many requests all have in flight."""
        return int(self._shared.members.in_flight)

    def sent(self, now: float) -> None:
        """This program has sent a request."""
        self._shared.members.sent(now)

    def ended(self) -> None:
        """One of its requests is over."""
        self._shared.members.ended()

    def fits(self, free: float, search: RateSearch | None, now: float) -> bool:
        """Whether this program may send another, where so many more may be in flight. What the dead held is free."""
        if fits(self._shared.members, free, now):
            return True
        for _ in range(self._shared.members.bury(now)):
            if search is not None:
                search.over()
        return False

    def told(self, now: float) -> list[tuple[str, Quota]]:
        """The limits that headers told any of them, if there is news."""
        shared = self._shared
        if shared.read("told") == self._told:
            return []
        self._told = shared.read("told")
        if not 0.0 <= now - shared.read("told_at") <= TOLD:
            return []
        quotas = ((name, shared.read(f"{name}_limit"), shared.read(f"{name}_window")) for name in CAUSES)
        return [(name, Quota(limit, None, None, window)) for name, limit, window in quotas if limit and window]

    def pass_on(self, name: str, quota: Quota, now: float) -> None:
        """Headers told this program of a limit."""
        if quota.limit is None:
            return
        shared, told = self._shared, (quota.limit, quota.window)
        shared.write("told_at", now)
        if (shared.read(f"{name}_limit"), shared.read(f"{name}_window")) != told:
            shared.write(f"{name}_limit", quota.limit)
            shared.write(f"{name}_window", quota.window)
            shared.write("told", shared.read("told") + 1.0)
