"""Saying something to the user once, however often it comes up."""

from __future__ import annotations

from collections.abc import Hashable

MOST = 1_024
"""Different things that are remembered. After these, each may be said once more."""


class Once:
    """Tells whether something is said for the first time."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: set[Hashable] = set()

    def __call__(self, *what: Hashable) -> bool:
        """Whether this has not been asked about before."""
        if what in self._said:
            return False
        if len(self._said) >= MOST:
            self._said.clear()
        self._said.add(what)
        return True

    def forget(self) -> None:
        """Begin anew."""
        self._said.clear()
