"""The first call to a target goes alone, and so does the first after a pause.

A wrong key then costs one refusal, and not a storm of them.
"""

from __future__ import annotations

import math

ALONE = 0.25
"""Seconds for which the first call goes alone, unless it is answered before."""


class Probe:
    """Holds the other calls while the first is on its way.

    Args:
        on: whether the next call is a first one.

    Attributes:
        on: whether the next call is a first one, or that call is still on its way.
        until: when the others may go at the latest; `-inf` before the first call goes.
    """

    __slots__ = ("on", "until")

    def __init__(self, *, on: bool) -> None:
        self.on = on
        self.until = -math.inf

    def begin(self) -> None:
        """The next call goes alone."""
        self.on, self.until = True, -math.inf

    def sent(self, now: float) -> None:
        """A call goes."""
        if self.on and self.until == -math.inf:
            self.until = now + ALONE

    def end(self) -> None:
        """A call was answered: the others may follow."""
        self.on = False
