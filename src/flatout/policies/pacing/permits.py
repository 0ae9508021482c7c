"""How many requests several programs have in flight together, and whose turn the next one is.

A program whose request has ended would always be the first to send another: the others hear of it a moment later. So
what is free goes to those that wait and hold fewer, and only then to who comes first.
"""

from __future__ import annotations

from .sharing import Members

WAITS = 0.2
"""Seconds for which a program that found no room is thought to wait for some."""


def fits(members: Members, free: float, now: float) -> bool:
    """Whether this program may send another request, where so many more may be in flight; else it waits."""
    if free >= 1.0 and (members.waits_until <= now or free > _before(members, now)):
        return True
    members.waits(now + WAITS)
    return False


def _before(members: Members, now: float) -> int:
    """How many others wait whose turn comes before this program's."""
    own = members.own()
    waiting = (each for each in members.others() if each.waits_until > now)
    return sum(each.held < own.held or (not own.held and each.went_at < own.went_at) for each in waiting)
