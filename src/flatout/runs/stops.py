"""Counts how often a run was told to stop. A drain is no stop yet: the first stop after it waits like any first one."""

from __future__ import annotations


class Stops:
    """What a run was told of its end.

    Attributes:
        count: how often it was told to stop: 1 lets attempts in flight finish, 2 drops them.
        drains: whether attempts in flight may take as long as they do.
    """

    __slots__ = ("count", "drains")

    def __init__(self) -> None:
        self.count = 0
        self.drains = False

    def told(self, *, drain: bool) -> None:
        """The run is told to stop. The first stop takes the place of a drain."""
        if not self.drains or drain:
            self.count += 1
        self.drains = drain and self.count == 1
