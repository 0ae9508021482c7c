"""Tell the user something only once, however often it comes up."""

from __future__ import annotations

from collections.abc import Hashable

MOST = 1_024
"""The most things that are remembered. After that, each may be said once more."""


class Once:
    """Remembers what was said, to tell whether something comes up for the first time."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: set[Hashable] = set()

    def __call__(self, *what: Hashable) -> bool:
        """Whether this comes up for the first time."""
        if what in self._said:
            return False
        if len(self._said) >= MOST:
            self._said.clear()
        self._said.add(what)
        return True

    def forget(self) -> None:
        """Start over."""
        self._said.clear()
