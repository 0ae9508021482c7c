"""Tells from refusals whether the known limits can be relied on.

A refusal now and then concerns its own call alone (`strays`). But refusals that come again and again mean that the
limits are wrong, or that others use them too. Then the pacer searches for a rate below them.
"""

from __future__ import annotations

from collections.abc import Mapping

from .axis import Axis
from .strays import Tolerance

OVERRULED = 3
"""Pauses in quick succession after which the known limits count as wrong."""

SOON_AGAIN = 100
"""Most answers from one such pause to the next."""

UNUSED = 0.7
"""A limit of which less than this share was used was not used up."""

LEAST_SHARE = 1.0 / 32.0
"""The least share of the known limits at which a search below them begins."""

MOST_SHARE = 0.5
"""The largest such share."""


class Reliance:
    """Counts answers and refusals of what the known limits allow.

    Args:
        tolerance: bears some refusals; None where every refusal concerns all calls.
        axes: the limits that are known.
        now: the present.
    """

    __slots__ = (
        "_answers",
        "_answers_at_pause",
        "_answers_before",
        "_noted_at",
        "_overruled",
        "_refusals",
        "_taken",
        "_tolerance",
        "_unused",
    )

    def __init__(self, tolerance: Tolerance | None, axes: Mapping[str, Axis], now: float) -> None:
        self._tolerance = tolerance
        self._answers = 0
        self._overruled = 0  # pauses, each soon after the one before
        self._answers_at_pause = 0  # answers by the last of them
        self._answers_before = 0  # answers by the first of them
        self._refusals = 0  # since the first of them
        self._unused = 0  # pauses in a row before which the limits were not used up
        self._noted_at, self._taken = now, _taken(axes)  # the last of them, and what was taken of each axis by then

    @property
    def others_use_them(self) -> bool:
        """Whether the provider refuses again and again although the limits were not used up."""
        return self._unused >= OVERRULED

    @property
    def share(self) -> float:
        """The share of what the limits allow that the provider accepts: others may use most of them."""
        answers = self._answers - self._answers_before
        return max(LEAST_SHARE, min(MOST_SHARE, answers / (answers + self._refusals)))

    def answered(self) -> None:
        """A call was answered."""
        self._answers += 1
        if self._tolerance is not None:
            self._tolerance.answered()

    def alone(self, retry_after: float | None) -> float | None:
        """A call was refused. Returns the seconds that it waits by itself; None when all calls have to wait."""
        return self._tolerance.alone(retry_after) if self._tolerance is not None else None

    def refused(self, *, news: bool) -> bool:
        """A refusal makes all calls wait. Returns whether the limits count as wrong.

        Args:
            news: whether the call was sent after the last pause began; else that pause has answered its refusal.
        """
        if news:
            again = self._answers - self._answers_at_pause <= SOON_AGAIN
            self._overruled = self._overruled + 1 if again else 1
            self._answers_at_pause = self._answers
            if not again:
                self._refusals, self._answers_before = 0, self._answers
        self._refusals += 1
        return self._overruled >= OVERRULED

    def note_use(self, axes: Mapping[str, Axis], now: float) -> None:
        """A refusal makes all calls wait, and is news. Note whether the limits were used up since the last one."""
        if now <= self._noted_at:
            return
        seconds = now - self._noted_at
        spare = (axis.taken - self._taken.get(name, 0.0) < UNUSED * axis.per(seconds) for name, axis in axes.items())
        self._unused = self._unused + 1 if axes and all(spare) else 0
        self._noted_at, self._taken = now, _taken(axes)


def _taken(axes: Mapping[str, Axis]) -> dict[str, float]:
    """What was taken of each axis so far."""
    return {name: axis.taken for name, axis in axes.items()}
