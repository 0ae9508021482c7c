"""What people changed while a run went: who, what and when, in words."""

from __future__ import annotations

from collections.abc import Sequence

from flatout.store.course import Happening

from .held import clock

LONGEST = 200
"""Most characters of a change."""


def changes(happenings: Sequence[Happening], now: float, most: int) -> list[str]:
    """The latest changes, the last one first: ``14:02:05 ada: rpm 6,000``.

    Args:
        happenings: what happened, in order of time.
        now: Unix time.
        most: how many.
    """
    found = [each for each in reversed(happenings) if each.kind == "change"]
    return [_words(each, now) for each in found[:most]]


def _words(each: Happening, now: float) -> str:
    who = each.by or "the program"
    what = each.what if each.target is None else f"{each.what} for {each.target}"
    return f"{clock(each.at, now)} {who}: {what}"[:LONGEST]
