"""The limits that programs learnt from headers, for those that share them."""

from __future__ import annotations

from .advertised import Quota
from .axis import CAUSES
from .sharing import Shared

KEPT = 600.0
"""Seconds for which a program keeps to a limit that another one learnt from headers."""


class Told:
    """One program's view of those limits.

    Args:
        shared: what the programs hold in common.
    """

    __slots__ = ("_seen", "_shared")

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._seen = 0.0  # the count of changes when this program looked last

    def news(self, now: float) -> list[tuple[str, Quota]]:
        """The limits that the programs learnt, if any of them changed since the last look."""
        shared = self._shared
        if shared.read("told") == self._seen:
            return []
        self._seen = shared.read("told")
        if not 0.0 <= now - shared.read("told_at") <= KEPT:
            return []
        quotas = ((name, shared.read(f"{name}_limit"), shared.read(f"{name}_window")) for name in CAUSES)
        return [(name, Quota(limit, None, None, window)) for name, limit, window in quotas if limit and window]

    def pass_on(self, name: str, quota: Quota, now: float) -> None:
        """Tell the other programs what headers said of one limit."""
        if quota.limit is None:
            return
        shared, told = self._shared, (quota.limit, quota.window)
        shared.write("told_at", now)
        if (shared.read(f"{name}_limit"), shared.read(f"{name}_window")) != told:
            shared.write(f"{name}_limit", quota.limit)
            shared.write(f"{name}_window", quota.window)
            shared.write("told", shared.read("told") + 1.0)
