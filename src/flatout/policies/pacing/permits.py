"""Whose turn it is when several programs share a number of requests in flight.

A program whose request has just ended would always be the first to send another: the others hear of it a moment later.
So a free place goes first to waiting programs that hold fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

WAITS = 0.2
"""Seconds for which a program that found no room counts as waiting."""


class Member(NamedTuple):
    """A program.

    Attributes:
        held: its requests in flight.
        waits_until: until when it counts as waiting for room.
        went_at: when it sent its last request.
    """

    held: float
    waits_until: float
    went_at: float


class Members(Protocol):
    """The programs, each with its requests."""

    @property
    def waits_until(self) -> float:
        """Until when any program counts as waiting."""
        ...

    def own(self) -> Member:
        """This program."""
        ...

    def others(self) -> Sequence[Member]:
        """The other programs."""
        ...

    def waits(self, until: float, /) -> None:
        """This program waits."""
        ...


def fits(members: Members, free: float, now: float) -> bool:
    """Whether this program may take one of the free places. If not, it counts as waiting."""
    if free >= 1.0 and (members.waits_until <= now or free > _before(members, now)):
        return True
    members.waits(now + WAITS)
    return False


def _before(members: Members, now: float) -> int:
    """How many waiting programs go before this one."""
    own = members.own()
    waiting = (each for each in members.others() if each.waits_until > now)
    return sum(each.held < own.held or (not own.held and each.went_at < own.went_at) for each in waiting)
